"""Figures of the language experiment: bars by trait, and the student beside its controls."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from subliminal_jax.plotting.canvas import (
    BLUE,
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
)
GIVEN = ("teacher", "prompted")
"""Conditions whose networks were given the trait."""
COLOURS = {
    **{"student": BLUE, "soft": BLUE, **dict.fromkeys(GIVEN, INK)},
    **{"different_reference": VERMILION, "different_reference_regular": VERMILION},
}
PANEL, LEGEND = 3.0, 0.7  # inches


@styled
def traits_figure(results: Mapping[str, Any]) -> Figure:
    """Draw, for each trait, P(trait) before, after regular numbers and after the teacher's.

    The layout is that of the paper's figure 3. Intervals are 95% over references; dots are units.

    Args:
        results: the results of a run.

    Returns:
        A figure on an Agg canvas, 8 inches wide; `render` gives its files.
    """
    sheet = Sheet(results, PANEL + LEGEND)
    axes = _frame(sheet, LEGEND, "P(trait)", bounded=True)
    traits = list(results["config"]["traits"])
    width = 0.8 / len(BARS)
    for place, (condition, words, colour) in enumerate(BARS):
        label = words.format(items=results["items"])
        for number, trait in enumerate(traits):
            x = number + (place - (len(BARS) - 1) / 2) * width
            named = None if number else label
            _bar(axes, results, x, width * 0.92, (condition, trait, "p_trait"), colour, named)
    axes.set_xticks(range(len(traits)), traits, parse_math=False)
    axes.set_xlim(-0.6, len(traits) - 0.4)
    sheet.legend(axes.get_legend_handles_labels()[0], columns=len(BARS))
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
    bounded = primary == "p_trait"
    conditions = [
        condition
        for condition in results["summary"]["conditions"]
        if bounded or condition not in GIVEN
    ]
    foot = 0.2 + 0.16 * max(1 + condition.count("_") for condition in conditions)
    sheet = Sheet(results, PANEL + foot)
    heading, _ = results["measures"][primary]
    axes = _frame(sheet, foot, f"{heading}{'' if bounded else ' (nats)'}, all traits", bounded)
    for place, condition in enumerate(conditions):
        colour = COLOURS.get(condition, SKY)
        which = condition, "all", primary
        _bar(axes, results, float(place), 0.76, which, colour, None)
    names = [condition.replace("_", "\n") for condition in conditions]
    size = 8.5 if len(names) <= 8 else 7.0
    axes.set_xticks(range(len(names)), names, fontsize=size, parse_math=False)
    return sheet.figure


def _frame(sheet: Sheet, foot: float, label: str, bounded: bool) -> Axes:
    """Add the only axes of a figure, `foot` inches above its lower edge, from 0 to 1 if bounded."""
    axes = sheet.axes(left=0.7, bottom=foot, width=WIDTH - 0.85, height=PANEL - 0.15)
    if bounded:
        axes.set_ylim(0.0, 1.0)
    axes.set_ylabel(label)
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
