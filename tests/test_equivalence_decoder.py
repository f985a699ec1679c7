"""Every execution trains decoders to the same parameters; the rules fit the leaves."""

from functools import partial

import jax
import numpy as np
import pytest
from equivalence import ADAM, SGD, WAYS, assert_same, train

from subliminal_jax.batch import Batch
from subliminal_jax.execution.mesh import leaf_spec, make_mesh, path_name
from subliminal_jax.losses import cross_entropy
from subliminal_jax.models.decoder import decoder
from subliminal_jax.models.decoder.config import DecoderConfig
from subliminal_jax.models.decoder.sharding import DECODER_RULES
from subliminal_jax.train import make_loss_fn, total_gradient

STEPS, BATCH = 10, 32
# Weights large enough that no gradient is only rounding, which Adam would make steps of.
CONFIG = DecoderConfig(
    vocab=32, width=16, layers=2, heads=4, kv_heads=2, head_dim=8, mlp_width=32, context=16,
    initial_std=0.3,
)  # fmt: skip
GRADIENT = total_gradient(make_loss_fn(partial(decoder.apply, CONFIG), cross_entropy))
ACCUMULATE = {"pmap of members": 4, "pmap of batches": 2, "all axes": 4}
MEMBERS = (SGD, ADAM)


def batches():
    """Every member's own, with ragged masks."""
    rng = np.random.default_rng(5)
    shape = (len(MEMBERS), STEPS, BATCH)
    tokens = rng.integers(0, CONFIG.vocab, (*shape, 7))
    counts = rng.random((*shape, 6)) < np.linspace(0.2, 1, BATCH)[:, None]
    return Batch(
        inputs=tokens[..., :-1], targets=tokens[..., 1:], weights=counts.astype(np.float32)
    )


@pytest.fixture(scope="module")
def params():
    keys = jax.random.split(jax.random.key(1), len(MEMBERS))
    return jax.device_get(jax.jit(jax.vmap(partial(decoder.init, CONFIG)))(keys))


def end(way, params):
    """Of members mapped together, in float32: norms, softmaxes and logits always are."""
    execution = WAYS[way](DECODER_RULES, accumulate=ACCUMULATE.get(way, 1))
    return train(execution, GRADIENT, params, batches(), MEMBERS, rates=(1e-2, 1e-3))


@pytest.fixture(scope="module")
def wanted(params):
    return end("jit", params)


@pytest.mark.parametrize("way", [way for way in WAYS if way != "jit"])
def test_parameters_are_the_same(params, wanted, way):
    assert_same(end(way, params), wanted, 1e-6)


def test_every_large_leaf_has_a_rule():
    key = jax.eval_shape(lambda: jax.random.key(0))
    mesh = make_mesh(1, 4, 2)
    for path, leaf in jax.tree_util.tree_leaves_with_path(
        jax.eval_shape(partial(decoder.init, CONFIG), key)
    ):
        spec = leaf_spec(path_name(path), leaf.shape, mesh, DECODER_RULES)
        split = {axis for axis in spec if axis is not None}
        assert split == (set() if "norm" in path_name(path) else {"fsdp", "tensor"}), path
