"""Sampling the next token from logits: temperature, and one draw per row.

A draw inverts the cumulative distribution in two stages, first among blocks of the vocabulary,
then within the block, with two random numbers per row. This is exact, needs no sorting and a few
thousand times fewer random numbers than adding Gumbel noise to every logit.

Shape letters: b rows, v vocabulary, n weights, u tokens that a constraint ever allows.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.random import threefry2x32_p
from jaxtyping import Array, Float, Int, UInt32

from subliminal_jax.models.product import written
from subliminal_jax.models.sampling.settings import Sampling


class Allowed(NamedTuple):
    """The tokens that rows may draw; at least one for each row.

    Attributes:
        tokens: their ids, `[u]`.
        mask: which of them each row may draw, `[b, u]`.
    """

    tokens: Any
    mask: Any


def draw(
    sampling: Sampling,
    logits: Float[Array, "b v"],
    keys: UInt32[Array, "b 2"],
    counts: Int[Array, " b"],
    vocab: int | None = None,
    allowed: Allowed | None = None,
) -> tuple[Int[Array, " b"], Float[Array, " b"]]:
    """One token per row, and the model's own log probability of it.

    Args:
        sampling: the temperature.
        logits: float32.
        keys: the seed and each row's number.
        counts: tokens that each row has drawn before; the draw is a function of seed, number,
            count and logits alone.
        vocab: ids from this one on are never drawn; None: all may be.
        allowed: the only tokens to draw, in place of `vocab`; None: all may be.

    Returns:
        Ids, and log probabilities in nats under `softmax(logits)`: without temperature, over the
        whole vocabulary, whatever is allowed.
    """
    logits = written(logits)
    highest = jnp.max(logits, axis=-1, keepdims=True)
    relative = logits - highest
    log_total = jnp.log(jnp.sum(jnp.exp(relative), axis=-1))
    drawable = relative if vocab is None else relative[:, :vocab]
    if allowed is not None:
        drawable = jnp.where(allowed.mask, relative[:, allowed.tokens], -jnp.inf)
    if sampling.temperature == 0:
        tokens = jnp.argmax(drawable, axis=-1)
    else:
        scaled = drawable / sampling.temperature
        weights = jnp.exp(scaled - jnp.max(scaled, axis=-1, keepdims=True))
        tokens = _pick_two_stage(weights, _uniform(keys, counts))
    if allowed is not None:
        tokens = allowed.tokens[tokens]
    chosen = jnp.take_along_axis(relative, tokens[:, None], axis=-1)[:, 0]
    return tokens.astype(jnp.int32), chosen - log_total


def _uniform(keys: UInt32[Array, "b 2"], counts: Int[Array, " b"]) -> Float[Array, "b 2"]:
    """Two numbers in [0, 1) for each row's next token.

    Threefry (Salmon et al. 2011) as a counter-based generator: seed and row number are the key,
    the token's count is the counter.
    """
    counter = jax.lax.bitcast_convert_type(counts.astype(jnp.int32), jnp.uint32)
    bits = threefry2x32_p.bind(keys[:, 0], keys[:, 1], counter, jnp.zeros_like(counter))
    return jnp.stack([(half >> 8).astype(jnp.float32) * 2.0**-24 for half in bits], axis=-1)


def _pick_two_stage(weights: Float[Array, "b v"], uniform: Float[Array, "b 2"]) -> Int[Array, " b"]:
    """One index per row, with probability in proportion to its weight."""
    rows, vocab = weights.shape
    width = 1 << round(math.log2(vocab) / 2)
    blocks = jnp.pad(weights, ((0, 0), (0, -vocab % width))).reshape(rows, -1, width)
    block = _pick(jnp.sum(blocks, axis=-1), uniform[:, 0])
    within = jnp.take_along_axis(blocks, block[:, None, None], axis=1)[:, 0]
    return block * width + _pick(within, uniform[:, 1])


def _pick(weights: Float[Array, "b n"], uniform: Float[Array, " b"]) -> Int[Array, " b"]:
    """The first index whose cumulative weight exceeds the given share of the total.

    Never one of weight 0, whatever rounding does to the sums.
    """
    n = weights.shape[-1]
    below = jnp.tril(jnp.ones((n, n), weights.dtype)).T
    cumulative = jnp.matmul(weights, below, precision=jax.lax.Precision.HIGHEST)
    positive = weights > 0
    beyond = positive & (cumulative > (uniform * cumulative[:, -1])[:, None])
    last = n - 1 - jnp.argmax(positive[:, ::-1], axis=-1)
    return jnp.where(jnp.any(beyond, axis=-1), jnp.argmax(beyond, axis=-1), last)
