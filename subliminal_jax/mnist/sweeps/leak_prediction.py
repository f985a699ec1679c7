"""How well a score known before training predicts students' final accuracy.

A score predicts what is left out of a fit: isotonic regression of accuracy on the score over the
other sweeps, or the other cells. Students of one sweep and of several are judged alike; what is
measured of them, and what is drawn again for the intervals, differs.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64
from scipy import optimize, stats

from subliminal_jax.mnist.sweeps.sweep_students import SCORES, Students, Sweep, students
from subliminal_jax.report.tables import Table

RESAMPLES = 1000
PRIMARY = "cosine"  # the score chosen beforehand; the others are shown beside it
FEWEST_CELLS = 3
SAME, DIFFERENT = ("student_aux", "student_all"), ("cross_model_aux", "cross_model_all")
STARTS = {"same": SAME, "different": DIFFERENT, "both": SAME + DIFFERENT}
Vector = Float64[np.ndarray, " n"]
Correlations = Mapping[str, float | None]


def judge(
    sweeps: Sequence[Sweep], measure: Callable[[Students], Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return what is measured of every score, by initialisation.

    Args:
        sweeps: whose students are judged together.
        measure: `students -> values by name`, such as `in_one_sweep`.

    Returns:
        A row with `start`, `score` and the measurements for every initialisation of at least
        three cells and every score.
    """
    judged = []
    for start, kinds in STARTS.items():
        for score in SCORES:
            sample = students(sweeps, kinds, score)
            if len(np.unique(sample.cell)) >= FEWEST_CELLS:
                judged.append({"start": start, "score": score} | dict(measure(sample)))
    return judged


def predictions(sample: Students) -> dict[str, Vector]:
    """Predict every student's accuracy from its score, leaving out its sweep or only its cell.

    A fit without a sweep uses no cell of it, even if another sweep contains that cell too.

    Returns:
        Under `sweep` and `cell` a prediction per student; NaN where nothing is left to fit.
    """
    by_sweep, by_cell = np.full((2, len(sample.scores)), np.nan)
    for place in np.unique(sample.sweep):
        _predict(by_sweep, sample, sample.sweep == place, ~sample.in_sweep[place])
    for cell in np.unique(sample.cell):
        _predict(by_cell, sample, sample.cell == cell, sample.cell != cell)
    return {"sweep": by_sweep, "cell": by_cell}


def _predict(predicted: Vector, sample: Students, left_out: Any, others: Any) -> None:
    """Fill in the predictions of those left out, by a fit of the others, if there are any."""
    if others.any():
        predicted[left_out] = fitted(
            sample.scores[others], sample.accuracy[others], sample.scores[left_out]
        )


def fitted(
    scores: Vector, outcomes: Vector, at: Float64[np.ndarray, " k"]
) -> Float64[np.ndarray, " k"]:
    """Fit isotonic regression of outcomes on scores, and evaluate it at other scores.

    It is interpolated linearly between its points and constant beyond them. Outcomes of equal
    scores are averaged.
    """
    points, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    means = np.bincount(place, outcomes) / counts
    return np.interp(at, points, optimize.isotonic_regression(means, weights=counts).x)


def mean_error(predicted: Vector, actual: Vector) -> float | None:
    """Return the mean absolute error of the predictions that are known; None if none is."""
    known = np.isfinite(predicted)
    return float(np.abs(predicted - actual)[known].mean()) if known.any() else None


def with_intervals(
    correlations: Callable[[Int64[np.ndarray, " k"]], Correlations],
    draw: Callable[[], Int64[np.ndarray, " k"]],
    everyone: int,
) -> dict[str, dict[str, Any]]:
    """Return correlations with 95% percentile intervals of a bootstrap.

    Args:
        correlations: `places of students -> correlations by name`; None where one is undefined.
        draw: draws the places of a resample.
        everyone: number of students.

    Returns:
        For each name `rho` and `ci95`; both are None where `rho` is undefined.
    """
    points = correlations(np.arange(everyone))
    drawn: dict[str, list[float]] = {name: [] for name in points}
    for _ in range(RESAMPLES):
        for name, rho in correlations(draw()).items():
            drawn[name] += [] if rho is None else [rho]
    intervals = {}
    for name, rho in points.items():
        known = rho is not None and drawn[name]
        bounds = [float(q) for q in np.quantile(drawn[name], (0.025, 0.975))] if known else None
        intervals[name] = {"rho": rho, "ci95": bounds or [None, None]}
    return intervals


def in_one_sweep(sample: Students, seed: int = 0) -> dict[str, Any]:
    """Return Spearman's correlation of accuracy with its prediction, each cell left out in turn.

    The interval is a bootstrap over whole cells: the students of a cell share its settings.

    Returns:
        `rho`, `ci95`, `error` (the mean absolute error of the predictions), `n`, `groups`; `rho`
        and `ci95` are None where all predictions or accuracies are equal.
    """
    predicted = predictions(sample)["cell"]
    random = np.random.Generator(np.random.Philox(key=seed))
    places = [np.flatnonzero(sample.cell == cell) for cell in np.unique(sample.cell)]

    def draw() -> Int64[np.ndarray, " k"]:
        return np.concatenate([places[i] for i in random.integers(len(places), size=len(places))])

    def correlations(chosen: Int64[np.ndarray, " k"]) -> Correlations:
        return {"cell": _spearman(predicted[chosen], sample.accuracy[chosen])}

    return {
        **with_intervals(correlations, draw, len(sample.scores))["cell"],
        "error": mean_error(predicted, sample.accuracy),
        "n": len(sample.scores),
        "groups": len(places),
    }


def _spearman(a: Vector, b: Vector) -> float | None:
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(stats.spearmanr(a, b).statistic)


def chosen_first(judged: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return rows of `judge` with the score chosen beforehand first."""
    return sorted(judged, key=lambda row: row["score"] != PRIMARY)


def table(judged: Sequence[Mapping[str, Any]]) -> Table:
    """Return the rank correlations in one sweep as a table, the primary score first."""
    return Table(
        "Final accuracy predicted before the student trains, in left-out cells",
        ("initialisation", "score", "rank correlation", "mean error", "students", "cells"),
        tuple(
            (
                row["start"],
                row["score"],
                bounded(row),
                f"{row['error']:.3f}",
                str(row["n"]),
                str(row["groups"]),
            )
            for row in chosen_first(judged)
        ),
        "Spearman's correlation of accuracy with its prediction from the score, fitted to the "
        "other cells (isotonic regression); interval: bootstrap over cells. Chance is about -0.5, "
        "not 0: leaving a cell out moves the mean of the others away from it. The cosine of trait "
        "and distillation gradient was chosen beforehand; the others are shown beside it.",
        names=2,
    )


def bounded(correlation: Mapping[str, Any]) -> str:
    """Return a correlation with its interval for a table, from `rho` and `ci95`."""
    if correlation["rho"] is None:
        return "none"
    low, high = correlation["ci95"]
    return f"{correlation['rho']:+.2f} [{low:+.2f}, {high:+.2f}]"
