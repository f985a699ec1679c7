"""Figure of a student's accuracy by the relation of its initialisation to the teacher's."""

from itertools import cycle
from typing import Any, TypeAlias

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

from subliminal_jax.plotting.canvas import (
    BLUE,
    GREEN,
    GREY,
    GUESSING,
    INK,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    WIDTH,
    Sheet,
    chance_line,
    error_bars,
    fit,
    interval_key,
    styled,
)
from subliminal_jax.report.results import ArmResult, Results, read_arms

Look: TypeAlias = tuple[str, str, str]
"""Name for the reader, marker, colour."""

# Kinds of relations; any other has its own name and one of `OTHER_MARKERS`.
KINDS: dict[str, Look] = {
    "same": ("the teacher's initialisation", "*", BLUE),
    "different": ("another member's initialisation", "X", VERMILION),
    "perturbed": ("perturbed", "o", GREEN),
    "interpolated": ("interpolated", "s", PURPLE),
    "reinitialised": ("partly redrawn", "^", SKY),
    "shared_layers": ("some layers shared", "D", ORANGE),
}
OTHER_MARKERS = "Pv<>hp"
# Kind with a dial: key of the dial in the relation, title and x label of its panel.
DIALS = {
    "perturbed": ("sigma", "a   Perturbed", "scale of the added noise"),
    "interpolated": ("t", "b   Interpolated", "t (0: the teacher's, 1: another's)"),
    "reinitialised": ("fraction", "c   Partly redrawn", "fraction of weights redrawn"),
}
LEFT, RIGHT, PANEL, GAP = 0.75, 0.15, 2.2, 0.25  # inches
PANEL_HEIGHT, ROW = 1.9, 0.2
KEY_COLUMNS, KEY_ROWS = 3, 3  # of the legend, without kinds that are not in `KINDS`
NAME_WIDTH = 0.95  # room for the names of layers, between the panels of the lower row


