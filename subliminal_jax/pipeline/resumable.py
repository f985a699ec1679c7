"""A training of members that can be killed anywhere and goes on to the same end, bit for bit.

As `loop.train`, for members that are mapped and whose data lie on the device already. Steps are run
in chunks, each one compiled loop. What a chunk sees is a function of its first step, so a
checkpoint holds the state alone. How often one is written changes nothing but what a kill costs.
On several hosts all make the same calls.
"""

import shutil
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from subliminal_jax.checkpoint import Checkpoints, check_step
from subliminal_jax.errors import RunError
from subliminal_jax.execution import hosts
from subliminal_jax.execution.program import Program
from subliminal_jax.execution.protocol import Execution, MemberFn
from subliminal_jax.interrupt import StopSignals
from subliminal_jax.progress import Progress
from subliminal_jax.train import TrainState


@dataclass(frozen=True, kw_only=True)
class Saving:
    """Where a training's checkpoints are while it is not finished, and how often one is written.

    Attributes:
        directory: theirs alone.
        origin: what the training is made from, as plain values; checkpoints of another are refused.
        seconds: between two; they are written while training goes on.
        keep: how many are kept, so that a damaged one has another behind it.
    """

    directory: Path
    origin: dict[str, Any]
    seconds: float
    keep: int = 2

    def clear(self) -> None:
        """Remove the checkpoints of a training whose outcome is safe."""
        if self.directory.exists():
            shutil.rmtree(self.directory)


@dataclass(frozen=True, kw_only=True)
class Training:
    """What is trained.

    Attributes:
        title: what the progress says is done.
        chunk: of a number of steps, `(state, member, shared) -> (state, losses)` of one member.
        inputs: members and what they share in the chunk that begins at a step and has so many,
            where they are used.
        steps: of the whole training.
        size: steps in a chunk; the last one may have fewer.
        name: of a member, by its place.
        setting: a smaller value of which helps where a loss is not finite.
    """

    title: str
    chunk: Callable[[int], MemberFn]
    inputs: Callable[[int, int], tuple[Any, Any]]
    steps: int
    size: int
    name: Callable[[int], str]
    setting: str


def train_members(
    training: Training, execution: Execution, state: TrainState, saving: Saving
) -> TrainState:
    """Train from the last checkpoint, or from the beginning, to the end.

    Args:
        training: what to train.
        execution: how.
        state: before the first step, every leaf with a leading member axis; consumed.
        saving: where checkpoints are kept; they stay until `saving.clear()`.

    Returns:
        The state after the last step, as it is placed.

    Raises:
        RunError: a loss is not finite; names member and step. The last checkpoint stays.
        InputError: the checkpoints are refused, or the disk is full.
        Stopped: SIGTERM or SIGINT came. The state is saved.
    """
    checkpoints = Checkpoints(saving.directory, saving.origin, keep=saving.keep, background=True)
    step, state = checkpoints.restore(_form(state)) or (0, state)
    check_step(saving.directory, step, execution.fetch(state.step))
    programs: dict[int, Program] = {}
    saved, silent = time.monotonic(), not hosts.is_first()
    with (
        StopSignals() as signals,
        Progress(training.steps, training.title, done=step, silent=silent) as progress,
        closing(checkpoints),
    ):
        while step < training.steps:
            size = min(training.size, training.steps - step)
            if size not in programs:
                programs[size] = Program(training.chunk(size), execution)
            state, found = programs[size](state, *training.inputs(step, size))
            losses = execution.fetch(found)
            _check_finite(training, losses, step)
            step += size
            progress.update(size, f"loss {losses[:, -1].mean():.3f}")
            checkpoints.check()
            stop = hosts.any_says(signals.noted is not None)
            late = hosts.from_first(time.monotonic() - saved >= saving.seconds)
            if stop or (late and step < training.steps):
                checkpoints.save(step, state)
                saved = time.monotonic()
            if stop:
                checkpoints.wait()
                raise signals.stopped(f"step {step} of {training.steps}")
    return state


def _form(state: TrainState) -> TrainState:
    """Shapes, types and places of a state, but no numbers."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), state
    )


def _check_finite(training: Training, losses: np.ndarray, first: int) -> None:
    """Refuses a chunk with a loss that is not finite, `[members, size]`."""
    for member, step in np.argwhere(~np.isfinite(losses))[:1]:
        raise RunError(
            f"{training.name(member)}: the loss is {losses[member, step]} at step {first + step}; "
            f"a smaller {training.setting} usually helps"
        )
