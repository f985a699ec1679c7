"""Attention: who sees whom, and the weighted mean itself."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from subliminal_jax.losses import EXCLUDED
from subliminal_jax.models.decoder_config import DecoderConfig, LayerKind


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
        same: whether a key belongs to the query's text at all, `[B, T or 1, S]`.
    """
    distance = queries[:, :, None] - keys[:, None, :]
    causal = same & (distance >= 0)
    return jnp.stack(
        [causal if kind.window is None else causal & (distance < kind.window) for kind in kinds]
    )


def attend(
    config: DecoderConfig,
    queries: Float[Array, "b t n d"],
    keys: Float[Array, "b s k d"],
    values: Float[Array, "b s k d"],
    mask: Bool[Array, "b t s"],
) -> Float[Array, "b t n d"]:
    """Softmax attention, query heads in groups of `heads / kv_heads` on each key head.

    A query that sees nothing (padding) gets a finite mean of no meaning.
    """
    implementation = config.compute.attention
    if implementation == "plain" or config.attention_softcap is not None:
        return plain_attention(
            queries, keys, values, mask, scale=config.scale, softcap=config.attention_softcap
        )
    return jax.nn.dot_product_attention(
        queries,
        keys,
        values,
        mask=mask[:, None],
        scale=config.scale,
        implementation=implementation,
    )


def plain_attention(
    queries: Float[Array, "b t n d"],
    keys: Float[Array, "b s k d"],
    values: Float[Array, "b s k d"],
    mask: Bool[Array, "b t s"],
    *,
    scale: float,
    softcap: float | None,
) -> Float[Array, "b t n d"]:
    """The formula: `softmax(cap(scale * q k)) v`, logits and softmax in float32."""
    batch, length, heads, dim = queries.shape
    grouped = queries.reshape(batch, length, keys.shape[2], -1, dim)
    logits = scale * jnp.einsum(
        "btkgd,bskd->bkgts", grouped, keys, preferred_element_type=jnp.float32
    )
    if softcap is not None:
        logits = softcap * jnp.tanh(logits / softcap)
    weights = jax.nn.softmax(jnp.where(mask[:, None, None], logits, EXCLUDED), axis=-1)
    means = jnp.einsum("bkgts,bskd->btkgd", weights.astype(values.dtype), values)
    return means.reshape(batch, length, heads, dim)
