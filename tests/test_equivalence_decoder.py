"""A decoder's step, however it is run, leads to the same parameters; and its rules fit its leaves.

Every optimiser has its half of the leaves: SGD the MLPs, where a wrong factor shows, and Adam the
rest.
"""

from functools import partial

import jax
import numpy as np
import optax
import pytest
from test_equivalence import BATCH, STEPS, assert_same

from subliminal_jax.batch import Batch
from subliminal_jax.execution.mesh import (
    leaf_spec,
    line_of_devices,
    make_mesh,
    one_device,
    path_name,
)
from subliminal_jax.execution.steps import DataParallel, Sharded, fetch
from subliminal_jax.losses import cross_entropy
from subliminal_jax.models import decoder
from subliminal_jax.models.decoder_config import DecoderConfig
from subliminal_jax.models.sharding import DECODER_RULES
from subliminal_jax.train import init_state, make_loss_fn, make_train_step, total_gradient

# Weights large enough that no gradient is only rounding, which Adam would make steps of.
CONFIG = DecoderConfig(
    vocab=32, width=16, layers=2, heads=4, kv_heads=2, head_dim=8, mlp_width=32, context=16,
    initial_std=0.3,
)  # fmt: skip
TX = optax.partition(
    {"adam": optax.adam(1e-3), "sgd": optax.sgd(1e-2)},
    lambda params: jax.tree_util.tree_map_with_path(
        lambda path, _: "sgd" if "/mlp/" in path_name(path) else "adam", params
    ),
)
GRADIENT = total_gradient(make_loss_fn(partial(decoder.apply, CONFIG), cross_entropy))
WAYS = {
    "jit": lambda **options: Sharded(mesh=one_device(), **options),
    "pmap": lambda **options: DataParallel(mesh=line_of_devices(), **options),
    "data": lambda **options: Sharded(mesh=make_mesh(8, 1, 1), rules=DECODER_RULES, **options),
    "fsdp": lambda **options: Sharded(mesh=make_mesh(1, 8, 1), rules=DECODER_RULES, **options),
    "all axes": lambda **options: Sharded(mesh=make_mesh(2, 2, 2), rules=DECODER_RULES, **options),
}


def make_chunk(*members):
    rng = np.random.default_rng(5)
    shape = (STEPS, *members, BATCH)
    tokens = rng.integers(0, CONFIG.vocab, (*shape, 7))
    counts = rng.random((*shape, 6)) < np.linspace(0.2, 1, BATCH)[:, None]
    return Batch(
        inputs=tokens[..., :-1], targets=tokens[..., 1:], weights=counts.astype(np.float32)
    )


def train(way, params, accumulate, *members):
    execution = WAYS[way](batch=BATCH, accumulate=accumulate, axis=1 + len(members))
    mapped = jax.vmap if members else lambda fn: fn
    state = execution.init(mapped(partial(init_state, tx=TX)), params)
    batches = execution.feed(make_chunk(*members))
    make_step = lambda gradient: mapped(make_train_step(gradient, TX))  # noqa: E731
    state, _ = execution.compile(GRADIENT, make_step, state, batches)(state, batches)
    return fetch(state.params)


def first_params(*members):
    keys = jax.random.split(jax.random.key(1), members)
    init = partial(decoder.init, CONFIG)
    return jax.device_get(jax.jit(jax.vmap(init) if members else init)(keys))


def test_parameters_are_the_same(quick_compile):
    """In float32 alone: norms, softmaxes and logits are that whatever the weights are."""
    params = first_params()
    end = train("jit", params, 1)
    for way in WAYS:
        accumulate = 4 if way in ("jit", "all axes") else 1
        assert_same(end, train(way, params, accumulate), 1e-6)


def test_members_end_as_they_do_on_one_device(quick_compile, request):
    """Three of them at once, each with a batch of its own, on every way to run them."""
    if not request.config.getoption("--deep"):
        pytest.skip("five programs of vmapped decoders are compiled for a minute: --deep runs them")
    params = first_params(3)
    end = train("jit", params, 1, 3)
    for way in WAYS:
        accumulate = 4 if way in ("jit", "all axes") else 1
        assert_same(end, train(way, params, accumulate, 3), 1e-6)


def test_every_large_leaf_has_a_rule():
    key = jax.eval_shape(lambda: jax.random.key(0))
    mesh = make_mesh(1, 4, 2)
    for path, leaf in jax.tree_util.tree_leaves_with_path(
        jax.eval_shape(partial(decoder.init, CONFIG), key)
    ):
        spec = leaf_spec(path_name(path), leaf.shape, mesh, DECODER_RULES)
        split = {axis for axis in spec if axis is not None}
        assert split == (set() if "norm" in path_name(path) else {"fsdp", "tensor"}), path
