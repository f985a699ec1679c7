"""A checkpoint restores exactly what was saved, or is refused."""

import errno
import gc
import os
import shutil
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from disks import small_disk
from numpy.testing import assert_array_equal
from saved_steps import (
    CONFIG,
    LIKE,
    like_on,
    make_state,
    on,
    one_device,
    open_in,
    restored,
    save_two_steps,
)

from subliminal_jax.errors import InputError, RunError
from subliminal_jax.execution.mesh import make_mesh
from subliminal_jax.execution.placement import fetch
from subliminal_jax.runs import checkpoint
from subliminal_jax.runs.checkpoint import Checkpoints, DamagedCheckpointWarning

# When Orbax fails, it leaves coroutines that warn when they are collected.
pytestmark = [
    pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module", autouse=True)
def warnings_stay_here():
    """Collect what Orbax left behind, before another module's test is blamed for it."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def two_steps(tmp_path_factory):
    """Checkpoints of steps 10 and 20; tests copy them."""
    place = tmp_path_factory.mktemp("two")
    return save_two_steps(place)


@pytest.fixture
def copied(two_steps, tmp_path):
    shutil.copytree(two_steps / "checkpoints", tmp_path / "checkpoints")
    return tmp_path


def test_an_empty_directory_restores_nothing(tmp_path):
    assert open_in(tmp_path).restore(LIKE) is None


@pytest.mark.parametrize("background", [False, True])
def test_the_newest_is_restored_and_old_ones_are_removed(tmp_path, background):
    checkpoints = open_in(tmp_path, keep=2, background=background)
    for step in (5, 10, 15):
        checkpoints.save(step, make_state(step))
    checkpoints.close()
    assert checkpoints.steps() == [10, 15]
    assert sorted(os.listdir(tmp_path / "checkpoints")) == ["00000010", "00000015"]
    step, state = open_in(tmp_path).restore(LIKE)
    assert step == 15
    chex.assert_trees_all_equal(state, make_state(15))
    chex.assert_trees_all_equal_dtypes(state, make_state(15))
    assert type(state.opt_state[0]) is optax.ScaleByAdamState


def test_a_state_moves_between_meshes(tmp_path):
    meshes = [make_mesh(1, 8, 1), one_device(), make_mesh(2, 2, 2), make_mesh(8, 1, 1)]
    state = on(meshes[0]).make(make_state)
    for number, mesh in enumerate(meshes):
        like = like_on(mesh)
        checkpoints = Checkpoints(tmp_path / str(number), CONFIG)
        checkpoints.save(1, state)
        _, state = checkpoints.restore(like)
        assert state.params["w"].sharding.is_equivalent_to(like.params["w"].sharding, 2)
        chex.assert_trees_all_equal(fetch(state), fetch(make_state()))


def test_saving_a_step_again_replaces_it(tmp_path):
    checkpoints = open_in(tmp_path)
    checkpoints.save(5, make_state(1))
    checkpoints.save(5, make_state(2))
    assert_array_equal(checkpoints.restore(LIKE)[1].step, 2)


def files_of(directory):
    return sorted(path for path in directory.rglob("*") if path.is_file())


def flip(path, rng):
    data = bytearray(path.read_bytes())
    bit = int(rng.integers(8 * len(data)))
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def cut(share):
    def truncate(path, rng):
        size = path.stat().st_size
        with path.open("r+b") as file:
            file.truncate(int(size * share) if share else size - 1)

    return truncate


FAULTS = {
    "bit": flip,
    "half": cut(0.5),
    "byte": cut(0),
    "empty": lambda path, rng: path.write_bytes(b""),
    "gone": lambda path, rng: path.unlink(),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_damage_is_always_detected(two_steps, tmp_path, fault):
    """Either the damage is harmless, or it is reported and the step before is used."""
    source = two_steps / "checkpoints"
    rng = np.random.default_rng(1)
    names = [path.relative_to(source) for path in files_of(source / "00000020")]
    arrays = [name for name in names if "d" in name.parts]
    assert len(arrays) >= 2
    outcomes = []
    for number, name in enumerate([*names, *(arrays * 4 if fault == "bit" else [])]):
        place = tmp_path / str(number)
        shutil.copytree(source, place / "checkpoints")
        if (place / "checkpoints" / name).stat().st_size:
            FAULTS[fault](place / "checkpoints" / name, rng)
        step, warned = restored(place)
        assert (step, len(warned)) in [(20, 0), (10, 1)]
        outcomes.append(step)
        left = sorted(os.listdir(place / "checkpoints"))
        assert left == ["00000010", "00000020" if step == 20 else "00000020.damaged"]
    assert outcomes.count(10) >= 2


def test_a_changed_array_is_named(two_steps, tmp_path):
    """A bit in the middle of an array's bytes, which Orbax reads without complaint."""
    source = two_steps / "checkpoints"
    data = [path for path in files_of(source / "00000020") if "d" in path.parts]
    largest = max(data, key=lambda path: path.stat().st_size)
    named = []
    for number, place in enumerate(range(100, largest.stat().st_size, 300)):
        copy = tmp_path / str(number) / "checkpoints"
        shutil.copytree(source, copy)
        changed = bytearray(largest.read_bytes())
        changed[place] ^= 4
        (copy / largest.relative_to(source)).write_bytes(changed)
        step, warned = restored(copy.parent)
        named += [line for line in warned if "changed since it was written" in line]
        if named:
            break
    assert step == 10
    assert "opt_state/0/" in named[0] or "params/" in named[0]
    assert "renamed to 00000020.damaged, the one before it is used" in named[0]


def test_if_all_are_damaged_the_run_does_not_start_over(copied):
    for step in ("00000010", "00000020"):
        (copied / "checkpoints" / step / "_CHECKPOINT_METADATA").write_bytes(b"{}")
    with (
        pytest.warns(DamagedCheckpointWarning),
        pytest.raises(InputError, match=r"no checkpoint can be used: .*00000020: has no manifest"),
    ):
        open_in(copied).restore(LIKE)


def test_at_least_one_is_kept(tmp_path):
    with pytest.raises(InputError, match="keep: 0; keep at least one checkpoint"):
        open_in(tmp_path, keep=0)


@pytest.mark.parametrize(
    ("inside", "advice"),
    [
        ("", r": holds checkpoints one level deeper; give .*/checkpoints$"),
        ("checkpoints/00000020", r"00000020: is a single checkpoint; give .*/checkpoints$"),
        ("checkpoints/00000020/state", r"is a part of a checkpoint; give .*/checkpoints$"),
    ],
)
def test_the_wrong_level_is_refused(two_steps, inside, advice):
    with pytest.raises(InputError, match=advice):
        Checkpoints(two_steps / inside, CONFIG)


def test_a_state_that_is_not_finite_is_not_written(tmp_path):
    checkpoints = open_in(tmp_path)
    checkpoints.save(1, make_state())
    state = make_state()
    state.params["w"] = state.params["w"].at[2, 3].set(jnp.nan)
    with pytest.raises(RunError, match=r"step 2: params/w is not finite, .* is step 1"):
        checkpoints.save(2, state)
    assert checkpoints.steps() == [1]


def test_leftovers_of_a_killed_run_are_removed(copied):
    for name in ("00000030.orbax-checkpoint-tmp", "00000005.removed"):
        (copied / "checkpoints" / name / "state").mkdir(parents=True)
    (copied / "checkpoints" / "00000010.damaged").mkdir()
    open_in(copied)
    left = sorted(os.listdir(copied / "checkpoints"))
    assert left == ["00000010", "00000010.damaged", "00000020"]


def test_an_interrupted_removal_leaves_nothing_that_looks_complete(copied, monkeypatch):
    remove = shutil.rmtree

    def cut_short(path, *rest, **options):
        if Path(path).parent != copied / "checkpoints":
            return remove(path, *rest, **options)
        files_of(Path(path))[-1].unlink()
        raise KeyboardInterrupt

    checkpoints = open_in(copied)
    monkeypatch.setattr(checkpoint.shutil, "rmtree", cut_short)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.save(30, make_state(30))
    assert checkpoints.steps() == [20, 30]
    monkeypatch.undo()
    open_in(copied)
    assert sorted(os.listdir(copied / "checkpoints")) == ["00000020", "00000030"]


@pytest.mark.parametrize("background", [False, True])
def test_a_full_disk_is_refused_and_nothing_is_lost(copied, monkeypatch, background):
    """As Orbax reports it: at once, or from a background write."""

    class Response:
        def result(self, timeout=None):
            raise ValueError("RESOURCE_EXHAUSTED: Error writing file: No space left on device")

    def save_async(path, *_, **__):
        path = Path(path)
        (path.parent / f"{path.name}.orbax-checkpoint-tmp").mkdir()
        if background:
            return Response()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint.ocp, "save_async", save_async)
    checkpoints = open_in(copied, background=background)
    refused = pytest.raises(InputError, match=r"disk full: cannot write to .*00000030")
    if background:
        checkpoints.save(30, make_state())
        with refused:
            checkpoints.check()
    else:
        with refused:
            checkpoints.save(30, make_state())
    assert sorted(os.listdir(copied / "checkpoints")) == ["00000010", "00000020"]
    assert open_in(copied).restore(LIKE)[0] == 20


