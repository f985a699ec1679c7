"""Attention masks and softmax attention."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from subliminal_jax.losses import EXCLUDED
from subliminal_jax.models.decoder.config import DecoderConfig, LayerKind


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
    implementation = config.compute.attention
    if implementation == "plain" or config.attention_softcap is not None:
        return plain_attention(
            config, queries, [(keys.swapaxes(1, 2), values.swapaxes(1, 2), mask)]
        )
    # Where members are mapped, JAX's rule for cuDNN takes only a mask of every head.
    masks = config.heads if implementation == "cudnn" else 1
    return jax.nn.dot_product_attention(
        queries,
        keys,
        values,
        mask=jnp.broadcast_to(mask[:, None], (mask.shape[0], masks, *mask.shape[1:])),
        scale=config.scale,
        implementation=implementation,
    )


def plain_attention(
    config: DecoderConfig,
    queries: Float[Array, "b t n d"],
    seen: Sequence[tuple[Float[Array, "b k _ d"], Float[Array, "b k _ d"], Bool[Array, "b t _"]]],
) -> Float[Array, "b t n d"]:
    """The formula: `softmax(cap(scale * q k)) v`, logits and softmax in float32.

    Args:
        config: the model, for scale and cap.
        queries: of all query heads.
        seen: keys, values and which of them each query sees. One softmax runs over all entries;
            keeping them apart avoids a copy of the cache.
    """
    batch, length, heads, dim = queries.shape
    grouped = queries.reshape(batch, length, seen[0][0].shape[1], -1, dim)
    logits = [_logits(config, grouped, keys, mask) for keys, _, mask in seen]
    weights = jax.nn.softmax(jnp.concatenate(logits, axis=-1), axis=-1)
    means, start = jnp.zeros((), weights.dtype), 0
    for _, values, mask in seen:
        part = weights[..., start : start + mask.shape[-1]].astype(values.dtype)
        means += jnp.einsum("bkgts,bksd->bkgtd", part, values, preferred_element_type=weights.dtype)
        start += mask.shape[-1]
    means = jnp.moveaxis(means.astype(queries.dtype), 3, 1)
    return means.reshape(batch, length, heads, dim)


def _logits(config: DecoderConfig, queries: Array, keys: Array, mask: Array) -> Array:
    logits = config.scale * jnp.einsum(
        "btkgd,bksd->bkgts", queries, keys, preferred_element_type=jnp.float32
    )
    if config.attention_softcap is not None:
        logits = config.attention_softcap * jnp.tanh(logits / config.attention_softcap)
    return jnp.where(mask[:, None, None], logits, EXCLUDED)
