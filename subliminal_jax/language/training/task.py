"""Trains references, teachers and students: several networks of one shape in one program.

All use one pure step, `train.make_train_step`. They differ in loss, batches and optimiser.
"""

from collections.abc import Callable
from typing import Any

import optax
from jaxtyping import Array

from subliminal_jax.batch import Batch, LossFn
from subliminal_jax.execution.protocol import Execution, MemberFn
from subliminal_jax.language.training.answers import mean_if_any, mean_loss
from subliminal_jax.models.decoder import decoder
from subliminal_jax.models.decoder.config import DecoderConfig
from subliminal_jax.runs.training_loop import Saving, Training, train_members
from subliminal_jax.train import TrainState, fit, make_train_step, total_gradient

CHUNK = 50
"""Maximum steps in one call of the compiled program of a teacher or a student."""
FEW, LARGE = 8, 10_000_000
"""Maximum steps of a model with so many parameters, a step of which may take seconds: progress is
shown and signals are answered between calls."""


def chunk_size(config: DecoderConfig, most: int) -> int:
    """Steps in one call: at most `most`, fewer for a large model."""
    return most if decoder.parameter_count(config) < LARGE else min(most, FEW)


def chunks(
    execution: Execution,
    tx: optax.GradientTransformation,
    loss: Callable[[Any, Any], LossFn],
    batch: Callable[[Any, Any, Array], Batch],
) -> Callable[[int], MemberFn]:
    """A `Training.chunk`: for a number of steps, the function that takes them for one network.

    Args:
        execution: devices to train on.
        tx: optimiser.
        loss: `(member, shared) -> loss function`.
        batch: `(member, shared, step) -> batch`; `step` counts from the start of the chunk.
    """

    def chunk(size: int) -> MemberFn:
        def run(state: TrainState, member: Any, shared: Any) -> tuple[TrainState, Array]:
            gradient = execution.gradient(total_gradient(loss(member, shared)))
            train_step = make_train_step(gradient, tx, mean_if_any)
            state, totals = fit(train_step, state, lambda step: batch(member, shared, step), size)
            return state, mean_loss(totals)

        return run

    return chunk


def train_networks(
    training: Training, execution: Execution, states: TrainState, saving: Saving
) -> Any:
    """Trains several networks, resuming from their last checkpoint.

    Args:
        training: what to train; its steps are `chunks`.
        execution: devices to train on.
        states: initial states, `[M, ...]`; their buffers are consumed.
        saving: where to keep checkpoints until training is done.

    Returns:
        The trained weights, `[M, ...]` NumPy arrays, on every host.

    Raises:
        RunError: a loss is not finite; names network and step.
        Stopped: SIGTERM or SIGINT was received; the state is saved.
    """
    trained = train_members(training, execution, execution.split(states), saving)
    return execution.fetch(trained.params)
