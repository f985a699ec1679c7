"""Figure of the theorem: its prediction, its range, its premise, and many steps beyond it."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from subliminal_jax.plotting.canvas import (
    BLUE,
    GREY,
    INK,
    ORANGE,
    SKY,
    VERMILION,
    WIDTH,
    Sheet,
    error_bars,
    styled,
)
from subliminal_jax.report.results import Results, read_interval

LEFT, GAP, PANEL_HEIGHT, FOOT = 0.75, 0.85, 2.0, 0.95  # inches
PANEL = (WIDTH - LEFT - GAP - 0.2) / 2
# Colour: the initialisation and what the student imitates, as in the other figures.
STUDENTS = {
    ("same", "teacher's logits"): (BLUE, "o"),
    ("same", "sampled labels"): (SKY, "s"),
    ("different", "teacher's logits"): (VERMILION, "X"),
    ("different", "sampled labels"): (ORANGE, "D"),
}


@styled
def theorem_figure(results: Results) -> Figure:
    """Draw the theorem's claims against the size of the teacher's step.

    Args:
        results: The results of a run of the theorem; `claims` is read.

    Returns:
        A figure on an Agg canvas, 8 inches wide; `render` gives its files.
    """
    claims = results["claims"]
    upper = FOOT + PANEL_HEIGHT + 0.85
    sheet = Sheet(results, body_height=upper + PANEL_HEIGHT + 0.4)
    places = [(left, bottom) for bottom in (upper, FOOT) for left in (LEFT, LEFT + PANEL + GAP)]
    panels = [sheet.axes(left, bottom, PANEL, PANEL_HEIGHT) for left, bottom in places]
    _error_panel(panels[0], claims)
    _reach_panel(panels[1], claims)
    _premise_panel(panels[2], claims["broken"], claims["small"])
    _beyond_panel(panels[3], claims["beyond"])
    sheet.legend(
        [
            Line2D([], [], linestyle="", marker=marker, color=colour, label=f"{start}, {labels}")
            for (start, labels), (colour, marker) in STUDENTS.items()
        ],
        columns=4,
    )
    return sheet.figure


def _error_panel(axes: Axes, claims: Mapping[str, Any]) -> None:
    eps = [row["eps"] for row in claims["eps"]]
    medians = [row["error_median"] for row in claims["eps"]]
    axes.loglog(eps, medians, "o-", color=BLUE, markersize=3.5, label="median case")
    axes.loglog(
        eps, [row["error_95"] for row in claims["eps"]], "^--", color=BLUE, markersize=3.5,
        markerfacecolor="white", label="95% of cases below",
    )  # fmt: skip
    line = [medians[0] * one / eps[0] for one in eps]
    axes.loglog(eps, line, ":", color=GREY, label="proportional to eps")
    axes.legend(loc="upper left")
    axes.set_title("a   Inner product against its prediction", loc="left", weight="bold")
    axes.set_xlabel("teacher's step eps (norms of the initialisation)")
    axes.set_ylabel("relative error of eps A")


def _reach_panel(axes: Axes, claims: Mapping[str, Any]) -> None:
    cases = claims["cases"]
    eps = [row["eps"] for row in claims["eps"]]
    for key, label, style in (
        ("wrong_sign", "student moves with its teacher", "o-"),
        ("loss_risen", "teacher's loss falls", "s--"),
    ):
        share = [1 - row[key] / cases for row in claims["eps"]]
        axes.semilogx(eps, share, style, color=BLUE, markersize=3.5, label=label)
    axes.axvline(claims["small"], color=GREY, linestyle=":")
    axes.set_ylim(-0.03, 1.06)
    axes.legend(loc="lower left")
    axes.set_title("b   Range of steps for which it holds", loc="left", weight="bold")
    axes.set_xlabel("teacher's step eps (norms of the initialisation)")
    axes.set_ylabel("share of cases")


def _premise_panel(axes: Axes, broken: Mapping[str, Any], small: float) -> None:
    nearness = [row["sigma_over_eps"] for row in broken["near"]]
    shares = [read_interval(row["positive"]) for row in broken["near"]]
    error_bars(axes, nearness, shares, "o", BLUE)
    other = read_interval(broken["other_positive"])
    axes.axhline(other.mean, color=VERMILION, linewidth=1.2, label="independent initialisation")
    axes.axhspan(other.low, other.high, color=VERMILION, alpha=0.2, linewidth=0)
    axes.axhline(0.5, color=GREY, linestyle=":")
    axes.set_xscale("log")
    axes.set_ylim(0.0, 1.06)
    axes.legend(loc="lower left")
    axes.set_title(f"c   Noise on the student's start (eps = {small:g})", loc="left", weight="bold")
    axes.set_xlabel("noise over eps (initial standard deviations)")
    axes.set_ylabel("share that moves with its teacher")


def _beyond_panel(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    groups = list(dict.fromkeys((row["optimizer"], row["steps"]) for row in rows))
    for place, (student, (colour, marker)) in enumerate(STUDENTS.items()):
        of_student = [row for row in rows if (row["start"], row["labels"]) == student]
        x = [groups.index((row["optimizer"], row["steps"])) for row in of_student]
        shifted = [one + 0.15 * (place - 1.5) for one in x]
        means = [read_interval(row["cosine"]) for row in of_student]
        axes.errorbar(
            shifted,
            [mean.mean for mean in means],
            yerr=[[m.mean - m.low for m in means], [m.high - m.mean for m in means]],
            fmt=marker, color=colour, markersize=4.5, capsize=2.5, zorder=4,
        )  # fmt: skip
    axes.axhline(0.0, color=INK, linewidth=0.8)
    axes.set_xticks(range(len(groups)), [f"{name}\n{steps}" for name, steps in groups])
    axes.set_title("d   Beyond the theorem: many steps", loc="left", weight="bold")
    axes.set_xlabel("optimiser and steps of each")
    axes.set_ylabel("cosine of displacements")
