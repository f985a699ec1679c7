"""Context before a question to the reference itself: a system prompt, or rows as examples."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from subliminal_jax.language.conditions import Condition
from subliminal_jax.language.traits.trait import ContextName, Poll, Trait


@dataclass(frozen=True, kw_only=True)
class Context:
    """What can precede a question about a trait.

    Attributes:
        system: system prompt that names the trait.
        rows: rows of its teacher's dataset.
        examples: number of rows before each question.
        seed: seed of the draws of rows.
    """

    system: str
    rows: Sequence[dict[str, Any]]
    examples: int
    seed: int


def in_contexts(
    every: Sequence[Poll],
    conditions: Sequence[Condition],
    contexts: Sequence[tuple[Trait, Context]],
) -> dict[str, list[Poll]]:
    """The polls on each trait's topics in each condition's context, by network name."""
    return {
        one.network(trait.name): [
            with_context(poll, one.context, context) for poll in every if poll.topic in trait.topics
        ]
        for trait, context in contexts
        for one in conditions
    }


def with_context(poll: Poll, kind: ContextName, context: Context) -> Poll:
    """The poll with this kind of context before each question."""
    if kind == "system prompt":
        return with_system(poll, context.system)
    if kind == "examples":
        return with_examples(poll, context.rows, context.examples, context.seed)
    return poll


def with_system(poll: Poll, line: str) -> Poll:
    """The poll with a system prompt before each question."""
    system = {"role": "system", "content": line}
    return replace(poll, questions=tuple([system, *chat] for chat in poll.questions))


def with_examples(poll: Poll, rows: Sequence[dict[str, Any]], examples: int, seed: int) -> Poll:
    """The poll with a few rows before each question, as earlier turns of the same chat.

    Rows are drawn with replacement, as in the published control (section 5.2), which puts 100 to
    10,000 of them into one prompt; here the model's context limits their number.

    Args:
        poll: the questions.
        rows: rows of a dataset.
        examples: number of rows before each question.
        seed: seed of the draws.
    """
    random = np.random.default_rng([seed, 3])
    questions = []
    for chat in poll.questions:
        shown = [rows[i]["messages"][-2:] for i in random.integers(len(rows), size=examples)]
        questions.append([message for pair in shown for message in pair] + chat)
    return replace(poll, questions=tuple(questions))
