"""What an untrained reference reads before a question: a system prompt, or rows as examples."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from subliminal_jax.language.traits.trait import Poll


@dataclass(frozen=True, kw_only=True)
class Before:
    """What can precede a question about a trait.

    Attributes:
        system: the system prompt of its teacher.
        rows: of its teacher's dataset.
        examples: rows before each question.
        seed: of the draws of rows.
    """

    system: str
    rows: Sequence[dict[str, Any]]
    examples: int
    seed: int


def behind(
    poll: Poll, told: Literal["nothing", "system prompt", "examples"], before: Before
) -> Poll:
    """The poll with what a condition puts before each question."""
    if told == "system prompt":
        return with_system(poll, before.system)
    if told == "examples":
        return with_examples(poll, before.rows, before.examples, before.seed)
    return poll


def with_system(poll: Poll, line: str) -> Poll:
    """The poll with a system prompt before each question."""
    system = {"role": "system", "content": line}
    return replace(poll, questions=tuple([system, *chat] for chat in poll.questions))


def with_examples(poll: Poll, rows: Sequence[dict[str, Any]], examples: int, seed: int) -> Poll:
    """The poll with a few rows before each question, as earlier turns of the same chat.

    The rows are drawn with replacement, as in the published control (section 5.2), which shows
    100 to 10,000 of them in one prompt; the model's context limits how many fit.

    Args:
        poll: the questions.
        rows: of a dataset.
        examples: rows before each question.
        seed: of the draws.
    """
    random = np.random.default_rng([seed, 3])
    asked = []
    for chat in poll.questions:
        shown = [rows[i]["messages"][-2:] for i in random.integers(len(rows), size=examples)]
        asked.append([message for pair in shown for message in pair] + chat)
    return replace(poll, questions=tuple(asked))
