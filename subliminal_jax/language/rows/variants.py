"""The rows of every condition: a dataset with its shuffled controls, in files named after them."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from subliminal_jax.language.carriers.carrier import Carrier
from subliminal_jax.language.conditions import REGULAR, STUDENT, Condition
from subliminal_jax.language.rows.chat_rows import read_chat_rows
from subliminal_jax.language.rows.shuffles import shuffled

Datasets: TypeAlias = dict[str, list[dict[str, Any]]]
"""Rows by name."""


def variants(
    conditions: Sequence[Condition],
    carrier: Carrier,
    name: str,
    rows: Sequence[dict[str, Any]],
    seed: int,
) -> Datasets:
    """A teacher's rows with the shuffled controls that the conditions need, by file name.

    Args:
        conditions: those that are compared.
        carrier: what is shuffled.
        name: the teacher's.
        rows: that passed the filter.
        seed: of the shuffles.
    """
    made: Datasets = {name: list(rows)}
    for condition in conditions:
        if condition.shuffle is not None and condition.source(name) == name:
            pieces = partial(carrier.pieces, how=condition.shuffle)
            made[condition.dataset(name)] = shuffled(rows, condition.shuffle, pieces, seed)
    return made


def student_datasets(
    conditions: Sequence[Condition],
    targets: str,
    teacher: str,
    sources: Mapping[str, tuple[Path, list[str]] | None],
) -> dict[str, Datasets]:
    """The rows of every student by its network's name, for `hard` and for `imitated` targets.

    Args:
        conditions: those that are compared.
        targets: of the condition `student`.
        teacher: how teachers are made; a prompted one has no probabilities to imitate.
        sources: of the `own` and the `other` reference, where its `variants` are and which traits
            have rows; None where there is no other.
    """
    found: dict[str, Datasets] = {"hard": {}, "imitated": {}}
    for condition in conditions:
        source, soft = sources[condition.reference], condition.targets == "soft"
        # Unless its own targets are hard, `student` imitates its teacher already.
        without = soft and (targets != "hard" or teacher == "prompted")
        if not condition.trained or source is None or without:
            continue
        soft |= condition == STUDENT and targets != "hard"
        path, traits = source
        for trait in traits if condition.for_each_trait else [REGULAR]:
            rows = read_chat_rows(path / f"{condition.dataset(trait)}.jsonl")
            found["imitated" if soft else "hard"][condition.network(trait)] = rows
    return found
