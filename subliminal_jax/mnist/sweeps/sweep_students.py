"""The students of finished or running sweeps, each once, with what is known of them beforehand.

A cell that occurs in several sweeps (the unchanged one occurs in most) is one cell, and its
students count once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64

from subliminal_jax.config import config_dict, config_digest, read_config
from subliminal_jax.errors import InputError
from subliminal_jax.files import parse_json
from subliminal_jax.mnist.sweeps.config import FIXED, SweepConfig, cells
from subliminal_jax.runs.sealed import own_row

ROWS = "cells.jsonl"
SCORES = ("drop", "cosine", "sign_drop", "towards")


@dataclass(frozen=True)
class Sweep:
    """The contents of a sweep's run directory.

    Attributes:
        name: of the directory.
        dataset: its images.
        cells: by name, what identifies a cell, such as a digest of its settings: equal for equal
            cells of all sweeps.
        rows: one per finished cell and member.
    """

    name: str
    dataset: str
    cells: Mapping[str, str]
    rows: Sequence[Mapping[str, Any]]

    @property
    def digest(self) -> str:
        """The digest of its images, cells and rows."""
        cells, rows = dict(self.cells), list(self.rows)
        return config_digest({"dataset": self.dataset, "cells": cells, "rows": rows})


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


def read_sweeps(paths: Sequence[Path]) -> list[Sweep]:
    """Read the directories of sweeps that can be judged together, without changing them.

    Raises:
        InputError: a directory is refused, repeated or of another dataset, or two have one name.
    """
    sweeps = [read_sweep(path) for path in paths]
    if len({path.resolve() for path in paths}) < len(paths):
        raise InputError("runs: a directory is given twice; give each once")
    for place, sweep in enumerate(sweeps):
        if sweep.name in {other.name for other in sweeps[:place]}:
            raise InputError(f"runs: two directories are named {sweep.name}; rename one")
        if sweep.dataset != sweeps[0].dataset:
            raise InputError(
                f"runs: {sweep.name} is on {sweep.dataset}, {sweeps[0].name} on "
                f"{sweeps[0].dataset}; judge each dataset on its own"
            )
    return sweeps


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
    measured: dict[tuple[str, int, str], tuple[float, float, int, int, int]] = {}
    for place, sweep in enumerate(sweeps):
        for row in sweep.rows:
            key = sweep.cells[row["cell"]]
            for kind in kinds:
                if kind in row["leak"] and (key, row["member"], kind) not in measured:
                    measured[key, row["member"], kind] = (
                        row["leak"][kind][score],
                        row["accuracy"][kind],
                        numbers.setdefault(key, len(numbers)),
                        row["member"],
                        place,
                    )
    columns = list(zip(*measured.values(), strict=True)) or [()] * 5
    contained = [[key in sweep.cells.values() for key, _, _ in measured] for sweep in sweeps]
    scores, accuracy = (np.array(column, np.float64) for column in columns[:2])
    cell, member, first = (np.array(column, np.int64) for column in columns[2:])
    in_sweep = np.array(contained, bool).reshape(len(sweeps), len(measured))
    return Students(scores, accuracy, cell, member, first, in_sweep)
