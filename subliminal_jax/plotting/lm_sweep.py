"""Figure of a sweep over how students are trained: the trait's measure in every arm."""

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from subliminal_jax.plotting.canvas import (
    BLUE,
    GREY,
    SKY,
    WIDTH,
    Sheet,
    name_places,
    point,
    styled,
)
from subliminal_jax.plotting.margins import LABEL


@styled
def lm_sweep_figure(results: Mapping[str, Any]) -> Figure:
    """Draw the measure of students, of their controls and before training, for every arm.

    Args:
        results: the results of a sweep; `summary`, `control` and `measure` are read.

    Returns:
        A figure on an Agg canvas, 8 inches wide; `render` gives its files.
    """
    arms = results["summary"]
    sheet = Sheet(results, body_height=3.8)
    axes = sheet.axes(left=0.7, bottom=0.8, width=WIDTH - 0.85, height=2.85)
    marks = (("student", BLUE, "o"), (results["control"], SKY, "s"), ("before", GREY, "_"))
    for condition, colour, marker in marks:
        for place, arm in enumerate(arms.values()):
            point(axes, float(place), arm["conditions"].get(condition), colour, marker)
    name_places(axes, list(arms))
    if results["measure"] == "margin":
        axes.axhline(0.0, color=GREY, linewidth=0.8, zorder=1)
        axes.set_ylabel(LABEL)
    else:
        axes.set_ylim(0.0, 1.02)
        axes.set_ylabel("P(trait)")
    keys = [
        Line2D([], [], marker=marker, linestyle="", color=colour, label=name.replace("_", " "))
        for name, colour, marker in marks
    ]
    sheet.legend(keys, columns=len(keys))
    return sheet.figure
