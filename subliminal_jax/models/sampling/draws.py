"""Sampling the next token from logits: temperature, truncation, and one draw per row.

A draw inverts the cumulative distribution in two stages, first among blocks of the vocabulary,
then within the block, with two random numbers per row. This is exact, needs no sorting and a few
thousand times fewer random numbers than adding Gumbel noise to every logit.

Shape letters: b rows, v vocabulary, n weights, u tokens that a constraint ever allows.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.random import threefry2x32_p
from jaxtyping import Array, Bool, Float, Int, UInt32

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
        sampling: temperature and truncation.
        logits: float32.
        keys: the seed and each row's number.
        counts: tokens that each row has drawn before; the draw is a function of seed, number,
            count and logits alone.
        vocab: ids from this one on are never drawn; None: all may be.
        allowed: the only tokens to draw, in place of `vocab`; None: all may be. Temperature and
            truncation apply to what is allowed: `top_p` is a share of its probability.

    Returns:
        Ids, and log probabilities in nats under `softmax(logits)`: without temperature and
        truncation, over the whole vocabulary, whatever is allowed.
    """
    highest = jnp.max(logits, axis=-1, keepdims=True)
    relative = logits - highest
    log_total = jnp.log(jnp.sum(jnp.exp(relative), axis=-1))
    drawable = relative if vocab is None else relative[:, :vocab]
    if allowed is not None:
        drawable = jnp.where(allowed.mask, relative[:, allowed.tokens], -jnp.inf)
    if sampling.temperature == 0:
        tokens = jnp.argmax(drawable, axis=-1)
    else:
        tokens = _pick_two_stage(kept(sampling, drawable), _uniform(keys, counts))
    if allowed is not None:
        tokens = allowed.tokens[tokens]
    chosen = jnp.take_along_axis(relative, tokens[:, None], axis=-1)[:, 0]
    return tokens.astype(jnp.int32), chosen - log_total


def kept(sampling: Sampling, logits: Float[Array, "b v"]) -> Float[Array, "b v"]:
    """Each token's unnormalised probability; 0 where truncation drops it.

    Args:
        sampling: the temperature, above 0, and the truncation.
        logits: up to a constant per row; minus infinity, but not in all of a row, for weight 0.

    Returns:
        `exp(logits / temperature)`, 1 for the likeliest token.
    """
    scaled = logits / sampling.temperature
    weights = jnp.exp(scaled - jnp.max(scaled, axis=-1, keepdims=True))
    if sampling.top_k is not None and sampling.top_k < weights.shape[-1]:
        count = lambda chosen: jnp.sum(chosen, axis=-1)
        needed = jnp.full(weights.shape[:-1], sampling.top_k)
        weights = jnp.where(_largest(weights, count, needed), weights, 0.0)
    if sampling.top_p is not None and sampling.top_p < 1:
        share = lambda chosen: jnp.sum(jnp.where(chosen, weights, 0.0), axis=-1)
        needed = sampling.top_p * jnp.sum(weights, axis=-1)
        weights = jnp.where(_largest(weights, share, needed), weights, 0.0)
    if sampling.min_p is not None:
        weights = jnp.where(weights >= sampling.min_p, weights, 0.0)
    return weights


def _largest(
    weights: Float[Array, "b v"],
    measure: Callable[[Bool[Array, "b v"]], Array],
    needed: Array,
) -> Bool[Array, "b v"]:
    """The fewest largest weights whose `measure` reaches `needed`, with all ties.

    Bisects for the least of them: floats from 0 to 1 are ordered as their bits are, so 30 steps
    find it exactly, without sorting.
    """
    bits = jax.lax.bitcast_convert_type(weights, jnp.int32)
    one = jax.lax.bitcast_convert_type(jnp.float32(1), jnp.int32)

    def halve(_: Array, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bounds
        middle = high - (high - low) // 2
        enough = measure(bits >= middle[:, None]) >= needed
        return jnp.where(enough, middle, low), jnp.where(enough, high, middle - 1)

    rows = weights.shape[0]
    least, _ = jax.lax.fori_loop(0, 30, halve, (jnp.zeros(rows, jnp.int32), jnp.full(rows, one)))
    return bits >= least[:, None]


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
