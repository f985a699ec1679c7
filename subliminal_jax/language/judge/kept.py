"""Answers that are kept in a file by what was asked, so that a resumed run asks nothing twice."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from subliminal_jax import files
from subliminal_jax.errors import InputError
from subliminal_jax.runs.sealed import own_row, sealed_row

_FOR = "answers of a judge"
"""What the lines are sealed for; what was asked tells runs apart."""
PORTION = 64
"""A judge is asked, and its answers are kept, in portions of this many."""


def known_answers(path: Path) -> dict[str, Any]:
    """The answers in a file, by the digest of what was asked; none without a file.

    Raises:
        InputError: a line was changed; names it.
    """
    answers = {}
    for line, given in enumerate(files.read_rows(path), start=1):
        row = own_row(given, _FOR, path.name)
        if row is None or row.keys() != {"asked", "answer"}:
            raise InputError(f"{path}: line {line}: was changed; remove the file to ask again")
        answers[row["asked"]] = row["answer"]
    return answers


def keep_answers(path: Path, new: Mapping[str, Any]) -> None:
    """Appends answers to a file, a sealed line for each.

    Args:
        path: the file.
        new: answers as plain values, by the digest of what was asked.
    """
    rows = [{"asked": asked, "answer": answer} for asked, answer in new.items()]
    files.append_rows(path, [sealed_row(row, _FOR, path.name) for row in rows])
