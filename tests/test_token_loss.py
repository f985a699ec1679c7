"""The blockwise loss equals the plain one, gradients too, and never holds all logits."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from quick import random_params

from subliminal_jax.data.tokens import TokenInputs, TokenTable
from subliminal_jax.language.training import answers
from subliminal_jax.losses import cross_entropy
from subliminal_jax.models.decoder import decoder
from subliminal_jax.models.decoder.config import DecoderConfig
from subliminal_jax.models.decoder.token_loss import blockwise_cross_entropy


def plain(hidden, rows, labels, softcap, _):
    logits = hidden @ rows.T
    return cross_entropy(
        logits if softcap is None else softcap * jnp.tanh(logits / softcap), labels
    )


@pytest.mark.parametrize(("softcap", "words"), [(None, 8), (3.0, 8), (None, 37), (None, 99)])
def test_it_is_the_plain_cross_entropy(softcap, words):
    rng = np.random.default_rng(0)
    hidden = jnp.asarray(rng.normal(size=(11, 5)), jnp.float32)
    rows = jnp.asarray(rng.normal(size=(37, 5)), jnp.float32)
    labels = jnp.asarray(rng.integers(0, 37, 11).tolist()).at[:2].set(jnp.array([0, 36]))
    weights = jnp.asarray(rng.normal(size=11), jnp.float32)

    def total(hidden, rows, loss):
        return jnp.sum(loss(hidden, rows, labels, softcap, words) * weights)

    losses = blockwise_cross_entropy(hidden, rows, labels, softcap, words)
    assert_allclose(losses, plain(hidden, rows, labels, softcap, words), rtol=2e-5)
    gradient = jax.jit(jax.grad(total, argnums=(0, 1)), static_argnums=2)
    for got, expected in zip(
        gradient(hidden, rows, blockwise_cross_entropy), gradient(hidden, rows, plain), strict=True
    ):
        assert_allclose(got, expected, atol=2e-5)


def test_large_logits_stay_finite():
    hidden, rows = jnp.full((1, 1), 1e4), jnp.array([[1.0], [0.0], [-1.0]])
    losses = blockwise_cross_entropy(jnp.tile(hidden, (2, 1)), rows, jnp.array([0, 1]), None, 2)
    assert_allclose(losses, [0.0, 1e4])


def test_bfloat16_hidden_states_give_float32_losses_and_gradients_of_their_dtypes():
    hidden, rows = jnp.ones((3, 4), jnp.bfloat16), jnp.ones((7, 4), jnp.float32)
    labels = jnp.zeros(3, jnp.int32)
    total = lambda h, r: jnp.sum(blockwise_cross_entropy(h, r, labels, None, 4))
    value, (of_hidden, of_rows) = jax.jit(jax.value_and_grad(total, (0, 1)))(hidden, rows)
    assert value.dtype == jnp.float32
    assert_allclose(value, 3 * np.log(7), rtol=1e-5)
    assert (of_hidden.dtype, of_rows.dtype) == (jnp.bfloat16, jnp.float32)


def test_the_gradient_of_bfloat16_is_summed_over_blocks_in_float32():
    """Each of 1,024 vocabulary rows gives 2^-10, which bfloat16 no longer adds to a quarter."""
    rows = jnp.ones((1025, 1)).at[0].set(0)
    total = lambda h: jnp.sum(blockwise_cross_entropy(h, rows, jnp.array([0]), None, 1))
    exactly = {"xla_allow_excess_precision": False}  # else a rounding may be left out
    gradient = jax.jit(jax.grad(total), compiler_options=exactly)
    assert gradient(jnp.zeros((1, 1), jnp.bfloat16)).tolist() == [[1.0]]


def test_a_large_vocabulary_fits():
    """64 tokens, a vocabulary of 150,000: logits and their gradient would take 38 MB each."""
    struct = jax.ShapeDtypeStruct
    shapes = (
        struct((64, 4), jnp.float32),
        struct((150_001, 4), jnp.float32),
        struct((64,), jnp.int32),
    )

    def temporary(loss):
        total = lambda h, r, y: jnp.sum(loss(h, r, y, None, 8192))
        compiled = jax.jit(jax.value_and_grad(total, argnums=(0, 1))).lower(*shapes).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert temporary(plain) > 38e6
    assert temporary(blockwise_cross_entropy) < 12e6


def test_the_loss_of_a_batch(monkeypatch):
    monkeypatch.setattr(answers, "WORDS_AT_ONCE", 4)
    config = DecoderConfig(
        vocab=13, width=6, layers=1, heads=1, kv_heads=1, head_dim=4, mlp_width=5, context=8,
        logit_softcap=5.0,
    )  # fmt: skip
    params = random_params(config)
    rng = np.random.default_rng(1)
    tokens = rng.integers(0, 13, (2, 5)).astype(np.int32)
    segments = np.array([[1, 1, 2, 2, 2], [1, 1, 1, 0, 0]])
    targets = rng.integers(0, 13, (2, 5)).astype(np.int32)
    weights = np.array([[0.0, 1, 0, 1, 1], [1, 2, 0, 0, 0]])
    rows = TokenTable(inputs=TokenInputs(tokens, segments), targets=targets, weights=weights)
    batch = answers.select_batch(answers.answer_table(rows), jnp.arange(2), jnp.ones(2))
    total, weight = jax.jit(partial(answers.answer_loss, config))(params, None, batch)
    logits = jax.jit(partial(decoder.apply, config))(params, tokens, segments)
    losses = cross_entropy(logits, jnp.asarray(targets))
    assert_allclose(total, jnp.sum(losses * weights), rtol=1e-5)
    assert weight == 6
