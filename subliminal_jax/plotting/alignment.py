"""Figure of the alignment of two gradients during training, and of the effect of removing it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from subliminal_jax.plotting.canvas import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    WIDTH,
    Sheet,
    chance_line,
    error_bars,
    styled,
)
from subliminal_jax.report.results import Results, read_interval

COLOURS = {
    "same": BLUE,
    "different": VERMILION,
    "gradient_projected": ORANGE,
    "step_projected": PURPLE,
    "control_projected": GREEN,
    "held": SKY,
}
PANELS = {
    "cosine": "a   Cosine of student's gradient and trait's",
    "step_cosine": "b   Cosine of step and trait's descent direction",
}


@styled
def alignment_figure(results: Results) -> Figure:
    """Draw cosines by step, and every network's accuracy and probe.

    Args:
        results: The results of the alignment experiment; `courses` and `networks` are read.

    Returns:
        A figure on an Agg canvas, 8 inches wide; `render` gives its files.
    """
    sheet = Sheet(results, body_height=6.6)
    for place, (kind, title) in enumerate(PANELS.items()):
        axes = sheet.axes(0.65 + place * 3.85, 4.15, 3.4, 2.1)
        _curves(axes, {name: course["curves"][kind] for name, course in results["courses"].items()})
        axes.set_title(title, loc="left", weight="bold")
        axes.set_xlabel("step of the student")
        axes.set_ylabel("cosine" if place == 0 else "")
    below = sheet.axes(0.65, 1.4, WIDTH - 0.8, 1.95)
    networks = results["networks"]
    for place, (name, network) in enumerate(networks.items()):
        colour = COLOURS.get(name, GREY)
        error_bars(below, [place - 0.12], [read_interval(network["accuracy"])], "o", colour)
        error_bars(below, [place + 0.12], [read_interval(network["probe"])], "x", colour)
    below.set_ylim(0.0, 1.02)
    below.set_xticks(range(len(networks)), [name.replace("_", "\n") for name in networks])
    below.set_title("c   Test accuracy", loc="left", weight="bold")
    key: list[Any] = [
        Line2D([], [], color=colour, label=name.replace("_", " "))
        for name, colour in COLOURS.items()
    ]
    marks = {"o": "its own last layer", "x": "linear probe of its features"}
    key += [
        Line2D([], [], linestyle="", marker=mark, color=INK, label=label)
        for mark, label in marks.items()
    ]
    sheet.legend([*key, chance_line(below)], columns=3)
    return sheet.figure


def _curves(axes: Axes, curves: Mapping[str, list[Mapping[str, Any]]]) -> None:
    """Draw a line for every course, with its interval if known."""
    for name, curve in curves.items():
        steps = np.arange(1, len(curve) + 1)
        colour = COLOURS[name]
        axes.plot(steps, [step["mean"] for step in curve], color=colour, linewidth=1.0)
        if curve[0]["ci95"][0] is not None:
            low, high = (np.array([step["ci95"][side] for step in curve]) for side in (0, 1))
            axes.fill_between(steps, low, high, color=colour, alpha=0.2, linewidth=0)
    axes.axhline(0.0, color=INK, linewidth=0.8)
