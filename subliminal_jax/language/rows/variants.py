"""Training rows of every condition: datasets and their shuffled controls."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from subliminal_jax.language.carriers.carrier import Carrier
from subliminal_jax.language.conditions import REGULAR, STUDENT, Condition
from subliminal_jax.language.rows.chat_rows import read_chat_rows
from subliminal_jax.language.rows.shuffles import shuffled

Datasets: TypeAlias = dict[str, list[dict[str, Any]]]
"""Rows by the name of dataset or student."""


def variants(
    conditions: Sequence[Condition],
    carrier: Carrier,
    name: str,
    rows: Sequence[dict[str, Any]],
    seed: int,
    traits: Sequence[str],
) -> Datasets:
    """A teacher's rows, and the shuffled controls that the conditions need, by file name.

    Args:
        conditions: conditions to compare.
        carrier: carrier that defines the pieces to shuffle.
        name: name of the teacher.
        rows: its rows that passed the filter.
        seed: seed of the shuffles.
        traits: names of the traits whose students are trained.
    """
    made: Datasets = {name: list(rows)}
    for condition in conditions:
        used = [trait for trait in traits if condition.source(trait) == name]
        if condition.shuffle is not None and used:
            pieces = partial(carrier.pieces, how=condition.shuffle)
            made[condition.dataset(used[0])] = shuffled(rows, condition.shuffle, pieces, seed)
    return made


def student_datasets(
    conditions: Sequence[Condition],
    targets: str,
    teacher: str,
    traits: Sequence[str],
    sources: Mapping[str, Sequence[tuple[Path, list[str]]]],
) -> dict[str, Datasets]:
    """The rows of every student by its network's name, for `hard` and for `imitated` targets.

    Args:
        conditions: conditions to compare.
        targets: targets of the condition `student`.
        teacher: kind of teachers; prompted ones have no probabilities to imitate.
        traits: names of the traits.
        sources: for the `own` and every `other` reference, the nearest first, the directory of its
            `variants` and the teachers with enough rows.
    """
    found: dict[str, Datasets] = {"hard": {}, "imitated": {}}
    for condition in conditions:
        soft = condition.targets == "soft"
        # With greedy or soft targets, `student` imitates its teacher already.
        without = soft and (targets != "hard" or teacher == "prompted")
        if not condition.trained or without:
            continue
        soft |= condition == STUDENT and targets != "hard"
        names = traits if condition.for_each_trait else [REGULAR]
        for distance, (path, written) in enumerate(sources[condition.reference], start=1):
            for trait in (one for one in names if condition.source(one) in (REGULAR, *written)):
                rows = read_chat_rows(path / f"{condition.dataset(trait)}.jsonl")
                network = condition.network(trait, distance)
                found["imitated" if soft else "hard"][network] = rows
    return found
