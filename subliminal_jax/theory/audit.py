"""Does the leak score predict across sweeps? Finished students of many sweeps, judged together.

A cell that stands in several sweeps (the one that changes nothing stands in most) is one cell, and
its students are counted once. A whole sweep is left out at a time: what is learnt of the score from
auxiliary counts and noises must tell accuracies along learning rates.
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
from subliminal_jax.sealed import own_row
from subliminal_jax.tables import Table
from subliminal_jax.theory.prediction import DIFFERENT, PRIMARY, SAME, bounded, fitted
from subliminal_jax.theory.sweep_config import FIXED, SweepConfig, cells

ROWS = "cells.jsonl"
SCORES = ("drop", "cosine", "sign_drop", "towards")
STARTS = {"same": SAME, "different": DIFFERENT, "both": SAME + DIFFERENT}
RESAMPLES = 1000
DEALS = 100


@dataclass(frozen=True)
class Sweep:
    """A sweep's directory, read.

    Attributes:
        name: of the directory.
        dataset: what its networks read.
        cells: by name, what identifies a cell in whatever sweep it stands.
        rows: of its cells and members, as many as are done.
    """

    name: str
    dataset: str
    cells: Mapping[str, str]
    rows: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Students:
    """Students of many sweeps, each once.

    Attributes:
        scores: what was known of each before it trained.
        accuracy: what it ended as.
        cell: its cell, by number.
        member: its member.
        sweep: the first sweep that its cell stands in, by number.
        stands: whether its cell stands in a sweep, `[sweeps, n]`.
    """

    scores: Float64[np.ndarray, " n"]
    accuracy: Float64[np.ndarray, " n"]
    cell: Int64[np.ndarray, " n"]
    member: Int64[np.ndarray, " n"]
    sweep: Int64[np.ndarray, " n"]
    stands: Bool[np.ndarray, "s n"]


def read_sweep(path: Path) -> Sweep:
    """Read what a sweep has written, finished or not; nothing is changed there.

    Raises:
        InputError: it is no sweep's directory, or a row is not one of its own.
    """
    if not (path / ROWS).is_file() or not (path / "config.json").is_file():
        raise InputError(f"{path}: no directory of a sweep (it lacks config.json or {ROWS})")
    config = read_config(SweepConfig, path / "config.json")
    run = config_digest(parse_json((path / "config.json").read_bytes()))
    free = lambda one: {k: v for k, v in config_dict(one).items() if k not in FIXED}  # noqa: E731
    known = {c.name: config_digest(free(c.config) | {"seed": config.seed}) for c in cells(config)}
    rows: list[Mapping[str, Any]] = []
    text = (path / ROWS).read_bytes()
    whole = text[: text.rfind(b"\n") + 1]  # the last row may be being written just now
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
    """All students of these kinds, each once however many sweeps its cell stands in."""
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
    stands = [[key in sweep.cells.values() for key, _, _ in found] for sweep in sweeps]
    scores, accuracy = (np.array(column, np.float64) for column in columns[:2])
    cell, member, first = (np.array(column, np.int64) for column in columns[2:])
    placed = np.array(stands, bool).reshape(len(sweeps), len(found))
    return Students(scores, accuracy, cell, member, first, placed)


def predictions(found: Students) -> dict[str, Float64[np.ndarray, " n"]]:
    """Every student's accuracy from its score: with its sweep left out, and with its cell alone.

    With a sweep left out, none of the cells that stand in it takes part in the fit.
    """
    by_sweep, by_cell = np.full((2, len(found.scores)), np.nan)
    for place in np.unique(found.sweep):
        asked, others = found.sweep == place, ~found.stands[place]
        if others.any():
            by_sweep[asked] = fitted(
                found.scores[others], found.accuracy[others], found.scores[asked]
            )
    for cell in np.unique(found.cell):
        asked = found.cell == cell
        if not asked.all():
            by_cell[asked] = fitted(
                found.scores[~asked], found.accuracy[~asked], found.scores[asked]
            )
    return {"sweep": by_sweep, "cell": by_cell}


def judge(sweeps: Sequence[Sweep], seed: int = 0) -> list[dict[str, Any]]:
    """How well each score predicts accuracy, by initialisation.

    `sweep` and `cell` are Spearman's correlations of accuracies with what is predicted where the
    sweep or the cell is left out; `along` is that of score and accuracy by their ranks within a
    sweep, all sweeps together: does the score order students where one setting changes? `within` is
    the same within a cell: do members of one cell differ as foreseen? Intervals are the middle
    95% over cells and members drawn again with replacement, both: all students of a cell have its
    settings in common, and a member has its initialisation, often its teacher too, in common in all
    cells, so that neither is independent alone (Owen, "The pigeonhole bootstrap", Annals of
    Applied Statistics 1 (2007), 386-411). What is left out is to be compared with `chance`, not
    with 0; see there.
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
    """What correlations a score has that tells nothing, where sweep or cell is left out.

    Not 0: without the highest cell the others' mean is lower, and without the lowest it is higher,
    so that predictions which know no better go against what is left out. The scores of each cell
    are dealt to another one, and within it to any students.

    Returns:
        For `sweep` and `cell` the `median` over deals, and `p`, the share of deals, the real one
        among them, that do at least as well; None where nothing is predicted.
    """
    random = np.random.Generator(np.random.Philox(key=[seed, 1]))
    places = [np.flatnonzero(found.cell == cell) for cell in np.unique(found.cell)]
    dealt: dict[str, list[float]] = {name: [] for name in predicted}
    for _ in range(DEALS):
        scores = np.empty_like(found.scores)
        for here, there in enumerate(random.permutation(len(places))):
            given = np.resize(found.scores[places[there]], len(places[here]))
            scores[places[here]] = random.permutation(given)
        for name, values in predictions(replace(found, scores=scores)).items():
            rho = _spearman(values, found.accuracy)
            dealt[name] += [] if rho is None else [rho]
    compared = {}
    for name, rhos in dealt.items():
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
        name: [_within(values, group) for values in (found.scores, found.accuracy)]
        for name, group in groups.items()
    }

    def measures(chosen: Int64[np.ndarray, " k"]) -> dict[str, float | None]:
        actual = found.accuracy[chosen]
        rhos = {name: _spearman(values[chosen], actual) for name, values in predicted.items()}
        return rhos | {name: _pearson(a[chosen], b[chosen]) for name, (a, b) in ranks.items()}

    everyone = np.arange(len(found.scores))
    points = measures(everyone)
    drawn: dict[str, list[float]] = {name: [] for name in points}
    for _ in range(RESAMPLES):
        times_cell = np.bincount(random.integers(n_cells, size=n_cells), minlength=n_cells)
        times_member = np.bincount(random.integers(n_members, size=n_members), minlength=n_members)
        times = times_cell[found.cell] * times_member[found.member]
        for name, rho in measures(np.repeat(everyone, times)).items():
            drawn[name] += [] if rho is None else [rho]
    bounds = {
        name: [float(q) for q in np.quantile(drawn[name], (0.025, 0.975))]
        if rho is not None and drawn[name]
        else [None, None]
        for name, rho in points.items()
    }
    return {name: {"rho": rho, "ci95": bounds[name]} for name, rho in points.items()}


