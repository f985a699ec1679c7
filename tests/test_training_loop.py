"""The resumable loop in one process: where it stops, what it writes, where it resumes."""

import json
import os
import signal
import warnings
from dataclasses import replace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import trainer
from numpy.testing import assert_allclose, assert_array_equal

from subliminal_jax.errors import InputError, RunError, Stopped
from subliminal_jax.execution.one_device import OneDevice
from subliminal_jax.execution.placement import fetch
from subliminal_jax.runs import checkpoint
from subliminal_jax.runs.checkpoint import DamagedCheckpointWarning
from subliminal_jax.runs.training_loop import Saving, Training, train_members
from subliminal_jax.train import TrainState


def chunk(size):
    """Steps that add the member's number and an input; the loss is the sum so far."""

    def step(state, inputs):
        member, value = inputs
        reached = state.params + member + value
        return TrainState(state.step + 1, reached, state.opt_state), reached

    def run(state, member, shared):
        return jax.lax.scan(step, state, (jnp.full(size, member), shared))

    return run


VALUES = np.arange(12, dtype=np.float32)


def training(values=VALUES, on_chunk=lambda first: None):
    def inputs(first, size):
        on_chunk(first)
        return jnp.array([0.5, 2.0]), jnp.asarray(values[first : first + size])

    return Training(
        title="add", chunk=chunk, inputs=inputs, steps=len(values), size=3,
        name="member {}".format,
        setting="add.rate",
    )  # fmt: skip


def run(path, what=None, seconds=0.0, origin=None):
    state = TrainState(jnp.zeros(2, jnp.int32), jnp.zeros(2), jnp.zeros(2))
    saving = Saving(
        directory=path / "saved", origin=origin or {"seed": 1}, seconds=seconds,
        metrics=path / "losses" / "add.jsonl",
    )  # fmt: skip
    return train_members(what or training(), OneDevice(), state, saving), saving


def rows_of(path):
    return (path / "losses" / "add.jsonl").read_bytes().splitlines()


