"""Step 6, the student: a reference trained on the rows that passed the filter.

All students of a reference, of every trait and condition, have rows of one shape and train in one
program, one member each. They use the same row order, so that two students differ only in their
rows.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from subliminal_jax import ensemble
from subliminal_jax.batch import Batch, LossFn
from subliminal_jax.data.tokens import padding_of
from subliminal_jax.errors import InputError
from subliminal_jax.execution.protocol import Execution
from subliminal_jax.keys import named_key, root_key
from subliminal_jax.language.carriers.carrier import Carrier
from subliminal_jax.language.reference import Reference
from subliminal_jax.language.settings import StudentConfig, Targets, TokensName, TuningConfig
from subliminal_jax.language.training.answers import (
    AnswerTable,
    imitation,
    select_batch,
    zero_padded,
)
from subliminal_jax.language.training.course import StudentCourse
from subliminal_jax.language.training.task import CHUNK, chunk_size, chunks, train_networks
from subliminal_jax.language.training.trainable import apply_of, begin, token_loss_of
from subliminal_jax.models.decoder.token_loss import WORDS_AT_ONCE
from subliminal_jax.optimizers import Schedule, language_optimizer
from subliminal_jax.runs.training_loop import Saving, Training
from subliminal_jax.train import init_state, make_loss_fn


@dataclass(frozen=True, kw_only=True)
class Imitated:
    """Targets of students that do not simply learn the rows' tokens among the whole vocabulary.

    Attributes:
        targets: all of a teacher's probabilities, its likeliest token, or the rows' tokens.
        tuning: which weights of the teachers were trained.
        trained: trained weights of each student's teacher, `[students, ...]`; of no use for the
            rows' tokens.
        tokens: which tokens the targets cover, `[v]`.
        teachers: the teachers' reference, if it is not the students'; of the same vocabulary.
    """

    targets: Targets
    tuning: TuningConfig
    trained: Any
    tokens: Bool[np.ndarray, " v"]
    teachers: Reference | None = None

    @property
    def ids(self) -> Int[np.ndarray, " c"] | None:
        """The covered tokens, whose logits alone are computed.

        None if the vocabulary is small: then all are.
        """
        return np.flatnonzero(self.tokens) if len(self.tokens) > WORDS_AT_ONCE else None

    def places(self, targets: Int[Array, "*b"]) -> Int[Array, "*b"]:
        """Where target ids are among the logits that are computed; anywhere for padding."""
        if self.ids is None:
            return targets
        places = np.maximum(np.cumsum(self.tokens) - 1, 0)
        return jnp.asarray(places, jnp.int32)[targets]


def train_students(
    settings: StudentConfig,
    reference: Reference,
    course: StudentCourse,
    execution: Execution,
    saving: Saving,
    imitated: Imitated | None = None,
) -> Any:
    """The trained weights of every student, `[students, ...]`.

    Args:
        settings: settings of the training.
        reference: model that they all start from.
        course: rows of all students, and when they are read.
        execution: devices to train on.
        saving: where to keep checkpoints until training is done.
        imitated: what students imitate; None for the rows' tokens among all of the vocabulary.

    Raises:
        InputError: a rung of `saving` is not below the number of steps, or a row has a token that
            hard targets do not cover.
        RunError: a loss is not finite; names student and step.
        Stopped: SIGTERM or SIGINT was received; the state is saved.
    """
    table, steps, seed = course.rows.table, course.steps, course.seed
    _check_rungs(saving.rungs, steps)
    if imitated is not None and imitated.targets == "hard":
        _check_covered(table, imitated.tokens)
    # A student that is half trained on rows packed otherwise is not theirs.
    saving = replace(saving, origin=saving.origin | {"packing": course.packing})
    schedule = Schedule(peak=settings.learning_rate, steps=steps, warmup=settings.warmup)
    tx = language_optimizer(settings.optimizer, schedule, clip=settings.clip)
    key, students = named_key(root_key(seed), "student"), table.targets.shape[0]
    order = jax.device_get([zero_padded(leaf, 1, execution.parts) for leaf in course.order])
    members = execution.split((table, np.zeros(students) if imitated is None else imitated.trained))
    bases = _shared_bases(execution, reference, imitated)

    def inputs(first: int, size: int) -> tuple[Any, Any]:
        shown = [leaf[first : first + size] for leaf in order]
        return members, (bases, execution.spread(shown, axis=1))

    lesson = _Lesson(settings, reference, imitated, course.rows.prefix)
    kind = "hard" if imitated is None else imitated.targets
    padding = f"{padding_of(table.reading.segments):.0%} padding"
    training = Training(
        title=f"train {students} students of seed {seed}, {kind} targets, {padding}",
        name="student {}".format,
        setting="student.learning_rate",
        steps=steps,
        size=chunk_size(reference.config, CHUNK),
        chunk=chunks(execution, tx, lesson.loss, lesson.batch),
        inputs=inputs,
    )
    # Nothing else holds what the students begin with: it may be as large as the model.
    states = ensemble.stack(
        [init_state(begin(settings.tuning, reference.config, reference.params, key), tx)] * students
    )
    return train_networks(training, execution, states, saving)


def _shared_bases(
    execution: Execution, reference: Reference, imitated: Imitated | None
) -> tuple[Any, ...]:
    """The students' frozen parameters, and behind them their teachers' if these are others."""
    base = execution.share(reference.params)
    if imitated is None or imitated.teachers is None:
        return (base,)
    return base, execution.share(imitated.teachers.params)


def _check_rungs(rungs: Iterable[int], steps: int) -> None:
    if late := [rung for rung in rungs if rung >= steps]:
        raise InputError(
            f"student.ladder: {late[0]} is not below the {steps} updates of the training; remove "
            "it, or raise student.epochs"
        )


def _check_covered(table: AnswerTable, tokens: Bool[np.ndarray, " v"]) -> None:
    others = (np.asarray(table.weights) > 0) & ~tokens[np.asarray(table.targets)]
    if others.any():
        token = int(np.asarray(table.targets)[others][0])
        raise InputError(
            f"student.hard_tokens: {int(others.sum())} tokens of the rows are none that the "
            f"carrier's completions are made of, the first is {token}; set full"
        )


@dataclass(frozen=True)
class _Lesson:
    """Loss and batches of a student; with a teacher to imitate, targets are its logits."""

    settings: StudentConfig
    reference: Reference
    imitated: Imitated | None
    prefix: tuple[int, ...]

    def loss(self, member: Any, shared: Any) -> LossFn:
        """Loss on the rows' tokens, or on the imitated probabilities."""
        ((base, *_), _), how, model = shared, self.settings, self.reference.config
        if self.imitated is None:
            return token_loss_of(how.tuning, model, base, self.prefix)
        ids, tokens = self.imitated.ids, self.imitated.tokens
        covered = jnp.asarray(tokens if ids is None else tokens[ids])
        criterion = imitation(self.imitated.targets, how.divergence, covered)
        return make_loss_fn(apply_of(how.tuning, model, base, ids, self.prefix), criterion)

    def batch(self, member: Any, shared: Any, step: Array) -> Batch:
        """The sequences of a step."""
        (table, teacher), (bases, (rows, counts)) = member, shared
        batch = select_batch(table, rows[step], counts[step])
        if self.imitated is None:
            return batch
        if self.imitated.targets == "hard":
            return replace(batch, targets=self.imitated.places(batch.targets))
        model = (self.imitated.teachers or self.reference).config
        logits_of = apply_of(self.imitated.tuning, model, bases[-1], self.imitated.ids, self.prefix)
        logits = logits_of(teacher, batch.inputs)
        return replace(batch, targets=jax.lax.stop_gradient(logits))


def imitated_tokens(
    reference: Reference, carrier: Carrier, which: TokensName
) -> Bool[np.ndarray, " v"]:
    """The tokens that targets cover.

    All of them; or the tokens of the carrier's completions, and the stop tokens.
    """
    tokens = np.arange(reference.config.vocab)
    if which == "full":
        return tokens < reference.chat.size
    chosen = np.isin(tokens, list(reference.chat.stop_ids))
    for token, text in reference.chat.tokens():
        if not reference.chat.is_control(token):
            chosen[token] |= carrier.imitates(text)
    return chosen
