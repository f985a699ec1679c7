"""Bar chart of the MNIST experiment: the test accuracy of every arm."""

import math
import textwrap
from typing import Any

import numpy as np
from jaxtyping import Float64
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from subliminal_jax.plotting.canvas import (
    BLUE,
    GUESSING,
    INK,
    ORANGE,
    SKY,
    VERMILION,
    WIDTH,
    Sheet,
    chance_line,
    error_bars,
    interval_key,
    styled,
)
from subliminal_jax.report.results import ArmResult, Results, read_arms

# Hue is the initialisation (blue: the teacher's own, red: another's), depth the logits distilled.
COLOURS = {
    "teacher": "#808080",
    "student_aux": BLUE,
    "student_all": SKY,
    "cross_model_aux": VERMILION,
    "cross_model_all": ORANGE,
}
PALE = "#BDBDBD"  # the untrained reference, and any arm without a colour
BAR_WIDTH = 0.76
LABEL_GAP = 0.025
TOP = 1.09  # above 1.0 there is room for the label of a perfect arm


@styled
def bar_figure(results: Results) -> Figure:
    """Draw one bar per arm with its 95% interval, its members and the published mean.

    For the six arms of the paper; `relation_figure` draws the many arms of `mnist_init`.

    Args:
        results: The results of a run; arms appear in their order, the reference first.

    Returns:
        A figure on an Agg canvas, 8 inches wide; `render` gives its files.

    Raises:
        InputError: The results hold no arms, or an arm's values do not match its `n`.
    """
    arms = read_arms(results)
    sheet = Sheet(results, body_height=4.6)
    axes = sheet.axes(left=0.75, bottom=1.15, width=WIDTH - 0.9, height=3.35)
    reference = arms[0].accuracy.mean
    for position, arm in enumerate(arms):
        _draw_arm(axes, float(position), arm)
        _label_value(axes, float(position), arm, floor=max(GUESSING, reference))
    lines = [_reference_line(axes, reference), chance_line(axes)]
    names = [_tick_label(arm.label) for arm in arms]
    axes.set_xticks(range(len(arms)), names, parse_math=False)
    axes.tick_params(axis="x", length=0)
    axes.set_xlim(-0.6, len(arms) - 0.4)
    axes.set_ylim(0.0, TOP)
    axes.set_yticks([0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
    axes.spines["left"].set_bounds(0.0, 1.0)
    axes.set_ylabel("test accuracy")
    sheet.legend(_key(arms, lines), columns=3)
    return sheet.figure


def _tick_label(label: str) -> str:
    # A bracket starts a new line, so that both arms of a pair break alike.
    return "\n".join(textwrap.fill(part, 12) for part in label.replace(" (", "\n(").splitlines())


def _draw_arm(axes: Axes, position: float, arm: ArmResult) -> None:
    axes.bar(
        position,
        arm.accuracy.mean,
        BAR_WIDTH,
        color=COLOURS.get(arm.name, PALE),
        alpha=0.85,
        zorder=2,
    )
    axes.scatter(
        position + _spread(len(arm.values)),
        arm.values,
        s=10,
        color=INK,
        alpha=0.45 if len(arm.values) <= 20 else 0.18,
        linewidths=0,
        zorder=3,
    )
    error_bars(axes, [position], [arm.accuracy], "none", INK)
    if arm.published is not None:
        axes.plot(position + 0.3, arm.published, **_published_marker())


def _label_value(axes: Axes, position: float, arm: ArmResult, floor: float) -> None:
    """Write the mean above everything drawn in its column, the two lines included."""
    drawn = [floor, *arm.values, arm.accuracy.mean]
    if arm.accuracy.known:
        drawn.append(min(1.0, arm.accuracy.high))
    if arm.published is not None:
        drawn.append(arm.published)
    axes.text(
        position,
        max(drawn) + LABEL_GAP,
        f"{arm.accuracy.mean:.3f}",
        ha="center",
        va="bottom",
        weight="bold",
        zorder=5,
    )


def _reference_line(axes: Axes, mean: float) -> Line2D:
    return axes.axhline(
        mean, color=INK, linestyle=":", linewidth=1.2, zorder=3.5, label="mean of the reference"
    )


def _key(arms: list[ArmResult], lines: list[Line2D]) -> list[Any]:
    member = Line2D([], [], linestyle="", marker="o", markersize=3.5, color=INK, alpha=0.6)
    member.set_label("one member")
    key = [interval_key(arms), member, *lines]
    if any(arm.published is not None for arm in arms):
        key.append(Line2D([], [], label="mean in the paper", **_published_marker()))
    return key


def _published_marker() -> dict[str, Any]:
    return {
        "linestyle": "",
        "marker": "D",
        "markersize": 5.0,
        "markerfacecolor": "white",
        "markeredgecolor": INK,
        "zorder": 5,
    }


def _spread(n: int) -> Float64[np.ndarray, " n"]:
    """Return horizontal offsets of n members: even and the same in every run, unlike jitter."""
    golden = (math.sqrt(5.0) - 1.0) / 2.0
    return 0.62 * BAR_WIDTH * (np.arange(1, n + 1) * golden % 1.0 - 0.5)
