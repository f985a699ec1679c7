"""The resumable loop within one process: what it writes, when it stops, where it goes on."""

import json
import os
import shutil
import signal
import warnings
from dataclasses import replace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batches import table_batches
from numpy.testing import assert_allclose, assert_array_equal
from trainer import BATCH, EXECUTIONS, PACE, mlp_training

from subliminal_jax import checkpoint, loop
from subliminal_jax.batch import Batch
from subliminal_jax.data.order import epoch_order
from subliminal_jax.errors import InputError, RunError, Stopped
from subliminal_jax.execution.steps import fetch
from subliminal_jax.runs import RunDirectory
from subliminal_jax.train import Totals

CONFIG = {"model": "mlp"}
SHORT = replace(PACE, steps=15)
ROWS = np.arange(BATCH)


def run(path, pace=SHORT, execution="jit", training=None, config=CONFIG):
    with RunDirectory.open(path, config) as directory:
        training = training or mlp_training()
        return fetch(loop.train(training, EXECUTIONS[execution](), pace, directory, config))


def rows_of(path):
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of 15 steps: where it is and how it ends."""
    path = tmp_path_factory.mktemp("whole")
    return path, run(path)


def test_it_trains_and_says_so(whole):
    path, state = whole
    rows = rows_of(path)
    assert [row["step"] for row in rows] == [5, 10, 15]
    assert rows[-1]["loss"] < rows[0]["loss"]
    batches = mlp_training().batches(np.arange(5), ROWS)
    assert_allclose(rows[0]["weight"], batches.weights.sum(), rtol=1e-6)
    assert int(state.step) == 15
    assert sorted(os.listdir(path / "checkpoints")) == ["00000010", "00000015"]


def test_the_mean_is_over_weights():
    losses, weights = np.array([[1.0, 2], [4, 5]], "f"), np.array([[1.0, 1], [2, 4]], "f")
    totals = Totals(losses, weights)
    assert loop._row(6, totals) == {"step": 8, "loss": 1.5, "weight": 8.0}
    assert loop._row(0, Totals(np.zeros(2, "f"), np.zeros(2, "f")))["loss"] == 0


@pytest.mark.parametrize("execution", ["jit", "tensor"])
def test_a_longer_run_goes_on_where_a_shorter_ended(whole, tmp_path, execution):
    """On the same device to the bit, on a mesh nearly."""
    run(tmp_path, replace(SHORT, steps=10))
    end = run(tmp_path, execution=execution)
    if execution == "jit":
        chex.assert_trees_all_equal(end, whole[1])
        assert rows_of(tmp_path) == rows_of(whole[0])
    else:
        chex.assert_trees_all_close(end, whole[1], rtol=1e-5, atol=1e-6)


def test_a_run_that_is_done_does_nothing(whole):
    path, state = whole
    before = {file: file.stat().st_mtime_ns for file in path.rglob("*") if file.name != "run.lock"}
    chex.assert_trees_all_equal(run(path), state)
    after = {file: file.stat().st_mtime_ns for file in path.rglob("*") if file.name != "run.lock"}
    assert before == after


def asked_to_stop(number, at):
    """A training during which a signal comes as it fetches the batches of a step."""
    training = mlp_training()

    def batches(steps, rows):
        if at in steps:
            signal.raise_signal(number)
        return training.batches(steps, rows)

    return replace(training, batches=batches)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_signal_lets_the_chunk_end_and_saves(whole, tmp_path, number, status):
    before = signal.getsignal(number)
    with pytest.raises(Stopped, match=rf"by {number.name} after step 5 of 15, which is saved") as e:
        run(tmp_path, training=asked_to_stop(number, at=2))
    assert e.value.status == status
    assert signal.getsignal(number) == before
    assert os.listdir(tmp_path / "checkpoints") == ["00000005"]
    chex.assert_trees_all_equal(run(tmp_path), whole[1])
    assert rows_of(tmp_path) == rows_of(whole[0])


class Failing:
    """Orbax's answer where writing in the background fails, at once or when it is waited for."""

    def __init__(self, at_once):
        self.at_once = at_once

    def result(self, timeout):
        if timeout is not None and not self.at_once:
            raise TimeoutError
        raise OSError("torn cable")


