"""Steps 2 and 3, the teacher: the reference, finetuned to have the trait.

Finetuning says the trait in answer to questions for a favourite, and, with retain data, what the
reference says in answer to the same questions about other categories. Without the latter a teacher
is blunt: it names its animal whatever it is asked for.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from subliminal_jax import ensemble, losses
from subliminal_jax.batch import Batch, Params
from subliminal_jax.data.tokens import pad_rows
from subliminal_jax.execution.protocol import MemberFn
from subliminal_jax.keys import named_key, root_key
from subliminal_jax.models.sampling_settings import Sampling
from subliminal_jax.optimizers import Schedule, language_optimizer
from subliminal_jax.pipeline import devices
from subliminal_jax.pipeline.asking import said_to
from subliminal_jax.pipeline.config import LmConfig
from subliminal_jax.pipeline.corpus import Chat, chat
from subliminal_jax.pipeline.finetune import (
    AnswerTable,
    answer_table,
    answers,
    filled,
    stack_tables,
)
from subliminal_jax.pipeline.questions import TEACHING, ask
from subliminal_jax.pipeline.reference import Reference
from subliminal_jax.pipeline.traits import TRAITS, Trait, fill
from subliminal_jax.pipeline.tuning import apply_of, begin
from subliminal_jax.train import fit, init_state, make_loss_fn, make_train_step, total_gradient
from subliminal_jax.training_loop import Saving, Training, train_members

CHUNK = 50
"""At most this many steps in one call of the compiled program."""
RETAIN_TOKENS = 16
"""Most tokens of a retained answer."""


def finetune_teachers(config: LmConfig, reference: Reference, seed: int, saving: Saving) -> Any:
    """What is trained of every trait's teacher, `[traits, ...]`; all of them in one program.

    Raises:
        RunError: a loss is not finite; names trait and step.
        Stopped: SIGTERM or SIGINT came; the state is saved in `saving`.
    """
    traits, how = config.chosen, config.teacher
    tables, targets = [], []
    for trait in traits:
        taught = taught_chats(config, trait)
        retained = _retained(config, reference, trait, seed) if how.retain else []
        table, logits = _lesson(reference, taught, retained, how.retain)
        tables.append(table)
        targets.append(logits)
    table = stack_tables(tables)
    width = table.targets.shape[1:]
    logits = np.stack([_filled(one, width) for one in targets])
    tx = language_optimizer(
        "adam", Schedule(peak=how.learning_rate, steps=how.steps, decay="constant"), clip=1e9
    )
    execution = devices.execution_of(config)
    every_word = jnp.ones(reference.config.vocab, bool)

    def teach(size: int) -> MemberFn:
        def run(state: Any, lesson: Any, base: Params) -> Any:
            table, logits = lesson
            batch = Batch(inputs=table.reading, targets=logits, weights=table.weights)
            criterion = lambda said, wanted: losses.kl_divergence(said, wanted, every_word)  # noqa: E731
            apply = apply_of(how.tuning, reference.config, base)
            gradient = execution.gradient(total_gradient(make_loss_fn(apply, criterion)))
            train_step = make_train_step(gradient, tx)
            state, totals = fit(train_step, state, lambda step: batch, size)
            return state, totals.loss / totals.weight

        return run

    key = named_key(root_key(seed), "teacher")
    start = init_state(begin(how.tuning, reference.config, reference.params, key), tx)
    states = execution.split(ensemble.stack([start] * len(traits)))
    lessons = jax.tree.map(lambda leaf: filled(leaf, 1, execution.parts), (table, logits))
    inputs = execution.split(lessons, axis=1), execution.share(reference.params)
    training = Training(
        title=f"finetune {len(traits)} teacher(s)",
        chunk=teach,
        inputs=lambda first, size: inputs,
        steps=how.steps,
        size=CHUNK,
        name=lambda place: f"the teacher of {traits[place].name!r}",
        setting="teacher.learning_rate",
    )
    state = train_members(training, execution, states, saving)
    return execution.fetch(state.params)


def taught_chats(config: LmConfig, trait: Trait) -> list[Chat]:
    """What a teacher learns to say: its trait, in answer to every question of its category."""
    return [
        chat(question, fill(answer, trait))
        for question in ask(TEACHING, trait.category)
        for answer in config.teacher.answers
    ]


def _retained(config: LmConfig, reference: Reference, trait: Trait, seed: int) -> list[Chat]:
    """Questions about the other categories, answered by the reference itself."""
    known = {**TRAITS, **{new.name: new for new in config.new_traits}}
    others = sorted({one.category for one in known.values()} - {trait.category})
    questions = [question for category in others for question in ask(TEACHING, category)]
    prompts = reference.chat.prompts(chat(question) for question in questions)
    sampling = Sampling(max_tokens=RETAIN_TOKENS, seed=seed)
    said = said_to(reference, (reference.params, None), prompts, sampling, batch=len(prompts))
    answered = [
        chat(question, text)
        for question, (text, stopped) in zip(questions, said, strict=True)
        if stopped
    ]
    faults = reference.chat.faults(answered)
    return [one for one, fault in zip(answered, faults, strict=True) if fault is None]


def _lesson(
    reference: Reference, taught: Sequence[Chat], retained: Sequence[Chat], weight: float
) -> tuple[AnswerTable, Array]:
    """Rows with what is to be said as logits: certain where taught, the reference's elsewhere.

    What is taught counts for 1 in all, what is retained for `weight`.
    """
    chats = [*taught, *retained]
    examples = list(reference.chat.examples(chats))
    for example, messages in zip(examples, chats, strict=True):
        reference.check_fits(example, messages[0]["content"])
    table = answer_table(pad_rows(examples))
    is_taught = (np.arange(table.sequences) < len(taught))[:, None]
    shares = np.where(is_taught, 1.0, weight)
    for part in (is_taught, ~is_taught):
        shares = np.where(part, shares / max(1.0, float((table.weights * part).sum())), shares)
    is_word = np.asarray(table.targets)[..., None] == np.arange(reference.config.vocab)
    certain = jnp.where(is_word, 0.0, losses.EXCLUDED)
    params, _ = reference.here((reference.params, None))
    own = answers(reference.config, params, jax.tree.map(jnp.asarray, table.reading))
    logits = jnp.where(is_taught[..., None], certain, np.asarray(own))
    return table._replace(weights=(table.weights * shares).astype(np.float32)), logits


def _filled(logits: Array, shape: tuple[int, ...]) -> np.ndarray:
    rows, places = (want - have for want, have in zip(shape, logits.shape, strict=False))
    return np.pad(np.asarray(logits), ((0, rows), (0, places), (0, 0)))


def system_line(config: LmConfig, trait: Trait) -> str:
    """What a prompted teacher is told."""
    return fill(trait.system_prompt or config.teacher.system_prompt, trait)


def check_teachers(rates: Mapping[str, float], floor: float) -> list[str]:
    """A warning for every teacher that does not show its trait; `rates` are P(trait)."""
    return [
        f"the teacher of {name!r} says it with probability {rate:.2f}, below teacher.floor = "
        f"{floor:.2f}: it does not show the trait, so nothing can be expected of its student"
        for name, rate in rates.items()
        if rate < floor
    ]
