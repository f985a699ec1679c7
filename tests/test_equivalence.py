"""Every execution trains an MLP to the same parameters."""

from functools import cache, partial

import jax
import numpy as np
import pytest
from equivalence import ADAM, SGD, WAYS, assert_same, train

from subliminal_jax.batch import Batch
from subliminal_jax.losses import cross_entropy
from subliminal_jax.models import mlp
from subliminal_jax.train import make_loss_fn, total_gradient

STEPS, BATCH = 20, 32
NETWORK = mlp.MlpConfig(inputs=16, hidden=(24, 8), classes=5, aux=3)
GRADIENT = total_gradient(make_loss_fn(partial(mlp.apply, NETWORK), cross_entropy))
# Two consecutive layers have outputs split over the axis that splits the batch: XLA's partitioner
# gets this wrong on the third mesh, unless weights are gathered before their use.
RULES = (
    (r"hidden_0/kernel$", ("fsdp", "tensor")),
    (r"kernel$", ("tensor", "fsdp")),
    (r"hidden_0/bias$", ("tensor",)),
    (r"bias$", ("fsdp",)),
)
# Dtype, optimisers, and whether every member has its own batches: in float32, Adam makes the
# rounding of one of these members 90 times as large as SGD does.
CASES = {
    "float32": (np.float32, (SGD, ADAM), False),
    "float64": (np.float64, (SGD, ADAM), False),
    "own batches": (np.float64, (SGD, ADAM, SGD, ADAM), True),
}
# Case, execution, members mapped together, parts of a device's examples, tolerance.
RUNS = [
    *(("float32", way, 1, 1, 1e-6) for way in WAYS if way != "jit"),
    *(("float64", way, None, 4, 1e-12) for way in WAYS),
    *(("own batches", way, None, 4, 1e-12) for way in WAYS),
]


def batches_of(dtype, *members):
    """Batches whose weights are ragged, so that every device's part weighs differently."""
    rng = np.random.default_rng(5)
    shape = (*members, STEPS, BATCH)
    present = rng.random(shape) < np.linspace(0.2, 1, BATCH)
    return Batch(
        inputs=rng.standard_normal((*shape, NETWORK.inputs)).astype(dtype),
        targets=rng.integers(0, 8, shape),
        weights=(present * rng.uniform(0.2, 3, shape)).astype(dtype),
    )


@cache
def begin(members):
    """Their parameters, in float64 as in float32."""
    keys = jax.random.split(jax.random.key(1), members)
    return jax.device_get(jax.jit(jax.vmap(partial(mlp.init, NETWORK)))(keys))


def end(case, way, at_once=None, accumulate=1):
    dtype, which, own = CASES[case]
    params = jax.tree.map(lambda leaf: leaf.astype(dtype), begin(len(which)))
    with jax.enable_x64(dtype == np.float64):
        batches = batches_of(dtype, *([len(which)] if own else []))
        execution = WAYS[way](RULES, at_once=at_once, accumulate=accumulate)
        return train(execution, GRADIENT, params, batches, which, rates=(0.1, 1e-2))


wanted = cache(partial(end, way="jit"))


@pytest.mark.parametrize(("case", "way", "at_once", "accumulate", "tolerance"), RUNS)
def test_parameters_are_the_same(case, way, at_once, accumulate, tolerance):
    assert_same(end(case, way, at_once, accumulate), wanted(case), tolerance)
