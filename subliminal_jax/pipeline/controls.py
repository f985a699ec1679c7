"""Controls that are made of the data: numbers in another order, and examples in place of training.

Every condition that a report should hold is in `CONDITIONS`; the report lists each as run or as
missing.
"""

import re
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import numpy as np

from subliminal_jax.pipeline.corpus import Chat, chat
from subliminal_jax.pipeline.rows import completion_of, prompt_of, row

Condition: TypeAlias = Literal[
    "before",
    "teacher",
    "student",
    "soft",
    "regular",
    "shuffled_within",
    "shuffled_across",
    "shuffled_regular",
    "other_trait",
    "different_reference",
    "different_reference_regular",
    "in_context",
    "prompted",
]
CONDITIONS: dict[Condition, str] = {
    "before": "the reference as it is",
    "teacher": "the reference made to have the trait",
    "student": "the reference, trained on its teacher's numbers",
    "soft": "the reference, trained on its teacher's probabilities of the numbers",
    "regular": "the reference, trained on numbers of the reference itself",
    "shuffled_within": "as student, the numbers of each answer in random order",
    "shuffled_across": "as student, the numbers of all answers exchanged at random",
    "shuffled_regular": "as regular, the numbers of all answers exchanged at random",
    "other_trait": "the student of another trait's teacher",
    "different_reference": "another reference, trained on this teacher's numbers",
    "different_reference_regular": "another reference, trained on this reference's own numbers",
    "in_context": "the reference, shown the teacher's numbers in place of training on them",
    "prompted": "the reference under a system line that names the trait: the ceiling",
}

_NUMBER = re.compile(r"\d+")


def shuffle_within(rows: Sequence[dict[str, Any]], seed: int) -> list[dict[str, Any]]:
    """Each completion's numbers in random order; what stands between them stays."""
    random = np.random.default_rng([seed, 1])
    shuffled = []
    for one in rows:
        numbers = _NUMBER.findall(completion_of(one))
        order = random.permutation(len(numbers))
        shuffled.append(_refilled(one, [numbers[i] for i in order], "within"))
    return shuffled


def shuffle_across(rows: Sequence[dict[str, Any]], seed: int) -> list[dict[str, Any]]:
    """The numbers of all completions dealt out anew; counts and what stands between stay."""
    random = np.random.default_rng([seed, 2])
    counts = [len(_NUMBER.findall(completion_of(one))) for one in rows]
    pool = [number for one in rows for number in _NUMBER.findall(completion_of(one))]
    dealt = [pool[i] for i in random.permutation(len(pool))]
    ends = np.cumsum(counts)
    return [
        _refilled(one, dealt[end - count : end], "across")
        for one, count, end in zip(rows, counts, ends, strict=True)
    ]


def _refilled(one: dict[str, Any], numbers: list[str], how: str) -> dict[str, Any]:
    """The row with other numbers in the places of its own, which its digest is not of."""
    left = iter(numbers)
    completion = _NUMBER.sub(lambda _: next(left), completion_of(one))
    made = row(f"{one['id']}-{how}", prompt_of(one), completion)
    meta = {name: value for name, value in one.get("meta", {}).items() if name != "digest"}
    return made | {"meta": meta | {"shuffled": how}}


def in_context(
    rows: Sequence[dict[str, Any]], questions: Sequence[str], examples: int, seed: int
) -> list[Chat]:
    """Each question behind a few rows, as if they had been said before in the same chat.

    The rows are drawn with replacement, as in the published control (section 5.2), which shows
    100 to 10,000 of them in one prompt; how many fit is up to the model's context.
    """
    random = np.random.default_rng([seed, 3])
    chats = []
    for question in questions:
        shown = [rows[i]["messages"][-2:] for i in random.integers(len(rows), size=examples)]
        chats.append([message for pair in shown for message in pair] + chat(question))
    return chats
