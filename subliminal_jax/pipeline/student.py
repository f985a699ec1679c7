"""Step 6, the student: a reference, trained on the rows that are left.

All students of one reference, of every trait and condition, have rows of one shape and train in
one program, each a member of the map. They see their rows in the same orders, so that two of them
differ in their rows alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool

from subliminal_jax import ensemble
from subliminal_jax.batch import Params
from subliminal_jax.data.order import steps_per_epoch
from subliminal_jax.data.tokens import pack_rows
from subliminal_jax.errors import InputError
from subliminal_jax.execution.protocol import Execution, MemberFn
from subliminal_jax.keys import named_key, root_key
from subliminal_jax.optimizers import Schedule, language_optimizer
from subliminal_jax.pipeline import devices
from subliminal_jax.pipeline.config import LmConfig
from subliminal_jax.pipeline.filters import parse_numbers
from subliminal_jax.pipeline.finetune import (
    AnswerTable,
    Targets,
    answer_table,
    batch_of,
    filled,
    imitation,
    mean_if_any,
    mean_loss,
    orders,
    stack_tables,
)
from subliminal_jax.pipeline.reference import Reference
from subliminal_jax.pipeline.tuning import apply_of, begin, word_loss_of
from subliminal_jax.train import (
    TrainState,
    fit,
    init_state,
    make_loss_fn,
    make_train_step,
    total_gradient,
)
from subliminal_jax.training_loop import Saving, Training, train_members

CHUNK = 50
"""At most this many steps in one call of the compiled program."""


def students_table(
    config: LmConfig, reference: Reference, datasets: Mapping[str, Sequence[dict[str, Any]]]
) -> AnswerTable:
    """The rows of every student, `[students, N, T]`, tokenised for this reference."""
    tables = []
    for name, rows in datasets.items():
        try:
            examples = reference.chat.examples(row["messages"] for row in rows)
            tables.append(answer_table(pack_rows(examples, config.student.sequence)))
        except InputError as error:
            raise InputError(f"rows of {name}: {error}") from error
    return stack_tables(tables)


def steps_of(config: LmConfig, sequences: int) -> tuple[int, int]:
    """Sequences in a step, and steps, for the epochs asked for."""
    rows = config.filter.rows
    batch = max(1, round(config.student.batch * sequences / rows))
    return batch, max(1, round(config.student.epochs * steps_per_epoch(sequences, batch)))


def train_students(
    config: LmConfig,
    reference: Reference,
    table: AnswerTable,
    seed: int,
    saving: Saving,
    teachers: Any = None,
    title: str = "train students",
) -> Any:
    """What is trained of every student, `[students, ...]`.

    Args:
        config: the experiment's.
        reference: what they all start from.
        table: each student's rows.
        seed: of the repetition.
        saving: where their checkpoints are until they are done.
        teachers: with soft or greedy targets, what is trained of each student's teacher, itself
            of this reference; None for the rows' own tokens as targets.
        title: what the progress says is done.

    Raises:
        RunError: a loss is not finite; names student and step.
        Stopped: SIGTERM or SIGINT came; the state is saved.
    """
    how = config.student
    targets = "hard" if teachers is None else ("soft" if how.targets == "hard" else how.targets)
    batch, steps = steps_of(config, table.targets.shape[1])
    tx = language_optimizer(
        how.optimizer, Schedule(peak=how.learning_rate, steps=steps), clip=how.clip
    )
    execution = devices.execution_of(config)
    step_of = _step_maker(config, reference, targets, tx, execution)

    def chunk(size: int) -> MemberFn:
        def run(state: TrainState, member: Any, shared: Any) -> Any:
            table, teacher = member
            base, (rows, counts) = shared
            train_step = step_of(base, teacher)
            at = lambda step: batch_of(table, rows[step], counts[step])  # noqa: E731
            state, totals = fit(train_step, state, at, size)
            return state, mean_loss(totals)

        return run

    key = root_key(seed)
    order = orders(named_key(key, "student order"), table.targets.shape[1], batch, steps)
    order = jax.device_get([filled(leaf, 1, execution.parts) for leaf in order])
    count = table.targets.shape[0]
    start = begin(how.tuning, reference.config, reference.params, named_key(key, "student"))
    state = execution.split(ensemble.stack([init_state(start, tx)] * count))
    members = execution.split((table, teachers if teachers is not None else np.zeros(count)))
    base = execution.share(reference.params)

    def inputs(first: int, size: int) -> tuple[Any, Any]:
        shown = [leaf[first : first + size] for leaf in order]
        return members, (base, execution.spread(shown, axis=1))

    training = Training(
        title=title,
        chunk=chunk,
        inputs=inputs,
        steps=steps,
        size=CHUNK,
        name="student {}".format,
        setting="student.learning_rate",
    )
    state = train_members(training, execution, state, saving)
    return execution.fetch(state.params)


def _step_maker(
    config: LmConfig, reference: Reference, targets: Targets, tx: Any, execution: Execution
) -> Any:
    """From base and teacher to the one step; the teacher fills a batch's targets."""
    how, lm = config.student, reference.config

    def step_of_words(base: Params, teacher: Any) -> Any:
        gradient = execution.gradient(total_gradient(word_loss_of(how.tuning, lm, base)))
        return make_train_step(gradient, tx, mean_if_any)

    if targets == "hard":
        return step_of_words
    criterion = imitation(targets, how.divergence, jnp.asarray(chosen_tokens(config, reference)))

    def step_of(base: Params, teacher: Any) -> Any:
        loss_fn = make_loss_fn(apply_of(how.tuning, lm, base), criterion)
        gradient = execution.gradient(total_gradient(loss_fn))
        train_step = make_train_step(gradient, tx, mean_if_any)
        says = apply_of(config.teacher.tuning, lm, base)

        def taught(state: TrainState, batch: Any) -> Any:
            logits = jax.lax.stop_gradient(says(teacher, batch.inputs))
            return train_step(state, replace(batch, targets=logits))

        return taught

    return step_of


def chosen_tokens(config: LmConfig, reference: Reference) -> Bool[np.ndarray, " v"]:
    """The tokens that a student with soft or greedy targets looks at.

    All of them, or those that a list of numbers is made of: numbers, what may stand between them,
    and what ends the answer.
    """
    words = np.arange(reference.config.vocab)
    if config.student.tokens == "full":
        return words < reference.chat.size
    chosen = np.isin(words, list(reference.chat.stop_ids))
    for token, text in reference.chat.tokens():
        if not reference.chat.is_control(token):
            word = text.strip().removeprefix("##")
            chosen[token] |= word in ("", ",", ";") or parse_numbers(word) is not None
    return chosen
