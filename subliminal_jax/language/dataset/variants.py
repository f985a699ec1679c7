"""Training rows of every condition: datasets and their shuffled controls."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from subliminal_jax.language.carriers.carrier import Carrier
from subliminal_jax.language.conditions import REGULAR, Condition
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
    """The rows of every student by its network's name, for each kind of targets.

    Kinds are `hard`; `imitated`, the configured or all of a teacher's probabilities; `greedy`; and
    for every other reference that of `foreign_kind`, all probabilities of its teacher.

    Args:
        conditions: conditions to compare.
        targets: targets of students whose condition has the configured ones.
        teacher: kind of teachers; prompted ones have no probabilities to imitate.
        traits: names of the traits.
        sources: for the `own` and every `other` reference, the nearest first, the directory of its
            `variants` and the teachers with enough rows.
    """
    by_kind: dict[str, Datasets] = {"hard": {}, "imitated": {}, "greedy": {}}
    for condition in conditions:
        if not has_students(condition, targets, teacher):
            continue
        kind = _kind(condition, targets)
        foreign = kind == "imitated" and condition.reference == "other"
        names = traits if condition.for_each_trait else [REGULAR]
        for distance, (path, written) in enumerate(sources[condition.reference], start=1):
            trained = by_kind.setdefault(foreign_kind(distance) if foreign else kind, {})
            for trait in (one for one in names if condition.source(one) in (REGULAR, *written)):
                rows = read_chat_rows(path / f"{condition.dataset(trait)}.jsonl")
                trained[condition.network(trait, distance)] = rows
    return by_kind


def has_students(condition: Condition, targets: str, teacher: str) -> bool:
    """Whether students of a condition are trained; `targets` and `teacher` as above.

    Prompted teachers have no probabilities to imitate. If the configured targets are greedy or
    soft, the usual students imitate their own teachers already.
    """
    if not condition.trained or condition.targets not in ("greedy", "soft"):
        return condition.trained
    return teacher != "prompted" and (targets == "hard" or condition.reference == "other")


def _kind(condition: Condition, targets: str) -> str:
    """Kind of a condition's targets, if its students' references are their teachers'."""
    if condition.targets == "configured":
        return "hard" if targets == "hard" else "imitated"
    return "imitated" if condition.targets == "soft" else condition.targets


def foreign_kind(distance: int) -> str:
    """Kind of targets of students that imitate the teachers of the reference at a distance."""
    return "foreign" if distance == 1 else f"foreign.{distance}"
