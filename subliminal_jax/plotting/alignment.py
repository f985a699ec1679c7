"""The alignment of two gradients along a student's training, and what its removal does."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from subliminal_jax.plotting.canvas import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    SKY,
    VERMILION,
    WIDTH,
    Sheet,
    chance_line,
    error_bars,
    styled,
)
from subliminal_jax.results import Results
from subliminal_jax.stats import Interval

COLOURS = {
    "same": BLUE,
    "different": VERMILION,
    "same_projected": ORANGE,
    "same_projected_control": GREEN,
    "same_held": SKY,
}


@styled
def alignment_figure(results: Results) -> Figure:
    """Draw the cosine of trait and distillation gradient by step, and every arm's accuracy.

    Args:
        results: The results of the alignment experiment; `cosine` and `networks` are read.

    Returns:
        A figure on an Agg canvas, 8 inches wide; `render` gives its files.
    """
    sheet = Sheet(results, body_height=4.1)
    left = sheet.axes(0.75, 1.2, 3.9, 2.6)
    for arm, found in results["cosine"].items():
        curve = found["curve"]
        steps = np.arange(1, len(curve) + 1)
        left.plot(steps, [step["mean"] for step in curve], color=COLOURS[arm], linewidth=1.0)
        if curve[0]["ci95"][0] is not None:
            low, high = (np.array([step["ci95"][side] for step in curve]) for side in (0, 1))
            left.fill_between(steps, low, high, color=COLOURS[arm], alpha=0.2, linewidth=0)
    left.axhline(0.0, color=INK, linewidth=0.8)
    left.set_title("a   Trait against distillation gradient", loc="left", weight="bold")
    left.set_xlabel("step of the student")
    left.set_ylabel("cosine")
    right = sheet.axes(WIDTH - 2.65, 1.2, 2.5, 2.6)
    networks = results["networks"]
    for place, (name, found) in enumerate(networks.items()):
        colour = COLOURS.get(name, GREY)
        error_bars(right, [float(place)], [_interval(found["accuracy"])], "o", colour)
        error_bars(right, [float(place)], [_interval(found["probe"])], "x", colour)
    right.set_ylim(0.0, 1.02)
    right.set_xticks(range(len(networks)), [n.replace("same_", "") for n in networks], rotation=60)
    right.set_title("b   Test accuracy", loc="left", weight="bold")
    key: list[Any] = [Line2D([], [], color=c, label=arm) for arm, c in COLOURS.items()]
    key.append(Line2D([], [], linestyle="", marker="x", color=INK, label="linear probe"))
    sheet.legend([*key, chance_line(right)], columns=4)
    return sheet.figure


def _interval(arm: dict[str, Any]) -> Interval:
    low, high = (float("nan") if bound is None else bound for bound in arm["ci95"])
    return Interval(arm["mean"], low, high, arm["n"])
