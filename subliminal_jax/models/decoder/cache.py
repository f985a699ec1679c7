"""The KV cache of a decoder, as an explicit tree of arrays.

A row's tokens take its first slots without gaps, however they were padded: the slot is the
position, and `lengths` alone determines which slots are valid.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from subliminal_jax.models.decoder.config import DecoderConfig


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("keys", "values", "lengths"),
    meta_fields=(),
)
@dataclass(frozen=True, kw_only=True)
class Cache:
    """Keys and values of the tokens that each row has read.

    Attributes:
        keys, values: `[layers, B, kv_heads, slots, head_dim]`; keys are rotated already.
        lengths: tokens that each row has read, `[B]`; 0 empties a row.
    """

    keys: Any
    values: Any
    lengths: Any

    @property
    def slots(self) -> int:
        """Tokens that a row has room for."""
        return self.keys.shape[3]


def init_cache(
    config: DecoderConfig, batch: int, length: int, dtype: jax.typing.DTypeLike | None = None
) -> Cache:
    """An empty cache of `batch` rows with room for `length` tokens each.

    Args:
        config: the model.
        batch: rows.
        length: slots in a row.
        dtype: of keys and values; None for `config.compute.dtype`.
    """
    shape = (config.layers, batch, config.kv_heads, length, config.head_dim)
    dtype = config.compute.dtype if dtype is None else dtype
    return Cache(
        keys=jnp.zeros(shape, dtype),
        values=jnp.zeros(shape, dtype),
        lengths=jnp.zeros(batch, jnp.int32),
    )


def take_rows(cache: Cache, rows: Int[Array, " r"]) -> Cache:
    """A cache of the given rows, in that order; a row may be given more than once.

    With a prompt read once, `take_rows(cache, jnp.zeros(n, int))` starts n samples of it.
    """
    return Cache(
        keys=cache.keys[:, rows], values=cache.values[:, rows], lengths=cache.lengths[rows]
    )


def put_rows(cache: Cache, rows: Int[Array, " r"], new: Cache) -> Cache:
    """The cache with the given rows replaced by those of `new`, which may have fewer slots.

    Prefilled prompts replace finished rows this way. Row numbers outside the cache are ignored.
    """
    slots = new.keys.shape[3]
    return Cache(
        keys=cache.keys.at[:, rows, :, :slots].set(new.keys, mode="drop"),
        values=cache.values.at[:, rows, :, :slots].set(new.values, mode="drop"),
        lengths=cache.lengths.at[rows].set(new.lengths, mode="drop"),
    )


def append(
    cache: Cache,
    keys: Float[Array, "layers b k t d"],
    values: Float[Array, "layers b k t d"],
    mask: Bool[Array, "b t"],
) -> Cache:
    """The cache with the tokens that `mask` selects; a token without a slot left is dropped."""
    slots = jnp.where(mask, next_positions(cache, mask), cache.slots)
    rows, heads = jnp.arange(keys.shape[1])[:, None, None], jnp.arange(keys.shape[2])[:, None]
    at = (slice(None), rows, heads[None], slots[:, None])
    return Cache(
        keys=cache.keys.at[at].set(keys.astype(cache.keys.dtype), mode="drop"),
        values=cache.values.at[at].set(values.astype(cache.values.dtype), mode="drop"),
        lengths=cache.lengths + jnp.sum(mask, axis=1),
    )


def next_positions(cache: Cache, mask: Bool[Array, "b t"]) -> Int[Array, "b t"]:
    """The positions of tokens that follow; a masked token has that of the one before it."""
    return cache.lengths[:, None] + jnp.cumsum(mask, axis=1) - 1
