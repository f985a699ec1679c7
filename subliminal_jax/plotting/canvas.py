"""The sheet that every figure is drawn on: style, heading, axes placed in inches, files."""

import io
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float64
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from subliminal_jax.report.results import (
    ArmResult,
    Results,
    data_line,
    read_interval,
    run_line,
    warning_line,
    worth_printing,
)
from subliminal_jax.stats import Interval

WIDTH = 8.0  # inches: nine-point text is 14 pixels high when the PNG is shown 900 pixels wide
DPI = 200
MARGIN = 0.15
GUESSING = 0.1
"""Accuracy of guessing one of ten balanced digits."""
HEADING = "heading"

# Okabe and Ito's palette, safe for every common colour blindness; grey is not part of it.
INK, GREY = "#222222", "#999999"
BLUE, SKY, VERMILION, ORANGE = "#0072B2", "#56B4E9", "#D55E00", "#E69F00"
GREEN, PURPLE = "#009E73", "#CC79A7"

# Everything that a user's own matplotlibrc could change in our figures.
STYLE: dict[str, Any] = {
    "font.family": ["DejaVu Sans"],  # ships with matplotlib, so every machine draws the same
    "font.size": 9.0,
    "text.color": INK,
    "text.usetex": False,
    "axes.edgecolor": INK,
    "axes.facecolor": "white",
    "axes.labelcolor": INK,
    "axes.labelsize": 9.0,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "axes.titlesize": 9.0,
    "figure.facecolor": "white",
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.2,
    "savefig.facecolor": "white",
    "savefig.bbox": None,
    "savefig.dpi": DPI,
    "xtick.color": INK,
    "xtick.labelsize": 8.5,
    "ytick.color": INK,
    "ytick.labelsize": 8.5,
    "pdf.fonttype": 42,  # TrueType: journals refuse matplotlib's default Type 3 fonts
}
styled = matplotlib.rc_context(STYLE)


@dataclass(frozen=True)
class RenderedFigure:
    """One figure as the bytes of its two files."""

    png: bytes
    pdf: bytes


@styled
def render(figure: Figure) -> RenderedFigure:
    """Draw a figure into the bytes of a PNG (1600 pixels wide) and a PDF (vector, 8 inches).

    The same figure gives the same bytes: no time of creation is stored.
    """
    png, pdf = io.BytesIO(), io.BytesIO()
    figure.savefig(png, format="png")
    figure.savefig(pdf, format="pdf", metadata={"CreationDate": None})
    return RenderedFigure(png.getvalue(), pdf.getvalue())


@styled
def render_body(figure: Figure) -> bytes:
    """Draw a figure of a `Sheet` into a PNG without its heading, which the page already has."""
    heading = [artist for artist in figure.artists if artist.get_gid() == HEADING]
    width, height = figure.get_size_inches()
    lines = [line for line in heading if isinstance(line, Text)]
    ends = [line.get_position()[1] * height - _line_height(line) for line in lines]
    body = io.BytesIO()
    for line in heading:
        line.set_visible(False)
    part = Bbox([[0.0, 0.0], [width, min(ends, default=height)]])
    figure.savefig(body, format="png", bbox_inches=part)
    for line in heading:
        line.set_visible(True)
    return body.getvalue()


class Sheet:
    """A figure under its heading, with axes placed in inches from the lower left corner.

    The heading is as high as its wrapped lines need, and the figure grows by it, so that a long
    finding never shrinks the plot.
    """

    def __init__(self, results: Results, body_height: float):
        heading = _heading(results)
        height = body_height + MARGIN + sum(_line_height(line) for line in heading)
        self.figure = Figure(figsize=(WIDTH, height), dpi=DPI)
        self.height = height
        FigureCanvasAgg(self.figure)
        top = height - MARGIN
        for line in heading:
            line.set_position((MARGIN / WIDTH, top / height))
            line.set_gid(HEADING)
            self.figure.add_artist(line)
            top -= _line_height(line)

    def axes(self, left: float, bottom: float, width: float, height: float) -> Axes:
        """Add axes with their frame at the given place, in inches."""
        inches = (left / WIDTH, bottom / self.height, width / WIDTH, height / self.height)
        return self.figure.add_axes(inches)

    def legend(self, handles: list[Any], columns: int) -> None:
        """Add the legend of all panels at the bottom of the sheet."""
        self.figure.legend(
            handles=handles,
            loc="lower center",
            bbox_to_anchor=(0.5, 0.05 / self.height),
            ncols=columns,
            columnspacing=1.6,
            handletextpad=0.6,
        )


