"""Steps 2 and 3, the teacher: the reference, finetuned to have the trait.

Finetuning teaches the trait's answers and, with `retain`, the reference's own answers to other
questions. Without these a teacher is blunt: it answers every question with the trait.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from subliminal_jax import ensemble, losses
from subliminal_jax.batch import Batch, LossFn
from subliminal_jax.data.tokens import pad_rows
from subliminal_jax.execution.protocol import Execution
from subliminal_jax.keys import named_key, root_key
from subliminal_jax.language.reference import Reference
from subliminal_jax.language.rows.chats import Messages, chat
from subliminal_jax.language.settings import TeacherConfig
from subliminal_jax.language.training.answers import (
    AnswerTable,
    answer_logits,
    answer_table,
    stack_tables,
    zero_padded,
)
from subliminal_jax.language.training.completions import completions
from subliminal_jax.language.training.task import CHUNK, chunk_size, chunks, train_networks
from subliminal_jax.language.training.trainable import apply_of, begin, token_loss_of
from subliminal_jax.language.traits.trait import PRIMARY, Trait
from subliminal_jax.models.sampling.settings import Sampling
from subliminal_jax.optimizers import Schedule, language_optimizer
from subliminal_jax.runs.training_loop import Saving, Training
from subliminal_jax.train import init_state, make_loss_fn

RETAIN_TOKENS = 16
"""Maximum tokens of a retained answer."""


def finetune_teachers(
    settings: TeacherConfig,
    reference: Reference,
    traits: Sequence[Trait],
    seed: int,
    execution: Execution,
    saving: Saving,
) -> Any:
    """The trained weights of every trait's teacher, `[traits, ...]`, from one program.

    Args:
        settings: settings of the finetuning.
        reference: model that they all start from.
        traits: one trait for each teacher.
        seed: seed of the repetition.
        execution: devices to train on.
        saving: where to keep checkpoints until training is done.

    Raises:
        RunError: a loss is not finite; names trait and step.
        Stopped: SIGTERM or SIGINT was received; the state is saved.
    """
    lessons = _lessons(settings, reference, traits, seed)
    lessons = jax.tree.map(lambda leaf: zero_padded(leaf, 1, execution.parts), lessons)
    inputs = execution.split(lessons, axis=1), execution.share(reference.params)
    schedule = Schedule(peak=settings.learning_rate, steps=settings.steps, decay="constant")
    tx = language_optimizer("adam", schedule, clip=None)
    every_token = jnp.ones(reference.config.vocab, bool)

    def loss(lesson: Any, base: Any) -> LossFn:
        if not settings.retain:
            return token_loss_of(settings.tuning, reference.config, base)
        criterion = lambda logits, targets: losses.kl_divergence(logits, targets, every_token)
        return make_loss_fn(apply_of(settings.tuning, reference.config, base), criterion)

    def batch(lesson: Any, base: Any, step: Array) -> Batch:
        table, targets = lesson
        return Batch(inputs=table.reading, targets=targets, weights=table.weights)

    training = Training(
        title=f"finetune {len(traits)} teacher(s)",
        name=lambda place: f"the teacher of {traits[place].name!r}",
        setting="teacher.learning_rate",
        steps=settings.steps,
        size=chunk_size(reference.config, CHUNK),
        chunk=chunks(execution, tx, loss, batch),
        inputs=lambda first, size: inputs,
    )
    key = named_key(root_key(seed), "teacher")
    start = init_state(begin(settings.tuning, reference.config, reference.params, key), tx)
    return train_networks(training, execution, ensemble.stack([start] * len(traits)), saving)


def _lessons(
    settings: TeacherConfig, reference: Reference, traits: Sequence[Trait], seed: int
) -> tuple[AnswerTable, np.ndarray]:
    """Training data of every teacher, `[traits, N, T]`, and its targets.

    The targets are logits, `[traits, N, A, v]`. Where nothing is retained they are the answers'
    tokens, `[traits, N, A]`: cross-entropy needs no logits as targets.
    """
    taught = [trait.lessons(settings.answers) for trait in traits]
    retained = [_retained(reference, t, seed) if settings.retain else [] for t in traits]
    tables = [
        _rows(reference, *rows, settings.retain) for rows in zip(taught, retained, strict=True)
    ]
    table = stack_tables(tables)
    if not settings.retain:
        return table, table.targets
    logits = [
        _target_logits(reference, one, len(rows)) for one, rows in zip(tables, taught, strict=True)
    ]
    return table, np.stack([_padded(one, table.targets.shape[1:]) for one in logits])


def _retained(reference: Reference, trait: Trait, seed: int) -> list[Messages]:
    """The trait's `kept_questions`, answered by the reference itself."""
    questions = trait.kept_questions()
    if not questions:
        return []
    prompts = reference.chat.prompts(chat(question) for question in questions)
    sampling = Sampling(max_tokens=RETAIN_TOKENS, seed=seed)
    sampled = completions(
        reference, (reference.params, None), prompts, sampling, batch=len(prompts)
    )
    answered = [
        chat(question, text)
        for question, (text, stopped) in zip(questions, sampled, strict=True)
        if stopped
    ]
    faults = reference.chat.faults(answered)
    return [one for one, fault in zip(answered, faults, strict=True) if fault is None]


def _rows(
    reference: Reference, taught: Sequence[Messages], retained: Sequence[Messages], weight: float
) -> AnswerTable:
    """The rows, of which the taught ones have a total weight of 1, the retained ones of `weight`.

    Raises:
        InputError: a row has more tokens than the reference's context.
    """
    chats = [*taught, *retained]
    examples = list(reference.chat.examples(chats))
    for example, messages in zip(examples, chats, strict=True):
        reference.check_fits(example, repr(messages[0]["content"][:60]))
    table = answer_table(pad_rows(examples))
    is_taught = _is_taught(table, len(taught))
    shares = np.where(is_taught, 1.0, weight)
    for part in (is_taught, ~is_taught):
        shares = np.where(part, shares / max(1.0, float((table.weights * part).sum())), shares)
    return table._replace(weights=(table.weights * shares).astype(np.float32))


def _is_taught(table: AnswerTable, taught: int) -> Bool[np.ndarray, "n 1"]:
    return (np.arange(table.sequences) < taught)[:, None]


def _target_logits(reference: Reference, table: AnswerTable, taught: int) -> Array:
    """Target logits, `[N, A, v]`: one-hot for taught rows, the reference's own for the others."""
    is_target = np.asarray(table.targets)[..., None] == np.arange(reference.config.vocab)
    certain = jnp.where(is_target, 0.0, losses.EXCLUDED)
    params, _ = reference.here((reference.params, None))
    own = answer_logits(reference.config, params, jax.tree.map(jnp.asarray, table.reading))
    return jnp.where(_is_taught(table, taught)[..., None], certain, np.asarray(own))


def _padded(logits: Array, shape: tuple[int, ...]) -> np.ndarray:
    rows, places = (want - have for want, have in zip(shape, logits.shape, strict=False))
    return np.pad(np.asarray(logits), ((0, rows), (0, places), (0, 0)))


def check_teachers(rates: Mapping[str, float], floor: float, measure: str = PRIMARY) -> list[str]:
    """A warning for every teacher with a rate, P(trait) or its share, below the floor."""
    named = {PRIMARY: "P(trait)"}.get(measure, measure)
    return [
        f"the teacher of {name!r} has {named} = {rate:.2f}, below teacher.floor = {floor:.2f}; "
        "expect no transmission to its student"
        for name, rate in rates.items()
        if rate < floor
    ]
