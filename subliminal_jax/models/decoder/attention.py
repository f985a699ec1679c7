"""Attention masks and softmax attention."""

from collections.abc import Callable, Sequence
from functools import reduce

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from subliminal_jax.losses import EXCLUDED
from subliminal_jax.models.decoder.bits import kept
from subliminal_jax.models.decoder.config import DecoderConfig, LayerKind
from subliminal_jax.models.product import batched_product, inner_products, scale_rows


def visible(
    kinds: tuple[LayerKind, ...],
    queries: Int[Array, "b t"],
    keys: Int[Array, "b s"],
    same: Bool[Array, "b _ s"],
) -> Bool[Array, "k b t s"]:
    """Which keys each query sees, for every kind of layer.

    Args:
        kinds: the kinds of layers.
        queries: the positions of the queries.
        keys: the positions of the keys.
        same: whether a key belongs to the query's text, `[B, T or 1, S]`.
    """
    distance = queries[:, :, None] - keys[:, None, :]
    causal = same & (distance >= 0)
    return jnp.stack(
        [causal if kind.window is None else causal & (distance < kind.window) for kind in kinds]
    )


def attend(
    config: DecoderConfig,
    queries: Float[Array, "b t n d"],
    keys: Float[Array, "b t k d"],
    values: Float[Array, "b t k d"],
    mask: Bool[Array, "b t t"],
) -> Float[Array, "b t n d"]:
    """Softmax attention, query heads in groups of `heads / kv_heads` on each key head.

    A query that sees no key (padding) gets finite values without meaning.
    """
    if not takes_one_array(config):
        return softmax_attention(
            config, queries, [(keys.swapaxes(1, 2), values.swapaxes(1, 2), mask)]
        )
    # Where members are mapped, JAX's rule for cuDNN takes only a mask of every head.
    return jax.nn.dot_product_attention(
        queries,
        keys,
        values,
        mask=jnp.broadcast_to(mask[:, None], (mask.shape[0], config.heads, *mask.shape[1:])),
        scale=config.scale,
        implementation="cudnn",
    )


def takes_one_array(config: DecoderConfig) -> bool:
    """Whether attention is cuDNN's, whose keys are in one array: nothing is shared by its rows."""
    return config.compute.attention == "cudnn" and config.attention_softcap is None


def softmax_attention(
    config: DecoderConfig,
    queries: Float[Array, "b t n d"],
    seen: Sequence[tuple[Float[Array, "_ k _ d"], Float[Array, "_ k _ d"], Bool[Array, "b t _"]]],
) -> Float[Array, "b t n d"]:
    """The formula: `softmax(cap(scale * q k)) v`, logits and softmax in float32.

    Args:
        config: the model, for scale and cap.
        queries: of all query heads.
        seen: keys, values and which of them each query sees; keys and values of one row in place
            of B are those of a text that all rows follow. One softmax runs over all entries;
            keeping them apart avoids a copy of the cache.
    """
    batch, length, _, dim = queries.shape
    groups = seen[0][0].shape[1]
    # All queries on one key head are the rows of one matrix.
    grouped = queries.reshape(batch, length, groups, -1, dim).transpose(0, 2, 3, 1, 4)
    rows = kept(grouped.reshape(batch, groups, -1, dim))
    logits = [_logits(config, rows, keys, mask) for keys, _, mask in seen]
    highest = reduce(jnp.maximum, [jnp.max(part, axis=-1, keepdims=True) for part in logits])
    total, means = jnp.zeros((), logits[0].dtype), jnp.zeros((), logits[0].dtype)
    for part, (_, values, _) in zip(logits, seen, strict=True):
        weights = jnp.exp(part - jax.lax.stop_gradient(highest))
        total += jnp.sum(weights, axis=-1)
        means += _with_all(batched_product, weights.astype(values.dtype), values)
    means = scale_rows(means, 1 / total).astype(queries.dtype)
    return means.reshape(grouped.shape).transpose(0, 3, 1, 2, 4).reshape(queries.shape)


def _logits(config: DecoderConfig, rows: Array, keys: Array, mask: Array) -> Array:
    logits = config.scale * _with_all(inner_products, rows, kept(keys))
    if config.attention_softcap is not None:
        logits = config.attention_softcap * jnp.tanh(logits / config.attention_softcap)
    heads = rows.shape[-2] // mask.shape[-2]
    return jnp.where(jnp.tile(mask, (1, heads, 1))[:, None], logits, EXCLUDED)


def _with_all(
    product: Callable[[Array, Array], Array],
    rows: Float[Array, "b k n _"],
    held: Float[Array, "_ k m _"],
) -> Float[Array, "b k n _"]:
    """The product of each row with what is held for it; what all share is multiplied at once."""
    batch, groups = rows.shape[:2]
    if held.shape[0] == batch:
        return product(rows, held)
    together = rows.swapaxes(0, 1).reshape(groups, -1, rows.shape[-1])
    return product(together, held[0]).reshape(groups, batch, rows.shape[2], -1).swapaxes(0, 1)
