"""The networks of a repetition: its teachers, its students, and the reference in contexts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from subliminal_jax import ensemble
from subliminal_jax.errors import InputError
from subliminal_jax.language.carriers.carrier import Carrier
from subliminal_jax.language.conditions import BEFORE, PROMPTED, REGULAR, TEACHER, trait_of
from subliminal_jax.language.evaluation import told
from subliminal_jax.language.reference import Reference
from subliminal_jax.language.references import References
from subliminal_jax.language.rows.chat_rows import read_chat_rows
from subliminal_jax.language.settings import StudentConfig, Targets, TeacherConfig
from subliminal_jax.language.stages import rung_of
from subliminal_jax.language.training.networks import (
    named_networks,
    trained_networks,
    untrained_network,
)
from subliminal_jax.language.training.student import Imitated, imitated_tokens
from subliminal_jax.language.training.trainable import Network
from subliminal_jax.language.training.trees import load_tree
from subliminal_jax.language.traits.trait import Poll, Trait
from subliminal_jax.runs.artifacts import Artifact, facts_of


@dataclass(frozen=True, kw_only=True)
class Networks:
    """The networks of each repetition, from its artifacts.

    Attributes:
        references: the reference of each repetition.
        teachers: settings of the teachers.
        student: settings of the students.
        examples: rows that the context of a network told by examples has.
        traits: traits to transmit.
        taught: what teachers are taught: the traits, and their control teachers.
        carrier: what teachers write.
    """

    references: References
    teachers: TeacherConfig
    student: StudentConfig
    examples: int
    traits: Sequence[Trait]
    taught: Sequence[Trait]
    carrier: Carrier

    def system(self, name: str) -> str | None:
        """System prompt of a dataset's teacher; None unless the teacher is prompted."""
        if self.teachers.kind == "finetuned" or name == REGULAR:
            return None
        return self.trait(name).system_prompt(self.teachers.system_prompt)

    def trait(self, name: str) -> Trait:
        """The trait or control teacher with this name."""
        return next(trait for trait in self.taught if trait.name == name)

    def teacher(self, reference: Reference, path: Path, name: str) -> Network:
        """Parameters and adapter of a dataset's teacher; the reference's if it is not finetuned."""
        how = self.teachers
        if how.kind == "prompted" or name == REGULAR:
            return untrained_network(self.student.tuning, reference)
        place = [trait.name for trait in self.taught].index(name)
        return trained_networks(how.tuning, reference, path / "teachers.npz", [place])[0]

    def written(self, filtered: Artifact) -> list[str]:
        """Names of the traits and control teachers with enough rows."""
        refused = facts_of(filtered)["refused"]
        return [trait.name for trait in self.taught if trait.name not in refused]

    def of(self, repetition: int, students: Artifact, teachers: Artifact) -> dict[str, Network]:
        """Networks of the repetition by name: `before`, `teacher/owl`, `student/owl`, ..."""
        reference = self.references.of(repetition)
        networks = {BEFORE.name: untrained_network(self.student.tuning, reference)}
        if self.teachers.kind == "finetuned":
            for trait in self.traits:
                name = TEACHER.network(trait.name)
                networks[name] = self.teacher(reference, teachers.path, trait.name)
        return networks | self.students(reference, students)

    def students(
        self, reference: Reference, students: Artifact, rung: int | None = None
    ) -> dict[str, Network]:
        """The students by name, after their training or after some of its updates."""
        files = {
            (students.path / f"{kind}.npz"): names
            for kind, names in facts_of(students)["students"].items()
        }
        named = {rung_of(path, rung): names for path, names in files.items()}
        return named_networks(self.student.tuning, reference, named)

    def prefixed(
        self, every: Sequence[Poll], own: Artifact, repetition: int
    ) -> dict[str, list[Poll]]:
        """Polls of the reference itself with a system prompt or examples, by network name."""
        repetitions = self.references.repetitions
        conditions = [one for one in repetitions.compared(repetition) if one.context != "nothing"]
        if self.teachers.kind == "prompted":
            conditions = list(dict.fromkeys([*conditions, PROMPTED]))
        shown = any(one.context == "examples" for one in conditions)
        written = self.written(own) if conditions else []
        contexts = [
            (trait, told.Context(
                system=trait.system_prompt(self.teachers.system_prompt),
                rows=read_chat_rows(own.path / f"{trait.name}.jsonl") if shown else [],
                examples=self.examples,
                seed=repetitions.seed(repetition),
            ))
            for trait in self.traits
            if trait.name in written
        ]  # fmt: skip
        return told.in_contexts(every, conditions, contexts)

    def imitated(
        self,
        reference: Reference,
        targets: Targets,
        students: Mapping[str, Any],
        teachers: Artifact,
        foreign: Reference | None,
    ) -> Imitated | None:
        """What the students of a cohort imitate, in their order; None for any token.

        Args:
            reference: the students' reference.
            targets: their targets.
            students: students by name.
            teachers: their teachers.
            foreign: the teachers' reference, if it is not the students'.

        Raises:
            InputError: the teachers' reference has another vocabulary than the students'.
        """
        settings, tuning = self.student, self.teachers.tuning
        if targets == "hard":
            if settings.hard_tokens == "full":
                return None
            tokens = imitated_tokens(reference, self.carrier, "carrier")
            nobody = np.zeros(len(students))
            return Imitated(targets="hard", tuning=tuning, trained=nobody, tokens=tokens)
        if foreign is not None and foreign.config.vocab != reference.config.vocab:
            raise InputError(
                "conditions: different_reference_soft needs references of one vocabulary; remove "
                "it, or set reference.other.sigma without a model"
            )
        names = [trait.name for trait in self.taught]
        places = np.array([names.index(trait_of(student)) for student in students])
        trained = load_tree(teachers.path / "teachers.npz")
        return Imitated(
            targets=targets,
            tuning=tuning,
            trained=ensemble.member(trained, places),
            tokens=imitated_tokens(reference, self.carrier, settings.tokens),
            teachers=foreign,
        )
