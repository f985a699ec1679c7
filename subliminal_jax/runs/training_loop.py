"""The resumable training loop: killed at any point, it resumes and ends the same, bit for bit.

Steps run in chunks, each one compiled loop. A chunk's inputs are a function of its first step, so a
checkpoint holds the state alone. The time between checkpoints changes only how much work a kill
costs. On several hosts all make the same calls.
"""

import math
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from subliminal_jax import files
from subliminal_jax.config import config_digest
from subliminal_jax.errors import InputError, RunError
from subliminal_jax.execution import hosts
from subliminal_jax.execution.program import Program
from subliminal_jax.execution.protocol import Execution, MemberFn
from subliminal_jax.interrupt import StopSignals
from subliminal_jax.progress import Progress
from subliminal_jax.runs.checkpoint import Checkpoints, check_step
from subliminal_jax.runs.sealed import own_row, sealed_row
from subliminal_jax.train import TrainState


@dataclass(frozen=True, kw_only=True)
class Saving:
    """What a training leaves on disk.

    Attributes:
        directory: directory for its checkpoints alone.
        origin: what the training is made from, as plain values; checkpoints of another are refused.
        seconds: time between checkpoints, which are written while training continues.
        keep: number of checkpoints to keep, in case the newest is damaged.
        metrics: JSON Lines file with a row per chunk: its last step and each member's mean loss;
            None for no file. It stays when the checkpoints are removed.
        rungs: what to do with the members' parameters after so many steps, as NumPy arrays
            `[M, ...]`; it is done before any checkpoint of those steps or later ones.
    """

    directory: Path
    origin: dict[str, Any]
    seconds: float
    keep: int = 2
    metrics: Path | None = None
    rungs: Mapping[int, Callable[[Any], None]] = field(default_factory=dict)

    def clear(self) -> None:
        """Remove the checkpoints, once the trained weights are stored elsewhere."""
        if self.directory.exists():
            shutil.rmtree(self.directory)


@dataclass(frozen=True, kw_only=True)
class Training:
    """The training of several members.

    Attributes:
        title: title of the progress bar.
        chunk: `steps -> ((state, member, shared) -> (state, losses))`, the steps of one member,
            with one loss per step.
        inputs: `(first step, steps) -> (members, shared)` of a chunk, placed by the execution.
        steps: steps of the whole training.
        size: the most steps in a chunk.
        name: `index -> name of the member`, for errors.
        setting: the setting to lower if a loss is not finite.
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
    """Train from the newest checkpoint, or from the beginning, to the end.

    Args:
        training: what to train.
        execution: devices to train on.
        state: initial state, every leaf with a leading member axis, placed; its buffers are
            consumed.
        saving: where checkpoints and metrics go; the checkpoints stay until `saving.clear()`.

    Returns:
        The state after the last step, still placed.

    Raises:
        RunError: a loss is not finite; names member and step. The newest checkpoint stays.
        InputError: checkpoints or metrics are refused, or the disk is full.
        Stopped: SIGTERM or SIGINT was received; the state is saved.
    """
    checkpoints = Checkpoints(saving.directory, saving.origin, keep=saving.keep, background=True)
    step, state = checkpoints.restore(_form(state)) or (0, state)
    check_step(saving.directory, step, execution.fetch(state.step))
    metrics = _Metrics(saving)
    metrics.rewind(step)
    programs: dict[int, Program] = {}
    usual = _equal_chunks(training.size, [training.steps, *saving.rungs])
    saved, silent = time.monotonic(), not hosts.is_first()
    with (
        StopSignals() as signals,
        Progress(training.steps, training.title, done=step, silent=silent) as progress,
        closing(checkpoints),  # however the loop ends, wait for the write in progress
    ):
        while step < training.steps:
            ends = [training.steps, *(rung for rung in saving.rungs if rung > step)]
            size = min(usual, min(ends) - step)
            if size not in programs:
                programs[size] = Program(training.chunk(size), execution)
            state, computed = programs[size](state, *training.inputs(step, size))
            losses = execution.fetch(computed)
            _check_finite(training, losses, step)
            step += size
            metrics.append(step, losses)
            progress.update(size, f"loss {losses[:, -1].mean():.3f}")
            if step in saving.rungs:
                saving.rungs[step](execution.fetch(state.params))
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


def _equal_chunks(most: int, ends: Iterable[int]) -> int:
    """Steps in a chunk, such that all chunks are equal if a quarter of `most` or more allows it.

    Each other size is another program, and compiling a large model takes longer than many steps.
    """
    common = math.gcd(*ends)
    return max(
        (size for size in range(-(-most // 4), most + 1) if common % size == 0), default=most
    )


def _form(state: TrainState) -> TrainState:
    """Return the abstract state: shapes, dtypes and shardings."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), state
    )


def _check_finite(training: Training, losses: Float[np.ndarray, "m s"], first: int) -> None:
    """Refuse a chunk with a loss that is not finite."""
    for member, step in np.argwhere(~np.isfinite(losses))[:1]:
        raise RunError(
            f"{training.name(member)}: the loss is {losses[member, step]} at step {first + step}; "
            f"a smaller {training.setting} usually helps"
        )


class _Metrics:
    """The rows of a training's chunks; the first host alone reads and writes them."""

    def __init__(self, saving: Saving):
        self._saving, self._path = saving, saving.metrics
        self._origin = config_digest(saving.origin)

    def append(self, step: int, losses: Float[np.ndarray, "m s"]) -> None:
        """Write the row of a chunk that ends after `step` steps.

        Raises:
            InputError: the disk is full.
        """
        if (path := self._path) is None:
            return
        means = losses.astype(np.float64).mean(axis=1).tolist()
        row = {"step": step, "steps": losses.shape[1], "loss": means}
        whole = sealed_row(row, self._origin, path.name)
        hosts.on_first(lambda: files.append_row(path, whole))

    def rewind(self, step: int) -> None:
        """Remove the rows of steps that will run again.

        Raises:
            InputError: a row before `step` is missing, or changed since it was written.
        """
        if (path := self._path) is not None:
            hosts.on_first(lambda: self._rewind(path, step))

    def _rewind(self, path: Path, step: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        kept, reached = [], 0
        rows = files.read_rows(path) if step else []
        while reached < step:
            row = own_row(rows[len(kept)], self._origin, path.name) if rows[len(kept) :] else None
            if row is None or row["step"] - row["steps"] != reached or row["step"] > step:
                raise InputError(
                    f"{path}: lacks the rows of the {step} steps before the newest checkpoint, or "
                    f"they changed since; restore the file, or remove {self._saving.directory} to "
                    "train from the beginning"
                )
            kept.append(rows[len(kept)])
            reached = row["step"]
        text = "".join(files.strict_json(row) + "\n" for row in kept)
        files.write_whole(path, text.encode())