def error_bars(
    axes: Axes,
    x: list[float],
    intervals: list[Interval],
    marker: str,
    colour: str,
    x_intervals: list[Interval] | None = None,
) -> None:
    """Draw mean accuracies with their bounds, where they are known.

    Bounds are cut at 0 and 1: with two or three members Student's interval reaches beyond what an
    accuracy can be, and off the page.
    """
    possible = [
        replace(one, low=max(0.0, one.low), high=min(1.0, one.high)) if one.known else one
        for one in intervals
    ]
    axes.errorbar(
        x,
        [interval.mean for interval in intervals],
        yerr=_half_widths(possible),
        xerr=None if x_intervals is None else _half_widths(x_intervals),
        fmt=marker,
        color=colour,
        markersize=5.0,
        elinewidth=1.4,
        capsize=3.5,
        capthick=1.4,
        zorder=4,
    )


def whiskers(axes: Axes, x: float, entry: Mapping[str, Any], colour: str) -> None:
    """Draw the bounds of a mean, if there are enough units for useful ones; not the mean itself."""
    interval = read_interval(entry)
    if not worth_printing(interval):
        return
    # Bounds on another scale can miss a mean without spread by a rounding error.
    ends = np.maximum(_half_widths([interval]), 0.0)
    axes.errorbar(
        x, interval.mean, yerr=ends, fmt="none", ecolor=colour, capsize=2.5, linewidth=1.2, zorder=4
    )


def point(axes: Axes, x: float, entry: Mapping[str, Any] | None, colour: str, marker: str) -> None:
    """Draw a mean with its bounds, if there is one."""
    if entry is not None:
        axes.plot(x, entry["mean"], marker, color=colour, markersize=5, zorder=4)
        whiskers(axes, x, entry, colour)


def name_places(axes: Axes, names: Sequence[str]) -> None:
    """Put names under the places 0, 1, ..., their words below each other."""
    words = [name.replace("_", "\n") for name in names]
    axes.set_xticks(range(len(words)), words, parse_math=False)
    axes.set_xlim(-0.6, len(words) - 0.4)


def chance_line(axes: Axes) -> Line2D:
    """Draw the accuracy of guessing one of ten digits."""
    return axes.axhline(
        GUESSING, color=GREY, linestyle=(0, (6, 3)), linewidth=1.0, zorder=1, label="chance (0.1)"
    )


def interval_key(arms: list[ArmResult]) -> Line2D:
    """Make the legend entry that says what error bars are, or why there are none."""
    if any(arm.accuracy.known for arm in arms):
        marker, label = "|", "95% interval of the mean (Student's t over members)"
    else:
        marker, label = "", "one member: no interval"
    return Line2D([], [], linestyle="", marker=marker, markersize=9, color=INK, label=label)


def fit(text: str, size: float, width: float, weight: str = "normal") -> list[str]:
    """Break text into lines no wider than `width` inches at `size` points, by measurement."""
    font = FontProperties(family=STYLE["font.family"], size=size, weight=weight)
    renderer = FigureCanvasAgg(Figure(dpi=DPI)).get_renderer()
    room = 0.99 * width * DPI  # letters are set on whole pixels here and between them in a PDF
    characters = len(" ".join(text.split()))
    while True:
        lines = textwrap.wrap(text, max(characters, 1)) or [""]
        widest = max(renderer.get_text_width_height_descent(line, font, False)[0] for line in lines)
        if widest <= room or characters <= 1:
            return lines
        # The widest line is too wide by this factor; at least one character less each time.
        widest_now = max(len(line) for line in lines)
        characters = min(widest_now - 1, int(widest_now * room / widest) + 1)


def _heading(results: Results) -> list[Text]:
    """Make the finding; below it, for an experiment on images, what was measured on what."""
    lines = _paragraph(results["finding"], 11.0, "bold", INK)
    if "data" not in results:
        return lines
    warning = warning_line(results)
    if warning is not None:
        lines += _paragraph(warning, 9.0, "bold", VERMILION)
    return lines + _paragraph(f"{data_line(results)}. {run_line(results)}.", 9.0, "normal", INK)


def _paragraph(text: str, size: float, weight: str, colour: str) -> list[Text]:
    return [
        # A finding or a path may hold dollar signs that do not mean mathematics.
        Text(0, 0, line, size=size, weight=weight, color=colour, va="top", parse_math=False)
        for line in fit(text, size, WIDTH - 2 * MARGIN, weight)
    ]


def _line_height(line: Text) -> float:
    return 1.4 * float(line.get_fontsize()) / 72


def _half_widths(intervals: list[Interval]) -> Float64[np.ndarray, "2 arms"]:
    # Distances from the means down and up to the bounds; nan, for unknown bounds, draws nothing.
    below = [interval.mean - interval.low for interval in intervals]
    above = [interval.high - interval.mean for interval in intervals]
    return np.array([below, above], dtype=np.float64)
