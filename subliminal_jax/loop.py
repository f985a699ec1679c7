"""A training that can be killed anywhere and goes on to the same end, bit for bit.

Steps are run in chunks, each one compiled loop with one row in metrics.jsonl. What a step sees is
a function of the seed and the step's number, so a checkpoint holds the state alone.
"""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import numpy as np
from jaxtyping import Int
from pydantic import Field

from subliminal_jax.batch import Batch
from subliminal_jax.checkpoint import Checkpoints, check_step
from subliminal_jax.errors import InputError, RunError
from subliminal_jax.execution import hosts
from subliminal_jax.execution.steps import MakeStep, Sharded, fetch
from subliminal_jax.interrupt import StopSignals
from subliminal_jax.progress import Progress
from subliminal_jax.runs import RunDirectory
from subliminal_jax.train import GradFn

CHECKPOINTS, METRICS = "checkpoints", "metrics.jsonl"

Batches: TypeAlias = Callable[[Int[np.ndarray, " steps"], Int[np.ndarray, " rows"]], Batch]
"""`(steps, rows) -> leaves [steps, rows, ...]`: these examples of these steps' global batches.

A pure function, and each host asks for its own rows only.
"""

Count: TypeAlias = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How long to train, and how often to write something down."""

    steps: Count
    """Steps of the whole training."""
    log_every: Count = 10
    """Steps in a chunk, which is one row of metrics.jsonl."""
    save_every: Count = 100
    """Steps between two checkpoints."""
    keep: Count = 2
    """Checkpoints that are kept."""
    background: bool = False
    """Write checkpoints while training goes on."""

    def __post_init__(self) -> None:
        if self.save_every % self.log_every:
            raise InputError(
                f"save_every: {self.save_every} steps are no multiple of log_every = "
                f"{self.log_every}; checkpoints are written between chunks"
            )


@dataclass(frozen=True, kw_only=True)
class Training:
    """What is trained, apart from how it is run.

    Attributes:
        init: makes the state before the first step.
        gradient: gives the gradient of the summed loss.
        make_step: makes the step from it, as `partial(make_train_step, tx=tx)`.
        batches: the data.
    """

    init: Callable[[], Any]
    gradient: GradFn
    make_step: MakeStep
    batches: Batches


def train(
    training: Training,
    execution: Sharded,
    pace: Pace,
    directory: RunDirectory | None,
    config: dict[str, Any],
) -> Any:
    """Train from the newest checkpoint, or from the beginning, to the end.

    Args:
        training: what to train.
        execution: how.
        pace: for how long.
        directory: the run's; None on all hosts but the first, see `hosts.on_first`.
        config: the run's, as plain values; checkpoints of another config are refused.

    Returns:
        The state after the last step, as it is placed.

    Raises:
        RunError: a loss is not finite; names the step. The last checkpoint stays.
        InputError: checkpoints or metrics are refused, or the disk is full.
        Stopped: SIGTERM or SIGINT came. The state is saved.
    """
    place = hosts.from_first("" if directory is None else str(directory.subdirectory(CHECKPOINTS)))
    checkpoints = Checkpoints(Path(place), config, keep=pace.keep, background=pace.background)
    step, state = checkpoints.restore(execution.like(training.init)) or (0, None)
    hosts.on_first(lambda: _cut_metrics(directory, step, pace))
    if state is None:
        state = execution.init(training.init)
    check_step(Path(place), step, fetch(state.step))
    programs: dict[int, Any] = {}
    silent = directory is None
    with (
        StopSignals() as signals,
        Progress(pace.steps, "train", done=step, silent=silent) as progress,
        closing(checkpoints),  # whichever way it ends, what is being written is waited for
    ):
        while step < pace.steps:
            count = min(pace.log_every, pace.steps - step)
            chunk = execution.feed(training.batches(np.arange(step, step + count), execution.rows))
            if count not in programs:
                programs[count] = execution.compile(
                    training.gradient, training.make_step, state, chunk
                )
            state, totals = programs[count](state, chunk)
            row = _row(step, fetch(totals))
            step += count
            if directory is not None:
                directory.append_row(METRICS, row)
            progress.update(count, f"loss {row['loss']:.4g}")
            stop = hosts.any_says(signals.noted is not None)
            if stop or step % pace.save_every == 0 or step == pace.steps:
                checkpoints.save(step, state)
            checkpoints.check()
            if stop and step < pace.steps:
                raise signals.stopped(f"step {step} of {pace.steps}")
    return state


def _row(start: int, totals: Any) -> dict[str, Any]:
    """A row of metrics: the mean loss of the chunk's steps, all of them finite."""
    losses, weight = totals.loss.astype(np.float64), totals.weight.astype(np.float64).sum()
    for place in np.argwhere(~np.isfinite(losses))[:1]:
        raise RunError(
            f"the loss is {losses[tuple(place)]} at step {start + place[0]}, and the last "
            "checkpoint is from before; a smaller learning rate usually helps"
        )
    mean = losses.sum() / weight if weight else 0.0
    return {"step": start + len(losses), "loss": float(mean), "weight": float(weight)}


def _cut_metrics(directory: RunDirectory | None, step: int, pace: Pace) -> None:
    """Remove the rows of steps that are done again, and see that none is missing before them."""
    if directory is None:
        return
    rows = directory.read_rows(METRICS)
    kept = [row for row in rows if isinstance(row.get("step"), int) and row["step"] <= step]
    ends = [*range(pace.log_every, step, pace.log_every), step] if step else []
    if [row["step"] for row in kept] != ends:
        raise InputError(
            f"{directory.path / METRICS}: does not have the rows of all {step} steps that the "
            "checkpoint has behind it; restore the file, or start over with --overwrite"
        )
    if len(kept) < len(rows):
        directory.write_rows(METRICS, kept)
