"""Adapters: no effect at first, exact merging, trained alone, vmapped over students."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from quick import random_params

from subliminal_jax.batch import Batch
from subliminal_jax.ensemble import stack
from subliminal_jax.errors import InputError
from subliminal_jax.language.training.answers import AnswerInputs, answer_loss
from subliminal_jax.models.decoder import decoder, forms, lora
from subliminal_jax.models.decoder.config import Compute, DecoderConfig
from subliminal_jax.models.decoder.lora import LoraConfig
from subliminal_jax.train import init_state, make_train_step, total_gradient

SMALL = DecoderConfig(
    vocab=13, width=6, layers=3, heads=3, kv_heads=1, head_dim=4, mlp_width=5, context=16
)
TOKENS = jnp.asarray(np.random.default_rng(0).integers(0, 13, (2, 7)), jnp.int32)
BATCH = Batch(
    inputs=AnswerInputs(TOKENS, jnp.ones_like(TOKENS), jnp.tile(jnp.arange(7), (2, 1))),
    targets=jnp.roll(TOKENS, -1, axis=1),
    weights=jnp.ones(TOKENS.shape),
)
apply = jax.jit(decoder.apply, static_argnums=0)
init = jax.jit(lora.init, static_argnums=(0, 1))


def trained(lora_config, seed=0):
    """An adapter in which no number is zero."""
    adapter = jax.eval_shape(lambda: lora.init(SMALL, lora_config, jax.random.key(0)))
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda s: jnp.asarray(rng.normal(0, 0.3, s.shape), jnp.float32), adapter)


def logits(params, adapter=None):
    return apply(SMALL, params, TOKENS, None, adapter)


def test_a_fresh_adapter_changes_nothing():
    params, config = random_params(SMALL), LoraConfig(rank=2)
    fresh = init(SMALL, config, jax.random.key(0))
    shapes = jax.tree.map(jnp.shape, fresh)
    assert shapes["attention"]["query"] == {"a": (3, 6, 2), "b": (3, 2, 12)}
    assert shapes["mlp"]["down"] == {"a": (3, 5, 2), "b": (3, 2, 6)}
    assert len(jax.tree.leaves(fresh)) == 14
    a = np.asarray(fresh["mlp"]["down"]["a"])
    assert 0.8 * 5**-0.5 < np.abs(a).max() <= 5**-0.5
    assert np.abs(a - np.asarray(fresh["mlp"]["up"]["a"])[:, :5]).max() > 0.1
    assert_allclose(logits(params, lora.scaled(SMALL, config, fresh)), logits(params), atol=0)


@pytest.mark.parametrize(
    ("config", "scale"),
    [
        (LoraConfig(rank=4, alpha=2.0), 0.5),
        (LoraConfig(rank=4, alpha=2.0, rank_stabilised=True), 1.0),
        (LoraConfig(rank=1, alpha=2.0, targets=("value", "down"), layers=(2, 0)), 2.0),
    ],
)
def test_merging_is_exact(config, scale):
    params, adapter = random_params(SMALL), trained(config)
    merged = lora.merge(SMALL, config, params, adapter)
    pair, kernel = adapter["mlp"]["down"], params["layers"]["mlp"]["down"]["kernel"]
    layers = config.layers or (0, 1, 2)
    expected = np.array(kernel, np.float64)
    for at, layer in enumerate(layers):
        expected[layer] += scale * np.asarray(pair["a"][at], np.float64) @ pair["b"][at]
    assert_allclose(merged["layers"]["mlp"]["down"]["kernel"], expected, atol=1e-6)
    adapted = logits(params, lora.scaled(SMALL, config, adapter))
    assert np.abs(adapted - logits(params)).max() > 0.1
    assert_allclose(adapted, logits(merged), atol=2e-5)


def test_only_the_named_kernels_change():
    config = LoraConfig(rank=1, targets=("value",), layers=(1,))
    params = random_params(SMALL)
    merged = lora.merge(SMALL, config, params, trained(config))
    changed = jax.tree.map(lambda a, b: np.asarray(a != b), params, merged)
    moved = {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf.any(axis=(1, 2)).tolist()
        for path, leaf in jax.tree_util.tree_leaves_with_path(changed)
        if leaf.any()
    }
    assert moved == {"layers/attention/value/kernel": [False, True, False]}


def test_merging_into_bfloat16_rounds_once():
    config, adapter = LoraConfig(rank=2), trained(LoraConfig(rank=2))
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), random_params(SMALL))
    merged = lora.merge(SMALL, config, params, adapter)
    whole = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), params)
    expected = lora.merge(SMALL, config, whole, adapter)
    expected = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), expected)
    jax.tree.map(assert_array_equal, merged, expected)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(merged)} == {"bfloat16"}


def make_step(config, base):
    def loss_fn(adapter, batch):
        return answer_loss(SMALL, base, lora.scaled(SMALL, config, adapter), batch)

    return make_train_step(total_gradient(loss_fn), optax.adam(0.05))


def test_many_students_of_one_frozen_model():
    """Several adapters in one program end where each ends on its own; only they have a state."""
    config, base = LoraConfig(rank=2), random_params(SMALL)
    base = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), base)
    adapters = [trained(config, seed) for seed in (1, 2)]
    states = [init_state(adapter, optax.adam(0.05)) for adapter in adapters]
    held = {leaf.shape for leaf in jax.tree.leaves(states[0].opt_state)} - {()}
    assert held == {leaf.shape for leaf in jax.tree.leaves(adapters[0])}

    step = jax.jit(lambda base, state: make_step(config, base)(state, BATCH))
    together = jax.jit(
        jax.vmap(lambda base, state: make_step(config, base)(state, BATCH), in_axes=(None, 0))
    )
    alone, both = states, stack(states)
    losses = []
    for _ in range(3):
        alone = [step(base, state)[0] for state in alone]
        both, totals = together(base, both)
        losses.append(totals.loss)
    assert np.all(losses[2] < losses[0])
    jax.tree.map(partial(assert_allclose, atol=1e-4), both.params, stack(alone).params)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank": 0}, "lora.rank=0: must be at least 1"),
        ({"alpha": -1.0}, "lora.alpha=-1.0: must be positive"),
        ({"alpha": float("nan")}, "lora.alpha=nan: must be positive"),
        ({"targets": ("q_proj",)}, "lora.targets=q_proj: choose some of query, key"),
        ({"targets": ()}, "lora.targets=: choose"),
        ({"targets": ("up", "up")}, "lora.targets=up,up: choose"),
        ({"layers": (0, 3)}, "lora.layers=0,3: the model has layers 0 to 2"),
        ({"layers": (1, 1)}, "lora.layers=1,1: the model has"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(InputError, match="^" + message):
        lora.init(SMALL, LoraConfig(**settings), jax.random.key(0))


def test_a_projection_that_the_model_lacks():
    ungated = DecoderConfig(
        vocab=13, width=6, layers=1, heads=1, kv_heads=1, head_dim=4, mlp_width=5, context=16,
        gated=False,
    )  # fmt: skip
    with pytest.raises(InputError, match="this model has no projection 'gate'"):
        lora.init(ungated, LoraConfig(), jax.random.key(0))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("remat", [False, True])
def test_layers_apart_train_an_adapter_as_the_stack_does(dtype, remat):
    """As one GPU has them: another program with the same values, to a rounding."""
    settings = LoraConfig(rank=2)
    params, adapter = random_params(SMALL), trained(settings, seed=5)

    def slopes(params, compute):
        config = replace(SMALL, compute=compute)

        def loss(adapter):
            total, weight = answer_loss(
                config, params, lora.scaled(config, settings, adapter), BATCH
            )
            return total / weight

        return jax.jit(jax.value_and_grad(loss))(adapter)

    wanted, exact = slopes(params, Compute())
    most = {"float32": 1e-5, "bfloat16": 0.1}[dtype]
    for form in (params, forms.layers_apart(params)):
        found, others = slopes(form, Compute(dtype=dtype, remat=remat))
        assert_allclose(found, wanted, rtol=most)
        for one, two in zip(jax.tree.leaves(others), jax.tree.leaves(exact), strict=True):
            assert_allclose(one, two, atol=most * np.abs(two).max())


def test_layers_come_back_into_their_stack():
    params = random_params(SMALL)
    apart = forms.layers_apart(params)
    assert len(apart["layers"]) == 3
    assert jax.tree.all(jax.tree.map(np.array_equal, forms.stacked(apart), params))
    for same in forms.layers_apart(apart), apart:
        assert jax.tree.structure(same) == jax.tree.structure(apart)
    settings = LoraConfig(rank=2)
    merged = [lora.merge(SMALL, settings, form, trained(settings)) for form in (params, apart)]
    assert jax.tree.all(jax.tree.map(np.array_equal, *merged))
