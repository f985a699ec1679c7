"""Figure of the detection experiment: each detector's value by the number of rows it judges."""

from collections.abc import Mapping
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
    point,
    styled,
)

LOOKS = {
    "in_context": ("in context", BLUE, "o"),
    "prompted": ("asked which", SKY, "s"),
    "pairs": ("asked which of two", GREEN, "^"),
    "likelihood": ("told the trait", PURPLE, "D"),
    "ngrams_transfer": ("n-grams, other traits", ORANGE, "v"),
    "ngrams": ("n-grams, same teacher (upper bound)", VERMILION, "P"),
}
"""Label, colour and marker of each detector."""
PANELS = {
    "reference": "told from the reference's {items}",
    "other": "told from another trait's teacher",
}
HEIGHT, FOOT = 3.1, 1.25  # inches
NUDGE = 0.035  # between detectors, as a share of the number of rows


@styled
def detection_figure(results: Mapping[str, Any]) -> Figure:
    """Draw AUC or accuracy of every detector by rows, with 95% intervals over references.

    A ring is the positive control of a detector: the same sets with one row that says the trait.

    Args:
        results: the results of a run.

    Returns:
        A figure on an Agg canvas, 8 inches wide; `render` gives its files.
    """
    panels = [one for one in PANELS if any(e["against"] == one for e in results["summary"])]
    sheet = Sheet(results, HEIGHT + FOOT)
    width = (WIDTH - 0.95) / len(panels)
    drawn = dict.fromkeys(one["detector"] for one in results["summary"])
    for place, panel in enumerate(panels):
        axes = sheet.axes(0.75 + place * width, FOOT, width - 0.2, HEIGHT - 0.3)
        axes.set_title(PANELS[panel].format(items=results["items"]), parse_math=False)
        _panel(axes, results, panel, list(drawn))
        if place == 0:
            axes.set_ylabel("AUC or accuracy")
        else:
            axes.set_yticklabels([])
    keys = [
        Line2D([], [], color=colour, marker=marker, markersize=5, label=label)
        for label, colour, marker in (LOOKS[name] for name in drawn)
    ]
    ring: dict[str, Any] = {"marker": "o", "markerfacecolor": "white", "linestyle": ""}
    label = "control: one row says the trait"
    keys.append(Line2D([], [], **ring, color=INK, markersize=6, label=label))
    keys.append(Line2D([], [], color=GREY, linestyle=(0, (6, 3)), label="chance (.5)"))
    sheet.legend(keys, columns=3)
    return sheet.figure


def _panel(axes: Axes, results: Mapping[str, Any], panel: str, names: list[str]) -> None:
    """Draw one contrast."""
    axes.axhline(0.5, color=GREY, linestyle=(0, (6, 3)), linewidth=1.0, zorder=1)
    for number, name in enumerate(names):
        entries = [
            one for one in results["summary"] if (one["detector"], one["against"]) == (name, panel)
        ]
        _, colour, marker = LOOKS[name]
        shift = 1.0 + NUDGE * (number - (len(names) - 1) / 2)
        x = [one["rows"] * shift for one in entries]
        axes.plot(x, [one["value"]["mean"] for one in entries], "-", color=colour, zorder=2)
        for at, one in zip(x, entries, strict=True):
            _point(axes, at, one, colour, marker)
    rows = sorted({one["rows"] for one in results["summary"]})
    ticks = sorted({int(one["size"]) for one in results["summary"] if one["size"].isdigit()})
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, [str(row) for row in ticks])
    axes.minorticks_off()
    axes.set_xlim(0.8 * rows[0], 1.25 * rows[-1])
    axes.set_ylim(0.0, 1.03)
    axes.set_xlabel("rows judged together")


def _point(axes: Axes, x: float, entry: Mapping[str, Any], colour: str, marker: str) -> None:
    """Draw a mean with its interval, and the positive control as a ring."""
    point(axes, x, entry["value"], colour, marker)
    if entry["open"] is not None:
        axes.plot(
            x, entry["open"]["mean"], "o", markersize=7, markerfacecolor="none",
            markeredgecolor=colour, zorder=3,
        )  # fmt: skip
