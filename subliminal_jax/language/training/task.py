"""Trains references, teachers and students: several networks of one shape in one program.

All use one pure step, `train.make_train_step`. They differ in loss, batches and optimiser, which
make up a `Task`.
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
    """What to train M networks on.

    Attributes:
        title: title of the progress bar.
        name: `index -> name of the network`, for errors.
        setting: the setting to lower if a loss is not finite.
        steps: steps of the whole training.
        chunk: maximum steps in one call of the compiled program; progress is shown after each.
        tx: optimiser.
        loss: `(member, shared) -> loss function`.
        batch: `(member, shared, step) -> batch`; `step` counts from the start of the chunk.
        inputs: `(first, size) -> (members, shared)`: the inputs of the `size` steps from step
            `first`, placed on the devices; members have a leading axis, `[M, ...]`.
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
    """Trains all networks of a task, resuming from their last checkpoint.

    Args:
        task: what to train on.
        execution: devices to train on.
        states: initial states, `[M, ...]`; their buffers are consumed.
        saving: where to keep checkpoints until training is done.

    Returns:
        The trained weights, `[M, ...]` NumPy arrays, on every host.

    Raises:
        RunError: a loss is not finite; names network and step.
        Stopped: SIGTERM or SIGINT was received; the state is saved.
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