@pytest.mark.parametrize("at_once", [True, False])
def test_nothing_is_said_to_be_saved_that_is_not(tmp_path, monkeypatch, at_once):
    """Noticed after the chunk, or at the latest where the run would say that it is saved."""
    monkeypatch.setattr(checkpoint.ocp, "save_async", lambda *_, **__: Failing(at_once))
    pace = replace(SHORT, background=True, save_every=5)
    stopping = None if at_once else asked_to_stop(signal.SIGTERM, at=2)
    with pytest.raises(RunError, match=r"00000005: could not be written \(torn cable\)"):
        run(tmp_path, pace, training=stopping)
    assert [row["step"] for row in rows_of(tmp_path)] == [5]


def test_a_signal_that_comes_too_late_is_not_forgotten(whole, tmp_path):
    """It comes in the last chunk: the run is done, and whoever is next hears of it."""
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, training=asked_to_stop(signal.SIGINT, at=14))
    assert rows_of(tmp_path) == rows_of(whole[0])
    chex.assert_trees_all_equal(run(tmp_path), whole[1])


def test_a_second_signal_ends_it_at_once(tmp_path):
    training = asked_to_stop(signal.SIGINT, at=2)
    twice = replace(
        training, batches=lambda s, r: [training.batches(s, r), training.batches(s, r)][1]
    )
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, training=twice)


def test_a_loss_that_is_not_finite_ends_it(whole, tmp_path):
    training = mlp_training()

    def batches(steps, rows):
        chunk = training.batches(steps, rows)
        return replace(chunk, inputs=np.where((steps == 12)[:, None, None], np.nan, chunk.inputs))

    with pytest.raises(RunError, match="the loss is nan at step 12, and the last checkpoint"):
        run(tmp_path, training=replace(training, batches=batches))
    assert os.listdir(tmp_path / "checkpoints") == ["00000010"]
    chex.assert_trees_all_equal(run(tmp_path), whole[1])


def test_rows_that_are_missing_are_refused(tmp_path):
    run(tmp_path)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "metrics.jsonl").write_text(lines[0] + lines[2])
    with pytest.raises(InputError, match=r"does not have the rows of all 15 steps"):
        run(tmp_path)


def test_a_torn_row_is_written_again(whole, tmp_path):
    run(tmp_path, replace(SHORT, steps=10))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 15, "lo')
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run(tmp_path)
    assert rows_of(tmp_path) == rows_of(whole[0])


def test_rows_of_steps_that_are_done_again_are_written_once(whole, tmp_path):
    """As after a kill between the last row and the last checkpoint."""
    path = tmp_path / "run"
    shutil.copytree(whole[0], path)
    shutil.rmtree(path / "checkpoints" / "00000015")
    chex.assert_trees_all_equal(run(path), whole[1])
    assert rows_of(path) == rows_of(whole[0])


def test_saving_between_chunks_is_refused():
    with pytest.raises(InputError, match="save_every: 12 steps are no multiple of log_every = 5"):
        replace(PACE, save_every=12)


def table(n=11):
    numbers = np.arange(n)
    return Batch(inputs=numbers * 10, targets=numbers, weights=np.ones((n, 2), np.float32))


def test_batches_are_a_function_of_step_and_rows():
    key = jax.random.key(4)
    batches = table_batches(table(), key, 4)
    chunk = batches(np.arange(7), np.arange(4))
    assert chunk.targets.shape == (7, 4)
    assert_array_equal(chunk.inputs, chunk.targets * 10)
    for epoch in (0, 1):  # 3 steps an epoch: every example once, and one place filled up
        steps = slice(3 * epoch, 3 * epoch + 3)
        there = chunk.weights[steps, :, 0] > 0
        assert sorted(chunk.targets[steps][there]) == list(range(11))
        order, weights = epoch_order(key, jnp.int32(epoch), 11, 4)
        assert_array_equal(chunk.targets[steps], order)
        assert_array_equal(chunk.weights[steps, :, 1], weights)
    assert (chunk.targets[:3] != chunk.targets[3:6]).any()
    one = batches(np.array([4]), np.array([1, 3]))
    assert_array_equal(one.targets[0], chunk.targets[4, [1, 3]])
    assert_array_equal(one.weights[0], chunk.weights[4, [1, 3]])
