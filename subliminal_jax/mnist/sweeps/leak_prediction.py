"""How well a score known before training predicts a student's final accuracy."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64
from scipy import optimize, stats

from subliminal_jax.report.tables import Table

RESAMPLES = 1000
PRIMARY = "cosine"  # the score chosen beforehand; the others are shown beside it
SAME, DIFFERENT = ("student_aux", "student_all"), ("cross_model_aux", "cross_model_all")
Values = Float64[np.ndarray, " n"]


def predict_left_out(scores: Values, outcomes: Values, groups: Sequence[str]) -> Values:
    """Predict every outcome from its score, fitted to the other groups only.

    For each group, isotonic regression of outcomes on scores is fitted to all other groups, and
    evaluated at this group's scores.

    Args:
        scores: scores known before training.
        outcomes: outcomes to predict.
        groups: the group of each; one group is left out at a time.
    """
    names, predicted = np.asarray(groups), np.zeros(len(scores))
    for name in dict.fromkeys(groups):
        inside = names == name
        predicted[inside] = fitted(scores[~inside], outcomes[~inside], scores[inside])
    return predicted


def fitted(
    scores: Values, outcomes: Values, at: Float64[np.ndarray, " k"]
) -> Float64[np.ndarray, " k"]:
    """Fit isotonic regression of outcomes on scores, and evaluate it at other scores.

    It is interpolated linearly between its points and constant beyond them. Outcomes of equal
    scores are averaged.
    """
    points, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    means = np.bincount(place, outcomes) / counts
    return np.interp(at, points, optimize.isotonic_regression(means, weights=counts).x)


def rank_correlation(
    scores: Values, outcomes: Values, groups: Sequence[str], seed: int = 0
) -> dict[str, Any]:
    """Spearman's correlation of outcomes with their predictions from the other groups.

    The interval is a 95% bootstrap over whole groups: the members of a group share its settings, so
    only the groups are independent.

    Returns:
        `rho`, `ci95`, `error` (the mean absolute error of the predictions), `n`, `groups`; `rho`
        and `ci95` are None where all predictions or outcomes are equal.
    """
    predicted = predict_left_out(scores, outcomes, groups)
    random = np.random.Generator(np.random.Philox(key=seed))
    places = [np.flatnonzero(np.asarray(groups) == name) for name in dict.fromkeys(groups)]
    drawn = []
    for _ in range(RESAMPLES):
        chosen = np.concatenate([places[i] for i in random.integers(len(places), size=len(places))])
        drawn.append(_spearman(predicted[chosen], outcomes[chosen]))
    rho, known = _spearman(predicted, outcomes), [rho for rho in drawn if rho is not None]
    bounds = [float(q) for q in np.quantile(known, (0.025, 0.975))] if known else [None, None]
    return {
        "rho": rho,
        "ci95": bounds if rho is not None else [None, None],
        "error": float(np.abs(predicted - outcomes).mean()),
        "n": len(scores),
        "groups": len(places),
    }


def _spearman(a: Values, b: Values) -> float | None:
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(stats.spearmanr(a, b).statistic)


def judge(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return how well every score predicts accuracy in left-out cells, by initialisation.

    Args:
        rows: a row for every cell and member, with `accuracy` and `leak` by student.
    """
    found = []
    for start, students in (("same", SAME), ("different", DIFFERENT), ("both", SAME + DIFFERENT)):
        having = [(row, s) for row in rows for s in students if s in row["leak"]]
        cells = [row["cell"] for row, _ in having]
        if len(set(cells)) < 3:
            continue
        outcomes = np.array([row["accuracy"][student] for row, student in having], np.float64)
        for score in having[0][0]["leak"][having[0][1]]:
            scores = np.array([r["leak"][student][score] for r, student in having], np.float64)
            found.append(
                {"start": start, "score": score} | rank_correlation(scores, outcomes, cells)
            )
    return found


def table(found: Sequence[Mapping[str, Any]]) -> Table:
    """Return the rank correlations as a table, the primary score first."""
    rows = sorted(found, key=lambda row: row["score"] != PRIMARY)
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
            for row in rows
        ),
        "Spearman's correlation of accuracy with its prediction from the score, fitted to the "
        "other cells (isotonic regression); interval: bootstrap over cells. Chance is about -0.5, "
        "not 0: leaving a cell out moves the mean of the others away from it. The cosine of trait "
        "and distillation gradient was chosen beforehand; the others are shown beside it.",
        names=2,
    )


def bounded(found: Mapping[str, Any]) -> str:
    """Return a correlation with its interval for a table, from `rho` and `ci95`."""
    if found["rho"] is None:
        return "none"
    low, high = found["ci95"]
    return f"{found['rho']:+.2f} [{low:+.2f}, {high:+.2f}]"