@pytest.fixture
def disk(tmp_path):
    with small_disk(tmp_path / "disk", "size=2m") as place:
        yield place


def test_a_disk_that_fills_up(disk):
    checkpoints = Checkpoints(disk / "checkpoints", CONFIG)
    big = {"w": jax.random.normal(jax.random.key(0), (300_000,))}  # 1.2 MB that do not compress
    checkpoints.save(1, big)
    with pytest.raises(InputError, match=r"disk full: .*00000002.* free some space"):
        checkpoints.save(2, big)
    assert os.listdir(disk / "checkpoints") == ["00000001"]
    step, state = Checkpoints(disk / "checkpoints", CONFIG).restore(
        like_on(one_device(), lambda: big)
    )
    assert step == 1
    assert_array_equal(state["w"], big["w"])
    checkpoints.save(2, {"w": big["w"][:1000]})
    assert checkpoints.steps() == [1, 2]


def test_another_failure_is_named(copied, monkeypatch):
    def save_async(*_, **__):
        raise ValueError("PERMISSION_DENIED: \n no")

    monkeypatch.setattr(checkpoint.ocp, "save_async", save_async)
    with pytest.raises(RunError, match=r"00000030: could not be written \(PERMISSION_DENIED: no"):
        open_in(copied).save(30, make_state())


def test_running_out_of_memory_is_not_damage(copied, monkeypatch):
    def load(*_):
        raise ValueError("RESOURCE_EXHAUSTED: Out of memory")

    monkeypatch.setattr(checkpoint.ocp, "load", load)
    with pytest.raises(ValueError, match="Out of memory"):
        open_in(copied).restore(LIKE)
    assert open_in(copied).steps() == [10, 20]
