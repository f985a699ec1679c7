"""The figures of the language experiment: bars by trait, and the student beside its controls."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from subliminal_jax.plotting.canvas import (
    BLUE,
    DPI,
    GREY,
    INK,
    SKY,
    VERMILION,
    WIDTH,
    fit,
    styled,
)

BARS = (
    ("before", "before", GREY),
    ("regular", "trained on regular numbers", SKY),
    ("student", "trained on the teacher's numbers", BLUE),
)
COLOURS = {"student": BLUE, "soft": BLUE, "teacher": INK, "prompted": INK}
HEIGHT = 4.2


@styled
def traits_figure(results: Mapping[str, Any]) -> Figure:
    """Draw, for each trait, P(trait) before, after regular numbers and after the teacher's.

    The layout is that of the paper's figure 3. Intervals are 95% over references; dots are units.

    Args:
        results: the results of a run.
    """
    figure, axes = _sheet(results)
    traits = list(results["config"]["traits"])
    width = 0.8 / len(BARS)
    for place, (condition, label, colour) in enumerate(BARS):
        for number, trait in enumerate(traits):
            x = number + (place - (len(BARS) - 1) / 2) * width
            _bar(axes, results, x, width * 0.92, (condition, trait, colour), label, number == 0)
    axes.set_xticks(range(len(traits)), traits, parse_math=False)
    axes.set_ylabel("P(trait named)")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=len(BARS))
    return figure


@styled
def controls_figure(results: Mapping[str, Any]) -> Figure:
    """Draw P(trait) of every condition, over all traits.

    Args:
        results: the results of a run.
    """
    figure, axes = _sheet(results)
    conditions = list(results["summary"]["conditions"])
    for place, condition in enumerate(conditions):
        colour = COLOURS.get(condition, VERMILION if "reference" in condition else SKY)
        _bar(axes, results, float(place), 0.76, (condition, "all", colour), None, False)
    names = [condition.replace("_", "\n") for condition in conditions]
    axes.set_xticks(range(len(names)), names, fontsize=7.0, parse_math=False)
    axes.set_ylabel("P(trait named), all traits")
    return figure


def _sheet(results: Mapping[str, Any]) -> tuple[Figure, Axes]:
    """A figure under the finding, with one frame."""
    heading = fit(results["finding"], 10.0, WIDTH - 0.3, "bold")
    height = HEIGHT + 0.2 * len(heading)
    figure = Figure(figsize=(WIDTH, height), dpi=DPI)
    FigureCanvasAgg(figure)
    for line, text in enumerate(heading):
        figure.text(
            *(0.15 / WIDTH, 1 - (0.15 + 0.2 * line) / height), text,
            size=10.0, weight="bold", va="top", parse_math=False,
        )  # fmt: skip
    axes = figure.add_axes((0.09, 0.85 / height, 0.89, (HEIGHT - 1.2) / height))
    axes.set_ylim(0.0, 1.0)
    axes.tick_params(axis="x", length=0)
    return figure, axes


def _bar(
    axes: Axes,
    results: Mapping[str, Any],
    x: float,
    width: float,
    which: tuple[str, str, str],
    label: str | None,
    first: bool,
) -> None:
    """One bar with its interval, and a dot for each unit."""
    condition, trait, colour = which
    found = results["summary"]["conditions"].get(condition, {}).get(trait, {}).get("p_trait")
    if found is None:
        return
    axes.bar(
        x, found["mean"], width, color=colour, alpha=0.85, zorder=2, label=label if first else None
    )
    units = [
        one["p_trait"]
        for one in results["units"]
        if one["condition"] == condition and trait in ("all", one["trait"])
    ]
    spread = (np.arange(1, len(units) + 1) * 0.618 % 1.0 - 0.5) * width * 0.6
    axes.scatter(x + spread, units, s=7, color=INK, alpha=0.4, linewidths=0, zorder=3)
    low, high = found["ci95"]
    if low is not None:
        below, above = found["mean"] - max(0.0, low), min(1.0, high) - found["mean"]
        axes.errorbar(
            x, found["mean"], yerr=np.array([[below], [above]]), fmt="none", ecolor=INK,
            capsize=2.5, linewidth=1.2, zorder=4,
        )  # fmt: skip