@styled
def relation_figure(results: Results) -> Figure:
    """Draw student accuracy against each way its initialisation can relate to the teacher's.

    Three panels have a dial (noise scale, interpolation, fraction redrawn), one a choice of layers,
    and one holds all arms against the measured distance, those of any other kind too. In all, the
    arms that start from the teacher's and from another member's initialisation are horizontal lines
    with their intervals.

    Args:
        results: The results of a run whose arms carry a `relation`; arms without one are left out.

    Returns:
        A figure on an Agg canvas, 8 inches wide; `render` gives its files.

    Raises:
        InputError: The results hold no arms, or an arm's values do not match its `n`.
    """
    arms = [arm for arm in read_arms(results) if arm.kind is not None]
    layers, looks = _layer_names(arms), _looks(arms)
    more_rows = max(0, -(-(len(looks) + 2) // KEY_COLUMNS) - KEY_ROWS)
    # The legend, then axis labels or layer rows.
    below = 0.85 + ROW * more_rows + max(0.5, ROW * len(layers) + 0.1)
    second_row = below + PANEL_HEIGHT + 0.75
    sheet = Sheet(results, body_height=second_row + PANEL_HEIGHT + 0.4)
    panels = []
    for column, kind in enumerate(DIALS):
        axes = sheet.axes(LEFT + column * (PANEL + GAP), second_row, PANEL, PANEL_HEIGHT)
        _dial_panel(axes, [arm for arm in arms if arm.kind == kind], kind)
        panels.append(axes)
    last = WIDTH - RIGHT - PANEL
    distances = sheet.axes(LEFT, below, last - LEFT - NAME_WIDTH - 0.2, PANEL_HEIGHT)
    _distance_panel(distances, arms, looks)
    shared = sheet.axes(last, below, PANEL, PANEL_HEIGHT)
    _layer_panel(shared, sheet, below, layers, [a for a in arms if a.kind == "shared_layers"])
    chance = _finish([*panels, distances, shared], arms)
    sheet.legend(_key(arms, looks, chance), columns=KEY_COLUMNS)
    return sheet.figure


def _looks(arms: list[ArmResult]) -> dict[str, Look]:
    """Return the look of every kind: of `KINDS`, then of the others that any arm has."""
    others = dict.fromkeys(arm.kind for arm in arms if arm.kind and arm.kind not in KINDS)
    markers = cycle(OTHER_MARKERS)
    return KINDS | {kind: (kind.replace("_", " "), next(markers), INK) for kind in others}


def _finish(panels: list[Axes], arms: list[ArmResult]) -> Line2D:
    """Give all panels one scale and the reference lines; return the line of chance."""
    shown = [GUESSING, *(arm.accuracy.mean for arm in arms)]
    shown += [arm.accuracy.high for arm in arms if arm.accuracy.known]
    chance = [chance_line(axes) for axes in panels]
    for axes in panels:
        for arm in arms:
            if arm.kind in ("same", "different"):
                _comparison(axes, arm)
        axes.set_ylim(0.0, min(1.02, max(shown) * 1.1))
        if axes.get_position().x0 * WIDTH < LEFT + 0.01:
            axes.set_ylabel("student test accuracy")
        else:
            axes.tick_params(axis="y", labelleft=False)
    return chance[0]


def _comparison(axes: Axes, arm: ArmResult) -> None:
    colour = KINDS[arm.kind][2] if arm.kind else GREY
    axes.axhline(arm.accuracy.mean, color=colour, linewidth=1.2, zorder=1.5)
    if arm.accuracy.known:
        axes.axhspan(
            arm.accuracy.low, arm.accuracy.high, color=colour, alpha=0.2, linewidth=0, zorder=1
        )


def _dial_panel(axes: Axes, arms: list[ArmResult], kind: str) -> None:
    dial, title, label = DIALS[kind]
    # An arm with a mask has no fraction; panel d shows it by its distance.
    arms = [arm for arm in arms if arm.relation is not None and arm.relation[dial] is not None]
    settings = [float(arm.relation[dial]) for arm in arms if arm.relation is not None]
    _, marker, colour = KINDS[kind]
    error_bars(axes, settings, [arm.accuracy for arm in arms], marker, colour)
    if kind != "perturbed":
        axes.set_xlim(-0.04, 1.04)  # from the teacher's initialisation all the way to another
    elif settings and min(settings) > 0 and max(settings) >= 8 * min(settings):
        _log_scale(axes, wide=max(settings) > 100 * min(settings))
    axes.set_title(title, loc="left", weight="bold")
    axes.set_xlabel(label)


def _log_scale(axes: Axes, wide: bool) -> None:
    # Noise scales are chosen by ratio, so a log axis spaces them evenly.
    axes.set_xscale("log")
    axes.margins(x=0.08)
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_locator(NullLocator())


def _distance_panel(axes: Axes, arms: list[ArmResult], looks: dict[str, Look]) -> None:
    for arm in arms:
        if arm.distance is None or arm.kind is None:
            continue
        _, marker, colour = looks[arm.kind]
        error_bars(axes, [arm.distance.mean], [arm.accuracy], marker, colour, [arm.distance])
    axes.set_title("d   All arms, by distance", loc="left", weight="bold")
    axes.set_xlabel("measured distance to the teacher's initialisation")


def _layer_panel(
    axes: Axes, sheet: Sheet, bottom: float, layers: list[str], arms: list[ArmResult]
) -> None:
    """Draw one column per choice of layers, with a matrix of dots below it naming the choice."""
    _, marker, colour = KINDS["shared_layers"]
    columns = [float(column) for column in range(len(arms))]
    error_bars(axes, columns, [arm.accuracy for arm in arms], marker, colour)
    axes.set_title("e   Layers shared", loc="left", weight="bold")
    axes.set_xticks([])
    axes.set_xlim(-0.6, max(len(arms), 1) - 0.4)
    if not layers:
        return
    height = ROW * len(layers)
    matrix = sheet.axes(WIDTH - RIGHT - PANEL, bottom - height - 0.05, PANEL, height)
    matrix.set_xlim(axes.get_xlim())
    matrix.set_ylim(len(layers) - 0.5, -0.5)
    for column, arm in zip(columns, arms, strict=True):
        chosen = _layers(arm)
        for row, layer in enumerate(layers):
            face = INK if layer in chosen else "white"
            matrix.plot(column, row, "o", color=INK, markerfacecolor=face, markersize=5)
    names = [fit(layer, 8.5, NAME_WIDTH)[0] for layer in layers]
    matrix.set_yticks(range(len(layers)), names, parse_math=False)
    matrix.tick_params(length=0)
    matrix.set_xticks([])
    matrix.spines[:].set_visible(False)


def _layer_names(arms: list[ArmResult]) -> list[str]:
    """Return all layers named by any arm, in the order of the longest choice."""
    choices = sorted((_layers(arm) for arm in arms), key=len, reverse=True)
    return list(dict.fromkeys(layer for choice in choices for layer in choice))


def _layers(arm: ArmResult) -> list[str]:
    if arm.relation is None or arm.kind != "shared_layers":
        return []
    return [str(layer) for layer in arm.relation["layers"]]


def _key(arms: list[ArmResult], looks: dict[str, Look], chance: Line2D) -> list[Any]:
    present = {arm.kind for arm in arms}
    key: list[Any] = []
    for kind, (name, marker, colour) in looks.items():
        if kind in present:
            line = "-" if kind in ("same", "different") else ""
            key.append(Line2D([], [], linestyle=line, marker=marker, color=colour, label=name))
    return [*key, chance, interval_key(arms)]
