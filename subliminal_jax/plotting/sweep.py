"""Figure of a sweep: the students of every cell, along its axes."""

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
    chance_line,
    error_bars,
    styled,
)
from subliminal_jax.report.results import Results, read_interval

COLOURS = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION)


@styled
def sweep_figure(results: Results) -> Figure:
    """Draw accuracy along the first axis, with a line for every setting of the others.

    Args:
        results: The results of a sweep; `cells` and `student` are read.

    Returns:
        A figure on an Agg canvas, 8 inches wide; `render` gives its files.
    """
    cells, student = results["cells"], results["student"]
    axis = next(iter(cells[0]["changes"]), None)
    together = axis is not None and all(
        list(c["changes"]) == list(cells[0]["changes"]) for c in cells
    )
    sheet = Sheet(results, body_height=4.9)
    axes = sheet.axes(left=0.75, bottom=1.35, width=WIDTH - 0.9, height=3.4)
    at, label = _places(axes, cells, axis if together else None)
    lines = _lines(cells, axis if together else None)
    handles = []
    for colour, (name, members) in zip(_cycle(len(lines)), lines.items(), strict=True):
        means = [read_interval(cell["arms"][student]) for cell in members]
        x = [at[cell["name"]] for cell in members]
        error_bars(axes, x, means, "o-" if label else "o", colour)
        handles.append(Line2D([], [], marker="o", color=colour, label=name or student))
    handles += _others(axes, cells, at, student)
    axes.set_ylim(0.0, 1.02)
    axes.set_xlabel(label)
    axes.set_ylabel("test accuracy")
    sheet.legend([*handles, chance_line(axes)], columns=3)
    return sheet.figure


def _places(
    axes: Axes, cells: Sequence[Mapping[str, Any]], axis: str | None
) -> tuple[dict[str, float], str]:
    """Return x of each cell (its value on a numeric axis, else its index), and the axis label."""
    values = [cell["changes"].get(axis) for cell in cells] if axis else []
    if values and all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        if min(values) > 0 and max(values) >= 8 * min(values):
            axes.set_xscale("log")
        axes.set_xticks(sorted(set(values)), [f"{value:g}" for value in sorted(set(values))])
        axes.minorticks_off()
        return {cell["name"]: float(cell["changes"][axis]) for cell in cells}, str(axis)
    names = [cell["name"] for cell in cells]
    texts = [name.replace(" ", "\n") for name in names]
    axes.set_xticks(range(len(names)), texts, rotation=45 if len(names) > 8 else 0, fontsize=7.5)
    return {name: float(place) for place, name in enumerate(names)}, ""


def _lines(
    cells: Sequence[Mapping[str, Any]], axis: str | None
) -> dict[str, list[Mapping[str, Any]]]:
    lines: dict[str, list[Mapping[str, Any]]] = {}
    for cell in cells:
        rest = {k: v for k, v in cell["changes"].items() if k != axis} if axis else {}
        lines.setdefault(" ".join(f"{k}={v}" for k, v in rest.items()), []).append(cell)
    return lines


def _cycle(count: int) -> list[str]:
    return [COLOURS[place % len(COLOURS)] for place in range(count)]


def _others(
    axes: Axes, cells: Sequence[Mapping[str, Any]], at: Mapping[str, float], student: str
) -> list[Line2D]:
    """Draw teachers, controls and published values; return their legend entries."""
    styles = {"teacher": ("_", GREY), "cross_model_aux": ("x", INK)}
    keys = []
    for arm, (marker, colour) in styles.items():
        having = [cell for cell in cells if arm in cell["arms"] and arm != student]
        if having:
            means = [read_interval(cell["arms"][arm]) for cell in having]
            error_bars(axes, [at[cell["name"]] for cell in having], means, marker, colour)
            keys.append(Line2D([], [], linestyle="", marker=marker, color=colour, label=arm))
    published = [
        (at[cell["name"]], cell["arms"][student]["published"]["mean"])
        for cell in cells
        if cell["arms"][student]["published"]
    ]
    if published:
        mark: dict[str, Any] = {"marker": "D", "markerfacecolor": "white", "linestyle": ""}
        axes.plot(*zip(*published, strict=True), color=INK, zorder=5, markersize=5.5, **mark)
        keys.append(Line2D([], [], color=INK, label="published", **mark))
    return keys
