"""Tests whether the leak score predicts students' accuracy across sweeps.

A cell that occurs in several sweeps (the unchanged one occurs in most) is one cell, and its
students count once. Predictions leave out a whole sweep at a time: a fit on sweeps of auxiliary
counts and noises, say, must predict accuracies along a sweep of learning rates.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64
from scipy import stats

from subliminal_jax.config import config_dict, config_digest, read_config
from subliminal_jax.errors import InputError
from subliminal_jax.files import parse_json
from subliminal_jax.mnist.sweeps.config import FIXED, SweepConfig, cells
from subliminal_jax.mnist.sweeps.leak_prediction import DIFFERENT, PRIMARY, SAME, bounded, fitted
from subliminal_jax.report.tables import Table
from subliminal_jax.runs.sealed import own_row

ROWS = "cells.jsonl"
SCORES = ("drop", "cosine", "sign_drop", "towards")
STARTS = {"same": SAME, "different": DIFFERENT, "both": SAME + DIFFERENT}
RESAMPLES = 1000
PERMUTATIONS = 100


@dataclass(frozen=True)
class Sweep:
    """The contents of a sweep's run directory.

    Attributes:
        name: of the directory.
        dataset: its images.
        cells: by name, a digest of the cell's settings: equal for equal cells of all sweeps.
        rows: one per finished cell and member.
    """

    name: str
    dataset: str
    cells: Mapping[str, str]
    rows: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Students:
    """Students of many sweeps, each once.

    Attributes:
        scores: computed before training, `[n]`.
        accuracy: after training, `[n]`.
        cell: index of its cell, `[n]`.
        member: index of its member, `[n]`.
        sweep: index of the first sweep that contains its cell, `[n]`.
        in_sweep: whether a sweep contains its cell, `[sweeps, n]`.
    """

    scores: Float64[np.ndarray, " n"]
    accuracy: Float64[np.ndarray, " n"]
    cell: Int64[np.ndarray, " n"]
    member: Int64[np.ndarray, " n"]
    sweep: Int64[np.ndarray, " n"]
    in_sweep: Bool[np.ndarray, "s n"]


def read_sweep(path: Path) -> Sweep:
    """Read a sweep's directory, finished or not, without changing it.

    Raises:
        InputError: it is not a sweep's directory, or a row is not a row of this sweep.
    """
    if not (path / ROWS).is_file() or not (path / "config.json").is_file():
        raise InputError(f"{path}: not a sweep's directory (it lacks config.json or {ROWS})")
    config = read_config(SweepConfig, path / "config.json")
    run = config_digest(parse_json((path / "config.json").read_bytes()))
    free = lambda one: {k: v for k, v in config_dict(one).items() if k not in FIXED}
    known = {c.name: config_digest(free(c.config) | {"seed": config.seed}) for c in cells(config)}
    rows: list[Mapping[str, Any]] = []
    text = (path / ROWS).read_bytes()
    whole = text[: text.rfind(b"\n") + 1]  # a running sweep may be writing the last row
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            row = own_row(parse_json(line), run, ROWS)
        except ValueError:
            row = None
        if row is None or not _is_row(row, known):
            raise InputError(f"{path / ROWS}: line {number} is not a row of this sweep; remove it")
        rows.append(row)
    return Sweep(path.resolve().name, config.data, known, rows)


def _is_row(row: dict[str, Any], known: Mapping[str, str]) -> bool:
    match row:
        case {
            "cell": str(cell),
            "member": int(),
            "accuracy": dict(accuracy),
            "leak": dict(leaks),
        } if cell in known and set(leaks) <= set(accuracy):
            numbers = [*accuracy.values(), *(v for leak in leaks.values() for v in leak.values())]
            named = all(set(leak) == set(SCORES) for leak in leaks.values())
            return named and all(isinstance(value, float) for value in numbers)
    return False


def students(sweeps: Sequence[Sweep], kinds: Sequence[str], score: str) -> Students:
    """Return all students of these kinds, each once, even if several sweeps contain its cell."""
    numbers: dict[str, int] = {}
    found: dict[tuple[str, int, str], tuple[float, float, int, int, int]] = {}
    for place, sweep in enumerate(sweeps):
        for row in sweep.rows:
            key = sweep.cells[row["cell"]]
            for kind in kinds:
                if kind in row["leak"] and (key, row["member"], kind) not in found:
                    found[key, row["member"], kind] = (
                        row["leak"][kind][score],
                        row["accuracy"][kind],
                        numbers.setdefault(key, len(numbers)),
                        row["member"],
                        place,
                    )
    columns = list(zip(*found.values(), strict=True)) or [()] * 5
    contained = [[key in sweep.cells.values() for key, _, _ in found] for sweep in sweeps]
    scores, accuracy = (np.array(column, np.float64) for column in columns[:2])
    cell, member, first = (np.array(column, np.int64) for column in columns[2:])
    in_sweep = np.array(contained, bool).reshape(len(sweeps), len(found))
    return Students(scores, accuracy, cell, member, first, in_sweep)


def predictions(found: Students) -> dict[str, Float64[np.ndarray, " n"]]:
    """Predict every student's accuracy from its score, leaving out its sweep or only its cell.

    A fit without a sweep uses no cell of it, even if another sweep contains that cell too. NaN
    where nothing is left to fit.
    """
    by_sweep, by_cell = np.full((2, len(found.scores)), np.nan)
    for place in np.unique(found.sweep):
        left_out, others = found.sweep == place, ~found.in_sweep[place]
        if others.any():
            by_sweep[left_out] = fitted(
                found.scores[others], found.accuracy[others], found.scores[left_out]
            )
    for cell in np.unique(found.cell):
        left_out = found.cell == cell
        if not left_out.all():
            by_cell[left_out] = fitted(
                found.scores[~left_out], found.accuracy[~left_out], found.scores[left_out]
            )
    return {"sweep": by_sweep, "cell": by_cell}


def judge(sweeps: Sequence[Sweep], seed: int = 0) -> list[dict[str, Any]]:
    """Judge how well each score predicts accuracy, by initialisation.

    Returns:
        A row per initialisation (of at least three cells) and score, with Spearman's correlations
        and 95% percentile intervals. `sweep`, `cell`: of accuracy and its prediction with the sweep
        or cell left out; compare these with `chance`, not with 0. `along`, `within`: of score and
        accuracy, ranked within each sweep (where one setting changes) or within each cell.

    Intervals resample both cells and members: students of a cell share its settings, and students
    of a member share its initialisation and often its teacher (Owen, "The pigeonhole bootstrap",
    Annals of Applied Statistics 1 (2007), 386-411).
    """
    judged = []
    for start, kinds in STARTS.items():
        for score in SCORES:
            found = students(sweeps, kinds, score)
            if len(np.unique(found.cell)) < 3:
                continue
            predicted = predictions(found)
            judged.append(
                {
                    "start": start,
                    "score": score,
                    "students": len(found.scores),
                    "cells": len(np.unique(found.cell)),
                    "sweeps": len(np.unique(found.sweep)),
                    "error": _error(predicted["sweep"], found.accuracy),
                    "chance": chance(found, predicted, seed),
                }
                | _correlations(found, predicted, seed)
            )
    return judged


def chance(
    found: Students, predicted: Mapping[str, Float64[np.ndarray, " n"]], seed: int = 0
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
    places = [np.flatnonzero(found.cell == cell) for cell in np.unique(found.cell)]
    permuted: dict[str, list[float]] = {name: [] for name in predicted}
    for _ in range(PERMUTATIONS):
        scores = np.empty_like(found.scores)
        for here, there in enumerate(random.permutation(len(places))):
            given = np.resize(found.scores[places[there]], len(places[here]))
            scores[places[here]] = random.permutation(given)
        for name, values in predictions(replace(found, scores=scores)).items():
            rho = _spearman(values, found.accuracy)
            permuted[name] += [] if rho is None else [rho]
    compared = {}
    for name, rhos in permuted.items():
        rho = _spearman(predicted[name], found.accuracy)
        as_well = None if rho is None else (1 + np.sum(np.array(rhos) >= rho)) / (1 + len(rhos))
        compared[name] = {
            "median": float(np.median(rhos)) if rhos else None,
            "p": None if as_well is None else float(as_well),
        }
    return compared


def _error(predicted: Float64[np.ndarray, " n"], actual: Float64[np.ndarray, " n"]) -> float | None:
    known = np.isfinite(predicted)
    return float(np.abs(predicted - actual)[known].mean()) if known.any() else None


def _correlations(
    found: Students, predicted: Mapping[str, Float64[np.ndarray, " n"]], seed: int
) -> dict[str, Any]:
    random = np.random.Generator(np.random.Philox(key=seed))
    n_cells, n_members = found.cell.max() + 1, found.member.max() + 1
    groups = {"along": found.sweep, "within": found.cell}
    ranks = {
        name: [_centred_ranks(values, group) for values in (found.scores, found.accuracy)]
        for name, group in groups.items()
    }

    def measures(chosen: Int64[np.ndarray, " k"]) -> dict[str, float | None]:
        actual = found.accuracy[chosen]
        rhos = {name: _spearman(values[chosen], actual) for name, values in predicted.items()}
        return rhos | {name: _pearson(a[chosen], b[chosen]) for name, (a, b) in ranks.items()}

    all_students = np.arange(len(found.scores))
    points = measures(all_students)
    drawn: dict[str, list[float]] = {name: [] for name in points}
    for _ in range(RESAMPLES):
        times_cell = np.bincount(random.integers(n_cells, size=n_cells), minlength=n_cells)
        times_member = np.bincount(random.integers(n_members, size=n_members), minlength=n_members)
        times = times_cell[found.cell] * times_member[found.member]
        for name, rho in measures(np.repeat(all_students, times)).items():
            drawn[name] += [] if rho is None else [rho]
    bounds = {
        name: [float(q) for q in np.quantile(drawn[name], (0.025, 0.975))]
        if rho is not None and drawn[name]
        else [None, None]
        for name, rho in points.items()
    }
    return {name: {"rho": rho, "ci95": bounds[name]} for name, rho in points.items()}


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


def audit(paths: Sequence[Path]) -> dict[str, Any]:
    """Read sweeps and judge the leak score across them.

    Raises:
        InputError: a directory is refused, repeated or of another dataset, or cells are too few.
    """
    sweeps = [read_sweep(path) for path in paths]
    if len({path.resolve() for path in paths}) < len(paths):
        raise InputError("runs: a directory is given twice; give each once")
    for sweep in sweeps[1:]:
        if sweep.dataset != sweeps[0].dataset:
            raise InputError(
                f"runs: {sweep.name} is on {sweep.dataset}, {sweeps[0].name} on "
                f"{sweeps[0].dataset}; judge each dataset on its own"
            )
    judged = judge(sweeps)
    if not judged:
        raise InputError("runs: fewer than three cells are done; give more sweeps")
    return {
        "dataset": sweeps[0].dataset,
        "sweeps": {sweep.name: len(sweep.rows) for sweep in sweeps},
        "judged": judged,
    }


def table(results: Mapping[str, Any]) -> Table:
    """Return the judgement as a table, the score chosen beforehand first."""
    rows = sorted(results["judged"], key=lambda row: row["score"] != PRIMARY)
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


def _by_chance(found: Mapping[str, Any]) -> str:
    if found["median"] is None or found["p"] is None:
        return "none"
    return f"{found['median']:+.2f}, p {found['p']:.2f}"
