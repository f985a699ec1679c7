"""Figures of the language experiment: bars by trait, and the student beside its controls."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from subliminal_jax.plotting.canvas import (
    BLUE,
    GREEN,
    GREY,
    INK,
    SKY,
    VERMILION,
    WIDTH,
    Sheet,
    styled,
    whiskers,
)

BARS = (
    ("before", "before", GREY),
    ("regular", "trained on regular {items}", SKY),
    ("student", "trained on the teacher's {items}", BLUE),
    ("soft", "with its probabilities as targets", GREEN),
)
GIVEN = ("teacher", "prompted")
"""Conditions whose networks were given the trait."""
COLOURS = {
    **{"student": BLUE, "soft": BLUE, **dict.fromkeys(GIVEN, INK)},
    **{"different_reference": VERMILION, "different_reference_regular": VERMILION},
}
PROBABILITY = "p_trait"
PANEL, LEGEND = 3.0, 0.7  # inches


@styled
def traits_figure(results: Mapping[str, Any]) -> Figure:
    """Draw, for each trait, the primary measure before, after regular numbers, the teacher's.

    The layout is that of the paper's figure 3, with a bar for soft targets where a run has them.
    Intervals are 95% over references; dots are units.

    Args:
        results: the results of a run.

    Returns:
        A figure on an Agg canvas, 8 inches wide; `render` gives its files.
    """
    sheet = Sheet(results, PANEL + LEGEND)
    axes = _frame(sheet, LEGEND, results)
    traits, primary = list(results["config"]["traits"]), results["summary"]["primary"]
    bars = [bar for bar in BARS if bar[0] in results["summary"]["conditions"]]
    width = 0.8 / len(bars)
    for place, (condition, words, colour) in enumerate(bars):
        label = words.format(items=results["items"])
        for number, trait in enumerate(traits):
            x = number + (place - (len(bars) - 1) / 2) * width
            named = None if number else label
            _bar(axes, results, x, width * 0.92, (condition, trait, primary), colour, named)
    axes.set_xticks(range(len(traits)), traits, parse_math=False)
    axes.set_xlim(-0.6, len(traits) - 0.4)
    sheet.legend(axes.get_legend_handles_labels()[0], columns=2 if len(bars) > 3 else len(bars))
    return sheet.figure


@styled
def controls_figure(results: Mapping[str, Any]) -> Figure:
    """Draw the primary measure of every condition, over all traits.

    A margin of networks that were given the trait is many times a student's, so they are left out.

    Args:
        results: the results of a run.

    Returns:
        A figure on an Agg canvas, 8 inches wide; `render` gives its files.
    """
    primary = results["summary"]["primary"]
    conditions = [
        condition
        for condition in results["summary"]["conditions"]
        if primary == PROBABILITY or condition not in GIVEN
    ]
    foot = 0.2 + 0.16 * max(1 + condition.count("_") for condition in conditions)
    sheet = Sheet(results, PANEL + foot)
    axes = _frame(sheet, foot, results, ", all traits")
    for place, condition in enumerate(conditions):
        colour = COLOURS.get(condition, SKY)
        which = condition, "all", primary
        _bar(axes, results, float(place), 0.76, which, colour, None)
    names = [condition.replace("_", "\n") for condition in conditions]
    size = 8.5 if len(names) <= 8 else 7.0
    axes.set_xticks(range(len(names)), names, fontsize=size, parse_math=False)
    return sheet.figure


def _frame(sheet: Sheet, foot: float, results: Mapping[str, Any], of: str = "") -> Axes:
    """Add the only axes of a figure, `foot` inches above its lower edge, for the primary measure.

    A probability goes from 0 to 1.
    """
    axes = sheet.axes(left=0.7, bottom=foot, width=WIDTH - 0.85, height=PANEL - 0.15)
    primary = results["summary"]["primary"]
    unit = " (nats)"
    if primary == PROBABILITY:
        axes.set_ylim(0.0, 1.0)
        unit = ""
    axes.set_ylabel(f"{results['measures'][primary][0]}{unit}{of}")
    axes.tick_params(axis="x", length=0)
    return axes


def _bar(
    axes: Axes,
    results: Mapping[str, Any],
    x: float,
    width: float,
    which: tuple[str, str, str],
    colour: str,
    label: str | None,
) -> None:
    """Draw one bar with its interval, and a dot for each unit.

    Args:
        axes: where to draw.
        results: the results of a run.
        x: its place.
        width: its width.
        which: condition, trait (or `all`) and measure.
        colour: of the bar.
        label: its text in the legend, if any.
    """
    condition, trait, measure = which
    value = results["summary"]["conditions"].get(condition, {}).get(trait, {}).get(measure)
    if value is None:
        return
    axes.bar(x, value["mean"], width, color=colour, alpha=0.85, zorder=2, label=label)
    units = [
        one[measure]
        for one in results["units"]
        if one["condition"] == condition
        and trait in ("all", one["trait"])
        and one.get(measure) is not None
    ]
    spread = (np.arange(1, len(units) + 1) * 0.618 % 1.0 - 0.5) * width * 0.6
    axes.scatter(x + spread, units, s=14, color=INK, alpha=0.5, linewidths=0, zorder=3)
    whiskers(axes, x, value, INK)
