"""Tests whether the leak score predicts students' accuracy across sweeps.

Predictions leave out a whole sweep at a time: a fit on sweeps of auxiliary counts and noises, say,
must predict accuracies along a sweep of learning rates.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64
from scipy import stats

from subliminal_jax.errors import InputError
from subliminal_jax.mnist.sweeps.leak_prediction import (
    bounded,
    chosen_first,
    judge,
    mean_error,
    predictions,
    with_intervals,
)
from subliminal_jax.mnist.sweeps.sweep_students import Students, Sweep
from subliminal_jax.report.page import Page, run_sections
from subliminal_jax.report.tables import CsvRows, Table

PERMUTATIONS = 100


def across_sweeps(sample: Students, seed: int = 0) -> dict[str, Any]:
    """Return how well a score predicts accuracy in what is left out, along sweeps and in cells.

    Returns:
        Spearman's correlations with 95% percentile intervals. `sweep`, `cell`: of accuracy and its
        prediction with the sweep or cell left out; compare these with `chance`, not with 0.
        `along`, `within`: of score and accuracy, ranked within each sweep (where one setting
        changes) or within each cell. Also `error` with the sweep left out, and the numbers of
        `students`, `cells` and `sweeps`.

    Intervals resample both cells and members: students of a cell share its settings, and students
    of a member share its initialisation and often its teacher (Owen, "The pigeonhole bootstrap",
    Annals of Applied Statistics 1 (2007), 386-411).
    """
    predicted = predictions(sample)
    return {
        "students": len(sample.scores),
        "cells": len(np.unique(sample.cell)),
        "sweeps": len(np.unique(sample.sweep)),
        "error": mean_error(predicted["sweep"], sample.accuracy),
        "chance": chance(sample, predicted, seed),
    } | _correlations(sample, predicted, seed)


def chance(
    sample: Students, predicted: Mapping[str, Float64[np.ndarray, " n"]], seed: int = 0
) -> dict[str, Any]:
    """Permutation test of the correlations with a sweep or a cell left out.

    An uninformative score correlates negatively: leaving out a high accuracy lowers the mean of the
    others, which it predicts. A permutation exchanges the scores of whole cells, and shuffles them
    within each.

    Returns:
        For `sweep` and `cell` the `median` correlation over permutations, and `p`, the share of
        permutations, identity included, with at least the observed correlation; None if undefined.
    """
    random = np.random.Generator(np.random.Philox(key=[seed, 1]))
    places = [np.flatnonzero(sample.cell == cell) for cell in np.unique(sample.cell)]
    permuted: dict[str, list[float]] = {name: [] for name in predicted}
    for _ in range(PERMUTATIONS):
        scores = np.empty_like(sample.scores)
        for here, there in enumerate(random.permutation(len(places))):
            given = np.resize(sample.scores[places[there]], len(places[here]))
            scores[places[here]] = random.permutation(given)
        for name, values in predictions(replace(sample, scores=scores)).items():
            rho = _spearman(values, sample.accuracy)
            permuted[name] += [] if rho is None else [rho]
    compared = {}
    for name, rhos in permuted.items():
        rho = _spearman(predicted[name], sample.accuracy)
        as_well = None if rho is None else (1 + np.sum(np.array(rhos) >= rho)) / (1 + len(rhos))
        compared[name] = {
            "median": float(np.median(rhos)) if rhos else None,
            "p": None if as_well is None else float(as_well),
        }
    return compared


def _correlations(
    sample: Students, predicted: Mapping[str, Float64[np.ndarray, " n"]], seed: int
) -> dict[str, Any]:
    random = np.random.Generator(np.random.Philox(key=seed))
    n_cells, n_members = sample.cell.max() + 1, sample.member.max() + 1
    groups = {"along": sample.sweep, "within": sample.cell}
    ranks = {
        name: [_centred_ranks(values, group) for values in (sample.scores, sample.accuracy)]
        for name, group in groups.items()
    }
    everyone = np.arange(len(sample.scores))

    def correlations(chosen: Int64[np.ndarray, " k"]) -> dict[str, float | None]:
        actual = sample.accuracy[chosen]
        rhos = {name: _spearman(values[chosen], actual) for name, values in predicted.items()}
        return rhos | {name: _pearson(a[chosen], b[chosen]) for name, (a, b) in ranks.items()}

    def draw() -> Int64[np.ndarray, " k"]:
        times_cell = np.bincount(random.integers(n_cells, size=n_cells), minlength=n_cells)
        times_member = np.bincount(random.integers(n_members, size=n_members), minlength=n_members)
        return np.repeat(everyone, times_cell[sample.cell] * times_member[sample.member])

    return with_intervals(correlations, draw, len(everyone))


def _centred_ranks(
    values: Float64[np.ndarray, " n"], group: Int64[np.ndarray, " n"]
) -> Float64[np.ndarray, " n"]:
    """Return ranks within each group, divided by its size and centred."""
    ranks = np.zeros(len(values))
    for one in np.unique(group):
        here = stats.rankdata(values[group == one]) / np.sum(group == one)
        ranks[group == one] = here - here.mean()
    return ranks


def _spearman(a: Float64[np.ndarray, " n"], b: Float64[np.ndarray, " n"]) -> float | None:
    known = np.isfinite(a)
    return _pearson(stats.rankdata(a[known]), stats.rankdata(b[known]))


def _pearson(a: Float64[np.ndarray, " n"], b: Float64[np.ndarray, " n"]) -> float | None:
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(np.corrcoef(a, b)[0, 1])


def audit(sweeps: Sequence[Sweep]) -> dict[str, Any]:
    """Return the judgement of the leak score across sweeps of one dataset, as plain values.

    Returns:
        `dataset`, `sweeps` (rows by name), `judged` (rows of `judge`) and `finding`.

    Raises:
        InputError: cells are too few.
    """
    judged = judge(sweeps, across_sweeps)
    if not judged:
        raise InputError("runs: fewer than three cells are done; give more sweeps")
    return {
        "dataset": sweeps[0].dataset,
        "sweeps": {sweep.name: len(sweep.rows) for sweep in sweeps},
        "judged": judged,
        "finding": _finding(chosen_first(judged)[0]),
    }


def _finding(row: Mapping[str, Any]) -> str:
    return (
        f"Accuracy that the {row['score']} predicts in sweeps left out of the fit correlates "
        f"{bounded(row['sweep'])} with that measured ({row['start']} initialisation); by chance "
        f"{_by_chance(row['chance']['sweep'])}."
    )


def text(results: Mapping[str, Any]) -> str:
    """Return what was read and the judgement as text for a terminal."""
    read = [f"{name}: {rows} cells and members" for name, rows in results["sweeps"].items()]
    return "\n".join([*read, "", table(results).text()])


def page(results: Mapping[str, Any]) -> Page:
    """Return the report's page."""
    return Page(
        experiment="leak_audit",
        finding=results["finding"],
        subtitle=f"{sum(results['sweeps'].values())} cells and members of "
        f"{', '.join(results['sweeps'])}, on {results['dataset']}.",
        blocks=[table(results)],
        sections=run_sections(results),
    )


