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
COLOURS = {
    **{"student": BLUE, "soft": BLUE, "teacher": INK, "prompted": INK},
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
    axes = _frame(sheet, LEGEND, "P(trait)")
    traits = list(results["config"]["traits"])
    width = 0.8 / len(BARS)
    for place, (condition, words, colour) in enumerate(BARS):
        label = words.format(items=results["items"])
        for number, trait in enumerate(traits):
            x = number + (place - (len(BARS) - 1) / 2) * width
            _bar(axes, results, x, width * 0.92, (condition, trait, colour), label, number == 0)
    axes.set_xticks(range(len(traits)), traits, parse_math=False)
    axes.set_xlim(-0.6, len(traits) - 0.4)
    sheet.legend(axes.get_legend_handles_labels()[0], columns=len(BARS))
    return sheet.figure


@styled
def controls_figure(results: Mapping[str, Any]) -> Figure:
    """Draw P(trait) of every condition, over all traits.

    Args:
        results: the results of a run.

    Returns:
        A figure on an Agg canvas, 8 inches wide; `render` gives its files.
    """
    conditions = list(results["summary"]["conditions"])
    foot = 0.2 + 0.16 * max(1 + condition.count("_") for condition in conditions)
    sheet = Sheet(results, PANEL + foot)
    axes = _frame(sheet, foot, "P(trait), all traits")
    for place, condition in enumerate(conditions):
        colour = COLOURS.get(condition, SKY)
        _bar(axes, results, float(place), 0.76, (condition, "all", colour), None, False)
    names = [condition.replace("_", "\n") for condition in conditions]
    size = 8.5 if len(names) <= 8 else 7.0
    axes.set_xticks(range(len(names)), names, fontsize=size, parse_math=False)
    return sheet.figure


def _frame(sheet: Sheet, foot: float, label: str) -> Axes:
    """Add the only axes of a figure, `foot` inches above its lower edge; for probabilities."""
    axes = sheet.axes(left=0.7, bottom=foot, width=WIDTH - 0.85, height=PANEL - 0.15)
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
    label: str | None,
    first: bool,
) -> None:
    """Draw one bar with its interval, and a dot for each unit."""
    condition, trait, colour = which
    rate = results["summary"]["conditions"].get(condition, {}).get(trait, {}).get("p_trait")
    if rate is None:
        return
    axes.bar(
        x, rate["mean"], width, color=colour, alpha=0.85, zorder=2, label=label if first else None
    )
    units = [
        one["p_trait"]
        for one in results["units"]
        if one["condition"] == condition and trait in ("all", one["trait"])
    ]
    spread = (np.arange(1, len(units) + 1) * 0.618 % 1.0 - 0.5) * width * 0.6
    axes.scatter(x + spread, units, s=14, color=INK, alpha=0.5, linewidths=0, zorder=3)
    whiskers(axes, x, rate, INK)
