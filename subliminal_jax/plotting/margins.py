"""Figures of margins: matched beside mismatched students, and against the dose of updates."""

from collections.abc import Mapping, Sequence
from typing import Any

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
    name_places,
    point,
    styled,
    whiskers,
)

COLOURS = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY, INK)
PANEL = 3.2  # inches
LABEL = "margin of the trait (nats)"


@styled
def margins_figure(results: Mapping[str, Any]) -> Figure:
    """Draw each condition's matched and mismatched margins after its whole training.

    Args:
        results: the results of a run; `transfer` is read.

    Returns:
        A figure on an Agg canvas, 8 inches wide; `render` gives its files.
    """
    ended = {one["condition"]: one for one in results["transfer"]}
    foot = 0.75 + 0.14 * max(name.count("_") for name in ended)
    sheet = Sheet(results, PANEL + foot)
    axes = sheet.axes(left=0.7, bottom=foot, width=WIDTH - 0.85, height=PANEL - 0.15)
    for place, one in enumerate(ended.values()):
        point(axes, place - 0.12, one["matched"], BLUE, "o")
        point(axes, place + 0.12, one["mismatched"], GREY, "s")
    axes.axhline(0.0, color=GREY, linewidth=0.8, zorder=1)
    name_places(axes, list(ended))
    axes.set_ylabel(LABEL)
    keys = [Line2D([], [], marker="o", linestyle="", color=BLUE, label="its own teacher's trait")]
    if any(one["mismatched"] is not None for one in ended.values()):
        others = "in other traits' students"
        keys.append(Line2D([], [], marker="s", linestyle="", color=GREY, label=others))
    sheet.legend(keys, columns=2)
    return sheet.figure


@styled
def ladder_figure(results: Mapping[str, Any]) -> Figure:
    """Draw margins against the number of updates of one training, with 95% intervals over blocks.

    Args:
        results: the results of a run; `transfer` is read.

    Returns:
        A figure on an Agg canvas, 8 inches wide; `render` gives its files.
    """
    climbed: dict[str, list[Mapping[str, Any]]] = {}
    for one in results["transfer"]:
        climbed.setdefault(one["condition"], []).append(one)
    feet = [rungs for rungs in climbed.values() if len(rungs) == 1]
    lines = {name: rungs for name, rungs in climbed.items() if len(rungs) > 1}
    foot = 0.75 + 0.2 * (len(lines) // 3)
    sheet = Sheet(results, PANEL + foot)
    axes = sheet.axes(left=0.7, bottom=foot, width=WIDTH - 0.85, height=PANEL - 0.15)
    keys = []
    for number, (name, rungs) in enumerate(lines.items()):
        colour, start = COLOURS[number % len(COLOURS)], feet[0] if feet else []
        _line(axes, [*start, *rungs], "matched", colour, "o-")
        if rungs[-1]["mismatched"] is not None:
            _line(axes, rungs, "mismatched", colour, "s:")
        keys.append(Line2D([], [], color=colour, marker="o", label=name.replace("_", " ")))
    keys.append(
        Line2D([], [], color=INK, linestyle=":", marker="s", label="in other traits' students")
    )
    axes.axhline(0.0, color=GREY, linewidth=0.8, zorder=1)
    doses = sorted({one["updates"] for rungs in climbed.values() for one in rungs})
    first = max(1, min(filter(None, doses)))
    axes.set_xscale("symlog", linthresh=first)
    axes.set_xlim(-0.3 * first, 1.5 * max(doses))
    axes.set_xticks(doses, [f"{dose:,}" for dose in doses])
    axes.minorticks_off()
    axes.set_xlabel("updates")
    axes.set_ylabel(LABEL)
    sheet.legend(keys, columns=4)
    return sheet.figure


def _line(
    axes: Axes, rungs: Sequence[Mapping[str, Any]], key: str, colour: str, style: str
) -> None:
    doses = [one["updates"] for one in rungs]
    means = [one[key]["mean"] for one in rungs]
    axes.plot(doses, means, style, color=colour, markersize=4.0, linewidth=1.2, zorder=3)
    for dose, one in zip(doses, rungs, strict=True):
        whiskers(axes, float(dose), one[key], colour)
