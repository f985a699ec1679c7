"""One step, however it is run, leads to the same parameters: with SGD, Adam hides wrong factors."""

from functools import partial

import jax
import numpy as np
import optax
import pytest

from subliminal_jax.batch import Batch
from subliminal_jax.execution.mesh import line_of_devices, make_mesh, one_device
from subliminal_jax.execution.steps import DataParallel, Sharded, fetch
from subliminal_jax.losses import cross_entropy
from subliminal_jax.models import mlp
from subliminal_jax.train import init_state, make_loss_fn, make_train_step, total_gradient

STEPS, BATCH = 20, 32
NETWORK = mlp.MlpConfig(inputs=16, hidden=(24, 8), classes=5, aux=3)
GRADIENT = total_gradient(make_loss_fn(partial(mlp.apply, NETWORK), cross_entropy))
OPTIMIZERS = {"adam": optax.adam(1e-2), "sgd": optax.sgd(0.1)}
# Two layers in a row give out features that are split over the axis that splits the batch: what
# XLA's partitioner gets wrong on the third mesh, unless weights are collected before their use.
RULES = (
    (r"hidden_0/kernel$", ("fsdp", "tensor")),
    (r"kernel$", ("tensor", "fsdp")),
    (r"hidden_0/bias$", ("tensor",)),
    (r"bias$", ("fsdp",)),
)
WAYS = {
    "jit": lambda **options: Sharded(mesh=one_device(), **options),
    "pmap": lambda **options: DataParallel(mesh=line_of_devices(), **options),
    "data": lambda **options: Sharded(mesh=make_mesh(8, 1, 1), rules=RULES, **options),
    "fsdp": lambda **options: Sharded(mesh=make_mesh(1, 8, 1), rules=RULES, **options),
    "all axes": lambda **options: Sharded(mesh=make_mesh(2, 2, 2), rules=RULES, **options),
}


def init_both(params):
    return {name: init_state(params, tx) for name, tx in OPTIMIZERS.items()}


def make_both(gradient):
    """A step of Adam's training and one of SGD's, on the same batch."""
    steps = {name: make_train_step(gradient, tx) for name, tx in OPTIMIZERS.items()}

    def both(states, batch):
        ends = {name: step(states[name], batch) for name, step in steps.items()}
        return {n: state for n, (state, _) in ends.items()}, {n: t for n, (_, t) in ends.items()}

    return both


def chunk(dtype, *members):
    """Batches whose weights are ragged, so that every device's part weighs differently."""
    rng = np.random.default_rng(5)
    shape = (STEPS, *members, BATCH)
    present = rng.random(shape) < np.linspace(0.2, 1, BATCH)
    return Batch(
        inputs=rng.standard_normal((*shape, NETWORK.inputs)).astype(dtype),
        targets=rng.integers(0, 8, shape),
        weights=(present * rng.uniform(0.2, 3, shape)).astype(dtype),
    )


def train(execution, params, batches, members=False):
    """Parameters after the chunk, by optimiser."""
    over_members = jax.vmap if members else lambda fn: fn
    states = execution.init(over_members(init_both), params)
    batches = execution.feed(batches)
    run = execution.compile(GRADIENT, lambda g: over_members(make_both(g)), states, batches)
    states, totals = run(states, batches)
    assert totals["sgd"].weight.shape[0] == STEPS
    return fetch({name: state.params for name, state in states.items()})


def assert_same(one, other, tolerance):
    def compare(path, x, y):
        assert x.dtype == y.dtype
        assert np.abs(x - y).max() <= tolerance * np.abs(x).max(), jax.tree_util.keystr(path)

    jax.tree_util.tree_map_with_path(compare, one, other)


def params_of(dtype, *members):
    keys = jax.random.split(jax.random.key(1), members)
    init = jax.jit(partial(mlp.init, NETWORK))
    params = jax.device_get((jax.vmap(init) if members else init)(keys))
    return jax.tree.map(lambda leaf: leaf.astype(dtype), params)


@pytest.fixture(scope="module")
def reference():
    """Where `jit` on one device starts and ends: in float32, in float64, and with members."""
    ends = {}
    for name, dtype, members in CASES:
        with jax.enable_x64(dtype == np.float64):
            params = params_of(dtype, *members)
            execution = WAYS["jit"](batch=BATCH, axis=1 + len(members))
            end = train(execution, params, chunk(dtype, *members), members=bool(members))
        ends[name] = params, end
    return ends


CASES = [("float32", np.float32, ()), ("float64", np.float64, ()), ("members", np.float32, (3,))]
RUNS = [
    *(("float32", way, 1, 1e-6) for way in WAYS if way != "jit"),
    *(("float64", way, 4, 1e-12) for way in WAYS),
    *(("members", way, 4, 1e-6) for way in WAYS),
]


@pytest.mark.parametrize(("case", "way", "accumulate", "tolerance"), RUNS)
def test_parameters_are_the_same(reference, case, way, accumulate, tolerance):
    params, end = reference[case]
    _, dtype, members = next(one for one in CASES if one[0] == case)
    with jax.enable_x64(dtype == np.float64):
        execution = WAYS[way](batch=BATCH, axis=1 + len(members), accumulate=accumulate)
        ours = train(execution, params, chunk(dtype, *members), members=bool(members))
    assert_same(end, ours, tolerance)
