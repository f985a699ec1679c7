"""A small state, and checkpoints of two of its steps."""

import warnings

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

from subliminal_jax.execution.mesh import make_mesh
from subliminal_jax.execution.mesh_execution import OnMesh
from subliminal_jax.execution.placement import fetch
from subliminal_jax.runs.checkpoint import Checkpoints, DamagedCheckpointWarning
from subliminal_jax.train import TrainState

CONFIG = {"seed": 3, "optimizer": {"name": "adam", "rate": 0.1}}
RULES = (("w", ("fsdp", "tensor")),)


def make_state(step=7, w_shape=(8, 6), dtype=jnp.float32):
    rng = np.random.default_rng(step)
    params = {
        "w": jnp.asarray(rng.standard_normal(w_shape), dtype),
        "half": jnp.asarray(rng.standard_normal(700), jnp.bfloat16),  # not inlined
    }
    return TrainState(jnp.int32(step), params, optax.adam(0.1).init(params))


def one_device():
    return make_mesh(devices=jax.local_devices()[:1])


def on(mesh):
    return OnMesh(mesh=mesh, rules=RULES)


def like_on(mesh, make=make_state):
    """Shapes, types and places of a state on a mesh."""
    return on(mesh).share(jax.eval_shape(make))


LIKE = like_on(one_device())


def open_in(tmp_path, **options):
    return Checkpoints(tmp_path / "checkpoints", CONFIG, **options)


def save_two_steps(place):
    """Checkpoints of steps 10 and 20."""
    checkpoints = open_in(place)
    for step in (10, 20):
        checkpoints.save(step, make_state(step))
    return place


def restored(place):
    """Return the restored step and the warnings about damaged checkpoints."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        step, state = open_in(place).restore(LIKE)
    chex.assert_trees_all_equal(fetch(state), fetch(make_state(step)))
    warned = [str(w.message) for w in caught if w.category is DamagedCheckpointWarning]
    return step, warned
