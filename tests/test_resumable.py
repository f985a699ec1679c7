"""Members that are trained in chunks: where it stops, what it says, where it goes on."""

import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from subliminal_jax.checkpoint import DamagedCheckpointWarning
from subliminal_jax.errors import InputError, RunError, Stopped
from subliminal_jax.execution.one_device import OneDevice
from subliminal_jax.pipeline.resumable import Saving, Training, train_members
from subliminal_jax.train import TrainState


def chunk(size):
    """Steps that add the member's number and an input; the loss is what is reached."""

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
    saving = Saving(directory=path / "saved", origin=origin or {"seed": 1}, seconds=seconds)
    return train_members(what or training(), OneDevice(), state, saving), saving


def dying(at):
    def on_chunk(first):
        if first == at:
            raise MemoryError

    return training(on_chunk=on_chunk)


def test_it_trains_and_leaves_nothing_behind(tmp_path):
    state, saving = run(tmp_path)
    assert_array_equal(state.params, [66 + 6, 66 + 24])
    assert_array_equal(state.step, [12, 12])
    assert sorted(os.listdir(tmp_path / "saved")) == ["00000006", "00000009"]
    saving.clear()
    assert os.listdir(tmp_path) == []
    saving.clear()


def test_it_goes_on_where_it_was_saved(tmp_path):
    with pytest.raises(MemoryError):
        run(tmp_path, dying(at=9))
    seen = []
    state, _ = run(tmp_path, training(on_chunk=seen.append))
    assert seen == [9]
    assert_array_equal(state.params, [72, 90])


def test_it_saves_no_more_often_than_it_is_told(tmp_path):
    run(tmp_path, seconds=1e6)
    assert os.listdir(tmp_path / "saved") == []


@pytest.mark.parametrize("at", [3, 9])
def test_a_signal_lets_the_chunk_end_and_saves(tmp_path, at):
    def on_chunk(first):
        if first == at:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(
        Stopped, match=f"SIGTERM after step {at + 3} of 12, which is saved"
    ) as ended:
        run(tmp_path, training(on_chunk=on_chunk), seconds=1e6)
    assert ended.value.status == 75
    assert os.listdir(tmp_path / "saved") == [f"{at + 3:08d}"]
    seen = []
    state, _ = run(tmp_path, training(on_chunk=seen.append))
    assert seen == list(range(at + 3, 12, 3))
    assert_array_equal(state.params, [72, 90])


def test_a_loss_that_is_not_finite_is_named_and_the_last_checkpoint_stays(tmp_path):
    values = np.where(np.arange(12) == 7, np.inf, VALUES).astype(np.float32)
    with pytest.raises(RunError, match=r"member 0: the loss is inf at step 7; a smaller add\.rate"):
        run(tmp_path, training(values))
    assert sorted(os.listdir(tmp_path / "saved")) == ["00000003", "00000006"]


def test_where_the_newest_is_damaged_it_goes_on_from_the_one_before(tmp_path):
    with pytest.raises(MemoryError):
        run(tmp_path, dying(at=9))
    (tmp_path / "saved" / "00000009" / "_CHECKPOINT_METADATA").write_bytes(b"{}")
    seen = []
    with pytest.warns(DamagedCheckpointWarning, match=r"renamed to 00000009\.damaged"):
        state, _ = run(tmp_path, training(on_chunk=seen.append))
    assert seen == [6, 9]
    assert_array_equal(state.params, [72, 90])


def test_checkpoints_of_another_training_are_refused(tmp_path):
    with pytest.raises(MemoryError):
        run(tmp_path, dying(at=9))
    with pytest.raises(InputError, match=r"is of another config: seed 1 -> 2"):
        run(tmp_path, origin={"seed": 2})


def test_the_last_chunk_may_be_shorter(tmp_path):
    firsts = []
    state, _ = run(tmp_path, training(VALUES[:11], firsts.append))
    assert firsts == [0, 3, 6, 9]
    assert_array_equal(state.params, [55 + 5.5, 55 + 22])
    assert_array_equal(state.step, [11, 11])
