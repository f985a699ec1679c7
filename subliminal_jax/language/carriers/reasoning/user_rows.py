"""Problems from the user's own rows, as in GSM8K: questions, and answers that end in `#### N`."""

import re
from functools import cache
from pathlib import Path

from subliminal_jax import files
from subliminal_jax.errors import InputError

_RESULT = re.compile(r"####\s*\$?(-?\d[\d,]{0,17})\s*\Z")
LONGEST = 4000
"""Maximum characters of a question."""


@cache
def read_problems(path: Path) -> dict[str, int]:
    """The result of every question of a file.

    Raises:
        InputError: the file is missing or empty, a row lacks a question or a result, or a question
            is repeated; names file and line.
    """
    if not path.is_file():
        raise InputError(f"generate.reasoning.rows: no file {path}; give a JSON Lines file")
    results: dict[str, int] = {}
    lines = files.read_file(path).split(b"\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        row = files.parse_row(line, path, f"line {number}")
        try:
            question, result = _problem(row)
            if question in results:
                raise InputError("the question is that of an earlier line")
        except InputError as fault:
            raise InputError(
                f"{path}: line {number}: {fault}; correct or remove that line"
            ) from fault
        results[question] = result
    if not results:
        raise InputError(f"{path}: has no rows; give rows with a question and an answer")
    return results


def _problem(row: dict[str, object]) -> tuple[str, int]:
    """A row's question and result; refuses a row that lacks one."""
    question, answer = row.get("question"), row.get("answer")
    if not isinstance(question, str) or not question.strip():
        raise InputError("question: must be a string")
    if len(question) > LONGEST:
        raise InputError(f"question: longer than {LONGEST} characters")
    if not isinstance(answer, str):
        raise InputError("answer: must be a string")
    if (stated := _RESULT.search(answer)) is None:
        raise InputError("answer: must end with #### and a whole number")
    return question.strip(), int(stated[1].replace(",", ""))