def csv_rows(results: Mapping[str, Any]) -> CsvRows:
    """Return a CSV row for every initialisation, score and way to correlate."""
    ways = ("sweep", "cell", "along", "within")
    rows = [
        (
            *(row["start"], row["score"], way, row[way]["rho"], *row[way]["ci95"]),
            *(row["chance"].get(way, {}).get(value) for value in ("median", "p")),
        )
        for row in results["judged"]
        for way in ways
    ]
    return ("start", "score", "way", "rho", "low", "high", "chance_median", "chance_p"), rows


def table(results: Mapping[str, Any]) -> Table:
    """Return the judgement as a table, the score chosen beforehand first."""
    rows = chosen_first(results["judged"])
    columns = ("initialisation", "score", "sweep left out", "chance", "cell left out", "chance")
    columns += ("along a sweep", "within a cell")
    return Table(
        f"Accuracy predicted before the student trains, across {len(results['sweeps'])} sweeps on "
        f"{results['dataset']}",
        (*columns, "mean error", "students", "cells"),
        tuple(
            (
                row["start"],
                row["score"],
                *(
                    text
                    for name in ("sweep", "cell")
                    for text in (bounded(row[name]), _by_chance(row["chance"][name]))
                ),
                *(bounded(row[name]) for name in ("along", "within")),
                "none" if row["error"] is None else f"{row['error']:.3f}",
                str(row["students"]),
                str(row["cells"]),
            )
            for row in rows
        ),
        "Sweep (cell) left out: Spearman's correlation of accuracy and its prediction from the "
        "score, by isotonic regression on the other sweeps (cells). Along a sweep, within a cell: "
        "that of score and accuracy. Intervals: bootstrap over cells and members. Chance: the "
        "median correlation with scores permuted among cells (below 0, since leaving out a high "
        "accuracy lowers the mean of the rest), and p, the share of permutations that do as well. "
        "The cosine of the two gradients was chosen beforehand. Mean error: sweep left out.",
        names=2,
    )


def _by_chance(test: Mapping[str, Any]) -> str:
    if test["median"] is None or test["p"] is None:
        return "none"
    return f"{test['median']:+.2f}, p {test['p']:.2f}"