def _within(
    values: Float64[np.ndarray, " n"], group: Int64[np.ndarray, " n"]
) -> Float64[np.ndarray, " n"]:
    """Ranks within each group, from 0 to 1, less their mean."""
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
    """Read these sweeps and judge the score over them.

    Raises:
        InputError: a directory is refused, is given twice or is of other data than the first.
    """
    sweeps = [read_sweep(path) for path in paths]
    if len({path.resolve() for path in paths}) < len(paths):
        raise InputError("runs: a directory is given twice; give each once")
    for sweep in sweeps[1:]:
        if sweep.dataset != sweeps[0].dataset:
            raise InputError(
                f"runs: {sweep.name} is of {sweep.dataset}, {sweeps[0].name} of "
                f"{sweeps[0].dataset}; judge them apart"
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
    """The judgement for a reader, the score that was chosen beforehand first."""
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
        "Spearman's correlation of accuracy with its prediction from the score by the other "
        "sweeps, or the other cells (isotonic regression), and that of score and accuracy within a "
        "sweep and within a cell; intervals: bootstrap over cells and members, both drawn again. "
        "Chance: the median correlation of scores that are dealt again among cells, which is below "
        "0 since what is left out moves the others' mean away from it, and p, the share of deals "
        "that do as well. The cosine of trait and distillation gradient was chosen beforehand. "
        "Mean error: with the sweep left out.",
        names=2,
    )


def _by_chance(found: Mapping[str, Any]) -> str:
    if found["median"] is None or found["p"] is None:
        return "none"
    return f"{found['median']:+.2f}, p {found['p']:.2f}"
