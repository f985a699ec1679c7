"""How reference, teachers and students are trained: networks of one form, in one program.

One pure step, `train.make_train_step`. What differs between them is a loss, a batch at each step
and an optimiser; that is a `Task`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import optax
from jaxtyping import Array

from subliminal_jax.batch import Batch, LossFn
from subliminal_jax.execution.protocol import Execution, MemberFn
from subliminal_jax.language.training.answers import mean_if_any, mean_loss
from subliminal_jax.runs.training_loop import Saving, Training, train_members
from subliminal_jax.train import TrainState, fit, make_train_step, total_gradient


@dataclass(frozen=True, kw_only=True)
class Task:
    """What some networks are trained on.

    Attributes:
        title: what the progress bar shows.
        name: of a network, by its place, for errors.
        setting: the setting to lower where a loss is not finite.
        steps: of the whole training.
        chunk: the most steps in one call of the compiled program; then progress is shown.
        tx: the optimiser.
        loss: `(member, shared) -> loss function`.
        batch: `(member, shared, step) -> batch`; `step` counts from the chunk's first.
        inputs: `(first, size) -> (members, shared)`: what the chunk of `size` steps from step
            `first` reads, where it is used; members have a leading axis `[M, ...]`.
    """

    title: str
    name: Callable[[int], str]
    setting: str
    steps: int
    chunk: int
    tx: optax.GradientTransformation
    loss: Callable[[Any, Any], LossFn]
    batch: Callable[[Any, Any, Array], Batch]
    inputs: Callable[[int, int], tuple[Any, Any]]


def train_networks(task: Task, execution: Execution, states: TrainState, saving: Saving) -> Any:
    """Trains all networks of a task, from their last checkpoint where there is one.

    Args:
        task: what they are trained on.
        execution: where they are trained.
        states: before the first step, `[M, ...]`; consumed.
        saving: where checkpoints are kept until they are trained.

    Returns:
        What was trained of each, `[M, ...]` NumPy arrays, on every host.

    Raises:
        RunError: a loss is not finite; names network and step.
        Stopped: SIGTERM or SIGINT came; the state is saved.
    """

    def chunk(size: int) -> MemberFn:
        def run(state: TrainState, member: Any, shared: Any) -> tuple[TrainState, Array]:
            gradient = execution.gradient(total_gradient(task.loss(member, shared)))
            train_step = make_train_step(gradient, task.tx, mean_if_any)
            state, totals = fit(
                train_step, state, lambda step: task.batch(member, shared, step), size
            )
            return state, mean_loss(totals)

        return run

    training = Training(
        title=task.title,
        chunk=chunk,
        inputs=task.inputs,
        steps=task.steps,
        size=task.chunk,
        name=task.name,
        setting=task.setting,
    )
    trained = train_members(training, execution, execution.split(states), saving)
    return execution.fetch(trained.params)
