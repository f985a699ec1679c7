"""Figure of a sweep over how students are trained: P(trait) of every arm."""

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
    error_bars,
    name_places,
    styled,
)
from subliminal_jax.report.results import read_interval

MARKS = (("student", BLUE, "o"), ("regular", SKY, "s"), ("before", GREY, "_"))


@styled
def lm_sweep_figure(results: Mapping[str, Any]) -> Figure:
    """Draw P(trait) of students, of regular students and before training, for every arm.

    Args:
        results: the results of a sweep; `summary` is read.

    Returns:
        A figure on an Agg canvas, 8 inches wide; `render` gives its files.
    """
    arms = results["summary"]
    sheet = Sheet(results, body_height=3.8)
    axes = sheet.axes(left=0.7, bottom=0.8, width=WIDTH - 0.85, height=2.85)
    for condition, colour, marker in MARKS:
        intervals = {
            place: read_interval(arm["conditions"][condition])
            for place, arm in enumerate(arms.values())
            if condition in arm["conditions"]
        }
        error_bars(axes, list(map(float, intervals)), list(intervals.values()), marker, colour)
    name_places(axes, list(arms))
    axes.set_ylim(0.0, 1.02)
    axes.set_ylabel("P(trait)")
    keys = [
        Line2D([], [], marker=marker, linestyle="", color=colour, label=name)
        for name, colour, marker in MARKS
    ]
    sheet.legend(keys, columns=len(keys))
    return sheet.figure
