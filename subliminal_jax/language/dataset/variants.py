"""Training rows of every condition: datasets and their shuffled controls."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from subliminal_jax.language.carriers.carrier import Carrier
from subliminal_jax.language.conditions import REGULAR, Condition
from subliminal_jax.language.rows.chat_rows import read_chat_rows
from subliminal_jax.language.rows.shuffles import shuffled
from subliminal_jax.language.settings import Targets

Datasets: TypeAlias = dict[str, list[dict[str, Any]]]
"""Rows by the name of dataset or student."""


@dataclass(frozen=True)
class Cohort:
    """Students that are trained in one program.

    Attributes:
        name: its name in files.
        targets: what its students imitate.
        distance: how many references further their teachers' reference is, if not tokens but
            teachers of another reference are imitated; 0 for their own.
    """

    name: str
    targets: Targets
    distance: int = 0


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
    targets: Targets,
    teacher: str,
    traits: Sequence[str],
    sources: Mapping[str, Sequence[tuple[Path, list[str]]]],
) -> dict[Cohort, Datasets]:
    """The rows of every student by its network's name, for each cohort.

    Args:
        conditions: conditions to compare.
        targets: targets of students whose condition has the configured ones.
        teacher: kind of teachers; prompted ones have no probabilities to imitate.
        traits: names of the traits.
        sources: for the `own` and every `other` reference, the nearest first, the directory of its
            `variants` and the teachers with enough rows.
    """
    by_cohort: dict[Cohort, Datasets] = {}
    for condition in conditions:
        if not has_students(condition, targets, teacher):
            continue
        names = traits if condition.for_each_trait else [REGULAR]
        for distance, (path, written) in enumerate(sources[condition.reference], start=1):
            trained = by_cohort.setdefault(_cohort(condition, targets, distance), {})
            for trait in (one for one in names if condition.source(one) in (REGULAR, *written)):
                rows = read_chat_rows(path / f"{condition.dataset(trait)}.jsonl")
                trained[condition.network(trait, distance)] = rows
    return {cohort: rows for cohort, rows in by_cohort.items() if rows}


def has_students(condition: Condition, targets: Targets, teacher: str) -> bool:
    """Whether students of a condition are trained; `targets` and `teacher` as above.

    Prompted teachers have no probabilities to imitate. If the configured targets are greedy or
    soft, the usual students imitate their own teachers already.
    """
    if not condition.trained or condition.targets not in ("greedy", "soft"):
        return condition.trained
    return teacher != "prompted" and (targets == "hard" or condition.reference == "other")


def targets_of(condition: Condition, configured: Targets) -> Targets:
    """What a condition's students imitate, by the configured targets."""
    return configured if condition.targets == "configured" else condition.targets


def _cohort(condition: Condition, configured: Targets, distance: int) -> Cohort:
    """The cohort of a condition's students whose rows are from the reference at a distance."""
    targets = targets_of(condition, configured)
    if targets == "soft" and condition.reference == "other":
        name = "foreign" if distance == 1 else f"foreign.{distance}"
        return Cohort(name, targets, distance)
    usual = condition.targets in ("configured", "soft") and targets != "hard"
    return Cohort("imitated" if usual else targets, targets)