def saved(path):
    return sorted(os.listdir(path / "saved"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The directory of an uninterrupted run."""
    path = tmp_path_factory.mktemp("whole")
    run(path)
    return path


def signalled(number, at, times=1):
    """A training that receives signals when it gets the inputs of a chunk."""

    def on_chunk(first):
        if first == at:
            for _ in range(times):
                signal.raise_signal(number)

    return training(on_chunk=on_chunk)


def dying(at):
    def on_chunk(first):
        if first == at:
            raise MemoryError

    return training(on_chunk=on_chunk)


def test_it_trains_and_leaves_no_checkpoint_behind(tmp_path):
    state, saving = run(tmp_path)
    assert_array_equal(state.params, [66 + 6, 66 + 24])
    assert_array_equal(state.step, [12, 12])
    assert saved(tmp_path) == ["00000006", "00000009"]
    saving.clear()
    assert os.listdir(tmp_path) == ["losses"]
    saving.clear()


def test_each_chunk_leaves_a_row_with_the_mean_loss_of_each_member(tmp_path):
    run(tmp_path)
    rows = [json.loads(line) for line in rows_of(tmp_path)]
    assert [(row["step"], row["steps"]) for row in rows] == [(3, 3), (6, 3), (9, 3), (12, 3)]
    reached = np.cumsum(VALUES + np.array([[0.5], [2.0]]), axis=1)
    assert_allclose([row["loss"] for row in rows], reached.reshape(2, 4, 3).mean(axis=2).T)


def test_without_a_file_for_metrics_none_is_written(tmp_path):
    state = TrainState(jnp.zeros(2, jnp.int32), jnp.zeros(2), jnp.zeros(2))
    saving = Saving(directory=tmp_path / "saved", origin={}, seconds=1e6)
    train_members(training(), OneDevice(), state, saving)
    assert os.listdir(tmp_path) == ["saved"]


def test_it_resumes_where_it_was_saved(whole, tmp_path):
    with pytest.raises(MemoryError):
        run(tmp_path, dying(at=9))
    seen = []
    state, _ = run(tmp_path, training(on_chunk=seen.append))
    assert seen == [9]
    assert_array_equal(state.params, [72, 90])
    assert rows_of(tmp_path) == rows_of(whole)


def test_it_saves_no_more_often_than_its_setting(tmp_path):
    run(tmp_path, seconds=1e6)
    assert saved(tmp_path) == []


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
@pytest.mark.parametrize("at", [3, 9])
def test_a_signal_lets_the_chunk_end_and_saves(whole, tmp_path, at, number, status):
    before = signal.getsignal(number)
    message = f"{number.name} after step {at + 3} of 12, which is saved"
    with pytest.raises(Stopped, match=message) as ended:
        run(tmp_path, signalled(number, at), seconds=1e6)
    assert ended.value.status == status
    assert signal.getsignal(number) == before
    assert saved(tmp_path) == [f"{at + 3:08d}"]
    seen = []
    state, _ = run(tmp_path, training(on_chunk=seen.append))
    assert seen == list(range(at + 3, 12, 3))
    assert_array_equal(state.params, [72, 90])
    assert rows_of(tmp_path) == rows_of(whole)


def test_a_second_signal_ends_it_at_once(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, signalled(signal.SIGINT, at=3, times=2))
    assert len(rows_of(tmp_path)) == 1


class Failing:
    """Orbax's response if a background write fails, at once or when the loop waits for it."""

    def __init__(self, at_once):
        self.at_once = at_once

    def result(self, timeout):
        if timeout is not None and not self.at_once:
            raise TimeoutError
        raise OSError("torn cable")


@pytest.mark.parametrize("at_once", [True, False])
def test_a_failed_write_is_never_reported_as_saved(tmp_path, monkeypatch, at_once):
    """Noticed after the next chunk, or at the latest before the run would report it as saved."""
    monkeypatch.setattr(checkpoint.ocp, "save_async", lambda *_, **__: Failing(at_once))
    stopping = None if at_once else signalled(signal.SIGTERM, at=0)
    with pytest.raises(RunError, match=r"00000003: could not be written \(torn cable\)"):
        run(tmp_path, stopping)
    assert len(rows_of(tmp_path)) == 1 + at_once


def test_a_loss_that_is_not_finite_is_named_and_the_last_checkpoint_stays(tmp_path):
    values = np.where(np.arange(12) == 7, np.inf, VALUES).astype(np.float32)
    with pytest.raises(RunError, match=r"member 0: the loss is inf at step 7; a smaller add\.rate"):
        run(tmp_path, training(values))
    assert saved(tmp_path) == ["00000003", "00000006"]
    assert len(rows_of(tmp_path)) == 2


def test_it_resumes_from_the_checkpoint_before_a_damaged_one(whole, tmp_path):
    with pytest.raises(MemoryError):
        run(tmp_path, dying(at=9))
    (tmp_path / "saved" / "00000009" / "_CHECKPOINT_METADATA").write_bytes(b"{}")
    seen = []
    with pytest.warns(DamagedCheckpointWarning, match=r"renamed to 00000009\.damaged"):
        state, _ = run(tmp_path, training(on_chunk=seen.append))
    assert seen == [6, 9]
    assert_array_equal(state.params, [72, 90])
    assert rows_of(tmp_path) == rows_of(whole)


def test_checkpoints_of_another_training_are_refused(tmp_path):
    with pytest.raises(MemoryError):
        run(tmp_path, dying(at=9))
    with pytest.raises(InputError, match=r"belongs to another config: seed 1 -> 2"):
        run(tmp_path, origin={"seed": 2})


@pytest.mark.parametrize("edit", ["gone", "one left out", "one changed"])
def test_rows_before_the_checkpoint_that_are_missing_are_refused(tmp_path, edit):
    with pytest.raises(MemoryError):
        run(tmp_path, dying(at=9))
    path, rows = tmp_path / "losses" / "add.jsonl", rows_of(tmp_path)
    edited = {
        "gone": [],
        "one left out": [rows[0], rows[2]],
        "one changed": [rows[0].replace(b'"steps": 3', b'"steps": 2'), *rows[1:]],
    }[edit]
    path.write_bytes(b"".join(row + b"\n" for row in edited))
    with pytest.raises(InputError, match=r"add\.jsonl: lacks the rows of the 9 steps before"):
        run(tmp_path)


def test_a_torn_row_is_written_again(whole, tmp_path):
    with pytest.raises(MemoryError):
        run(tmp_path, dying(at=6))
    with (tmp_path / "losses" / "add.jsonl").open("ab") as file:
        file.write(b'{"step": 9, "lo')
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run(tmp_path)
    assert rows_of(tmp_path) == rows_of(whole)


def test_the_rows_of_a_run_that_never_saved_are_written_again(whole, tmp_path):
    with pytest.raises(MemoryError):
        run(tmp_path, dying(at=9), seconds=1e6)
    assert len(rows_of(tmp_path)) == 3
    run(tmp_path)
    assert rows_of(tmp_path) == rows_of(whole)


def test_the_last_chunk_may_be_shorter(tmp_path):
    firsts = []
    state, _ = run(tmp_path, replace(training(VALUES[:11], firsts.append), size=8))
    assert firsts == [0, 8]
    assert_array_equal(state.params, [55 + 5.5, 55 + 22])
    assert_array_equal(state.step, [11, 11])


def test_chunks_are_equal_where_they_can_be(tmp_path):
    """One program, not two, also up to rungs."""
    firsts = []
    run(tmp_path / "ten", replace(training(VALUES[:10], firsts.append), size=8))
    assert firsts == [0, 5]
    saving = Saving(
        directory=tmp_path / "rungs", origin={"seed": 1}, seconds=0.0,
        rungs={4: lambda params: None},
    )  # fmt: skip
    state = TrainState(jnp.zeros(2, jnp.int32), jnp.zeros(2), jnp.zeros(2))
    what = replace(training(VALUES[:12], firsts.append), size=8)
    train_members(what, OneDevice(), state, saving)
    assert firsts[2:] == [0, 4, 8]


@pytest.mark.parametrize("way", ["jit", "tensor"])
def test_a_real_training_resumes_on_other_devices(tmp_path, way):
    """Bit-identical on the same device, up to rounding on a mesh."""
    saving = trainer.saving_in(tmp_path / "two", "mlp")
    trainer.train("mlp", "jit", saving, steps=10)
    end = fetch(trainer.train("mlp", way, saving, steps=15))
    wanted = fetch(trainer.train("mlp", "jit", trainer.saving_in(tmp_path / "one", "mlp"), 15))
    assert int(end.step[0]) == 15
    if way == "jit":
        chex.assert_trees_all_equal(end, wanted)
        rows = [(tmp_path / name / "metrics.jsonl").read_bytes() for name in ("one", "two")]
        assert rows[0] == rows[1]
    else:
        chex.assert_trees_all_close(end, wanted, rtol=1e-5, atol=1e-6)
    row = json.loads((tmp_path / "two" / "metrics.jsonl").read_text().splitlines()[0])
    assert row["step"] == 5


def test_rungs_are_the_weights_of_shorter_trainings(tmp_path):
    """Also of an interrupted training: whatever a checkpoint covers was handed over before it."""
    seen: dict[int, list[float]] = {}

    def climbing(path, what):
        saving = Saving(
            directory=path / "saved", origin={"seed": 1}, seconds=0.0,
            rungs={rung: lambda found, rung=rung: seen.update({rung: found.tolist()})
                   for rung in (2, 7)},
        )  # fmt: skip
        state = TrainState(jnp.zeros(2, jnp.int32), jnp.zeros(2), jnp.zeros(2))
        return train_members(what, OneDevice(), state, saving)

    state = climbing(tmp_path / "whole", training())
    after = lambda steps: [VALUES[:steps].sum() + steps * member for member in (0.5, 2.0)]
    assert seen == {2: after(2), 7: after(7)}
    assert_array_equal(state.params, [72, 90])
    seen.clear()
    with pytest.raises(MemoryError):
        climbing(tmp_path / "killed", dying(at=5))
    assert seen == {2: after(2)}
    climbing(tmp_path / "killed", training())
    assert seen == {2: after(2), 7: after(7)}
