"""A checkpoint is used only if it agrees with its manifest in every field."""

import json
import os
import shutil

import jax.numpy as jnp
import numpy as np
import pytest
from saved_steps import LIKE, like_on, make_state, one_device, open_in, restored, save_two_steps

from subliminal_jax.errors import InputError
from subliminal_jax.runs import checkpoint
from subliminal_jax.runs.checkpoint import Checkpoints, check_step
from subliminal_jax.runs.digest import describe
from subliminal_jax.train import TrainState


@pytest.fixture(scope="module")
def two_steps(tmp_path_factory):
    """Checkpoints of steps 10 and 20; tests copy them."""
    return save_two_steps(tmp_path_factory.mktemp("two"))


@pytest.fixture
def copied(two_steps, tmp_path):
    shutil.copytree(two_steps / "checkpoints", tmp_path / "checkpoints")
    return tmp_path


def edit_manifest(place, step, change):
    path = place / "checkpoints" / step / "_CHECKPOINT_METADATA"
    metadata = json.loads(path.read_text())
    manifest = json.loads(metadata["custom_metadata"]["manifest"])
    change(manifest)
    text = json.dumps(manifest)
    metadata["custom_metadata"]["manifest"] = text
    metadata["custom_metadata"]["sha256"] = checkpoint.hashlib.sha256(text.encode()).hexdigest()
    path.write_text(json.dumps(metadata))


@pytest.mark.parametrize("leaf", describe(LIKE))
def test_every_leaf_is_checked(copied, leaf):
    """The manifest has another digest for the leaf, as if its bits had changed."""
    edit_manifest(copied, "00000020", lambda written: written["leaves"][leaf].update(digest="0"))
    step, warned = restored(copied)
    assert step == 10
    assert f"00000020: {leaf} changed since it was written" in warned[0]


def test_a_newer_layout_is_refused(copied):
    edit_manifest(copied, "00000020", lambda manifest: manifest.update(layout=2))
    with pytest.raises(InputError, match="has layout 2, but this version reads layout 1; use the"):
        open_in(copied).restore(LIKE)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda manifest: manifest.pop("step"), "must hold exactly layout, step"),
        (lambda manifest: manifest.update(config=[]), "must hold exactly layout, step"),
        (lambda manifest: manifest.update(more=1), "must hold exactly layout, step"),
        (lambda manifest: manifest.update(step=40), "its manifest is that of step 40"),
        (lambda manifest: manifest["leaves"].update(step=7), "does not describe step"),
        (lambda manifest: manifest["leaves"]["step"].pop("digest"), "does not describe step"),
        (lambda manifest: manifest["leaves"]["step"].update(shape=0), "does not describe step"),
    ],
)
def test_an_edited_manifest_is_rejected(copied, change, complaint):
    """Even if its own digest was made to match."""
    edit_manifest(copied, "00000020", change)
    step, warned = restored(copied)
    assert step == 10
    assert complaint in warned[0]


@pytest.mark.parametrize("name", ["00000030", "00000015"])
def test_a_renamed_step_is_detected(copied, name):
    (copied / "checkpoints" / "00000020").rename(copied / "checkpoints" / name)
    step, warned = restored(copied)
    assert step == 10
    assert f"{name}: its manifest is that of step 20: it was renamed" in warned[0]
    assert sorted(os.listdir(copied / "checkpoints")) == ["00000010", f"{name}.damaged"]


def test_the_step_count_of_a_state_is_checked(tmp_path):
    check_step(tmp_path, 3, np.array([3, 3]))
    with pytest.raises(InputError, match="the checkpoint of step 3 holds a state after 2 steps"):
        check_step(tmp_path, 3, np.array([3, 2]))


def test_another_config_is_refused(copied):
    other = {"seed": 4, "optimizer": {"name": "adam", "rate": 0.2}}
    with pytest.raises(InputError, match=r"to another config: seed 3 -> 4; optimizer.rate 0.1 -> "):
        Checkpoints(copied / "checkpoints", other).restore(LIKE)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"w_shape": (8, 7)}, r"opt_state/0/mu/w has shape \[8, 6\], but the run needs \[8, 7\]"),
        ({"dtype": jnp.bfloat16}, "opt_state/0/mu/w has dtype float32, but the run needs bfloat16"),
    ],
)
def test_another_shape_or_dtype_is_refused(copied, options, message):
    like = like_on(one_device(), lambda: make_state(**options))
    with pytest.raises(InputError, match=message):
        open_in(copied).restore(like)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda params: {**params, "new": params["w"]}, "lacks params/new"),
        (lambda params: {"w": params["w"]}, "has a leaf that the run lacks, params/half"),
    ],
)
def test_other_leaves_are_refused(copied, change, message):
    like = TrainState(LIKE.step, change(LIKE.params), LIKE.opt_state)
    with pytest.raises(InputError, match=message):
        open_in(copied).restore(like)
