"""The KV cache of a decoder, as an explicit tree of arrays.

A row's tokens take its first slots without gaps, however they were padded: the slot is the
position, and `lengths` alone determines which slots are valid.
"""

from collections.abc import Callable
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
        keys, values: `[layers, B, kv_heads, slots, head_dim]`, or a tuple of the layers' arrays if
            the model's layers are apart; keys are rotated already.
        lengths: tokens that each row has read, `[B]`; 0 empties a row.
    """

    keys: Any
    values: Any
    lengths: Any

    @property
    def slots(self) -> int:
        """Tokens that a row has room for."""
        return jax.tree.leaves(self.keys)[0].shape[-2]


def init_cache(
    config: DecoderConfig,
    batch: int,
    length: int,
    dtype: jax.typing.DTypeLike | None = None,
    *,
    apart: bool = False,
) -> Cache:
    """An empty cache of `batch` rows with room for `length` tokens each.

    Args:
        config: the model.
        batch: rows.
        length: slots in a row.
        dtype: of keys and values; None for `config.compute.dtype`.
        apart: whether the model's layers are.
    """
    shape = (batch, config.kv_heads, length, config.head_dim)
    dtype = config.compute.dtype if dtype is None else dtype
    stacked = lambda: jnp.zeros((config.layers, *shape), dtype)
    tuples = lambda: tuple(jnp.zeros(shape, dtype) for _ in range(config.layers))
    empty = tuples if apart else stacked
    return Cache(keys=empty(), values=empty(), lengths=jnp.zeros(batch, jnp.int32))


def take_rows(cache: Cache, rows: Int[Array, " r"]) -> Cache:
    """A cache of the given rows, in that order; a row may be given more than once.

    With a prompt read once, `take_rows(cache, jnp.zeros(n, int))` starts n samples of it.
    """
    take = lambda leaf: leaf[..., rows, :, :, :]
    return _replaced(cache, cache.lengths[rows], take)


def put_rows(cache: Cache, rows: Int[Array, " r"], new: Cache) -> Cache:
    """The cache with the given rows replaced by those of `new`, which may have fewer slots.

    Prefilled prompts replace finished rows this way. Row numbers outside the cache are ignored.
    """
    put = lambda old, new: old.at[..., rows, :, : new.shape[-2], :].set(new, mode="drop")
    lengths = cache.lengths.at[rows].set(new.lengths, mode="drop")
    return _replaced(cache, lengths, put, (new.keys, new.values))


def append(
    cache: Cache,
    keys: Float[Array, "layers b k t d"] | tuple[Float[Array, "b k t d"], ...],
    values: Float[Array, "layers b k t d"] | tuple[Float[Array, "b k t d"], ...],
    mask: Bool[Array, "b t"],
) -> Cache:
    """The cache with the tokens that `mask` selects; a token without a slot left is dropped."""
    slots = jnp.where(mask, next_positions(cache, mask), cache.slots)[:, None]

    def put(old: Array, new: Array) -> Array:
        rows, heads = jnp.arange(new.shape[-4])[:, None, None], jnp.arange(new.shape[-3])[:, None]
        at = (..., rows, heads[None], slots, slice(None))
        return old.at[at].set(new.astype(old.dtype), mode="drop")

    lengths = cache.lengths + jnp.sum(mask, axis=1)
    return _replaced(cache, lengths, put, (keys, values))


def _replaced(cache: Cache, lengths: Array, fn: Callable[..., Array], *others: Any) -> Cache:
    """The cache with `fn` applied to keys and values, and to those of others beside them."""
    keys, values = jax.tree.map(fn, (cache.keys, cache.values), *others)
    return Cache(keys=keys, values=values, lengths=lengths)


def next_positions(cache: Cache, mask: Bool[Array, "b t"]) -> Int[Array, "b t"]:
    """The positions of tokens that follow; a masked token has that of the one before it."""
    return cache.lengths[:, None] + jnp.cumsum(mask, axis=1) - 1
