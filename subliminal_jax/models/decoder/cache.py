"""The KV cache of a decoder, as an explicit tree of arrays.

A row's tokens take its first slots without gaps, however they were padded: the slot is the
position, counted behind any prefix, which is held elsewhere. `lengths` alone determines which slots
are valid.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from subliminal_jax.models.decoder.bits import as_bits, from_bits
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
        lengths: tokens that each row has read behind any prefix, `[B]`; 0 empties a row.
    """

    keys: Any
    values: Any
    lengths: Any

    @property
    def slots(self) -> int:
        """Tokens that a row has room for."""
        return jax.tree.leaves(self.keys)[0].shape[-2]


def init_cache(config: DecoderConfig, batch: int, length: int, *, apart: bool = False) -> Cache:
    """An empty cache of `batch` rows with room for `length` tokens each.

    Args:
        config: the model.
        batch: rows.
        length: slots in a row.
        apart: whether the model's layers are.
    """
    shape = (batch, config.kv_heads, length, config.head_dim)
    dtype = config.compute.dtype
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
    put = partial(jax.lax.platform_dependent, rows, cpu=_rows_where, default=_rows_at)
    lengths = cache.lengths.at[rows].set(new.lengths, mode="drop")
    return _replaced(cache, lengths, put, (new.keys, new.values))


def _rows_at(rows: Int[Array, " r"], old: Array, new: Array) -> Array:
    return old.at[..., rows, :, : new.shape[-2], :].set(new, mode="drop")


def _rows_where(rows: Int[Array, " r"], old: Array, new: Array) -> Array:
    """As `_rows_at`; a CPU copies all of the cache for a scatter, and skips what this keeps."""
    here = rows[:, None] == jnp.arange(old.shape[-4])[None]
    filled = jnp.arange(old.shape[-2]) < new.shape[-2]
    more = [(0, 0)] * new.ndim
    more[-2] = (0, old.shape[-2] - new.shape[-2])
    new = jnp.pad(new, more)[..., jnp.argmax(here, axis=0), :, :, :]
    return _replace_slots(jnp.any(here, axis=0)[:, None] & filled[None], old, new)


def append(
    cache: Cache,
    keys: Float[Array, "layers b k t d"] | tuple[Float[Array, "b k t d"], ...],
    values: Float[Array, "layers b k t d"] | tuple[Float[Array, "b k t d"], ...],
    mask: Bool[Array, "b t"],
) -> Cache:
    """The cache with the tokens that `mask` selects; a token without a slot left is dropped."""
    slots = jnp.where(mask, next_positions(cache, mask), cache.slots)
    put = partial(jax.lax.platform_dependent, slots, cpu=_put_where, default=_put_at)
    lengths = cache.lengths + jnp.sum(mask, axis=1)
    return _replaced(cache, lengths, put, (keys, values))


def _put_at(slots: Int[Array, "b t"], old: Array, new: Array) -> Array:
    rows, heads = jnp.arange(new.shape[-4])[:, None, None], jnp.arange(new.shape[-3])[:, None]
    return old.at[..., rows, heads[None], slots[:, None], :].set(new, mode="drop")


def _put_where(slots: Int[Array, "b t"], old: Array, new: Array) -> Array:
    """As `_put_at`, for a CPU; see `_rows_where`."""
    here = slots[:, :, None] == jnp.arange(old.shape[-2])[None, None]
    if new.shape[-2] > 1:
        source = jnp.argmax(here, axis=1)[:, None, :, None]
        source = source.reshape(*[1] * (new.ndim - 4), *source.shape)
        new = jnp.take_along_axis(
            new, jnp.broadcast_to(source, (*new.shape[:-2], old.shape[-2], 1)), axis=-2
        )
    return _replace_slots(jnp.any(here, axis=1), old, new)


def _replace_slots(which: Bool[Array, "b s"], old: Array, new: Array) -> Array:
    which = which[:, None, :, None].reshape(*[1] * (old.ndim - 4), len(which), 1, -1, 1)
    return jnp.where(jnp.broadcast_to(which, old.shape), jnp.broadcast_to(new, old.shape), old)


def _replaced(cache: Cache, lengths: Array, fn: Callable[..., Array], *others: Any) -> Cache:
    """The cache with `fn` applied to keys and values, and to those of others beside them.

    It moves bfloat16 as bits: a CPU would convert all of the cache to float32 and back.
    """
    dtype = jax.tree.leaves(cache.keys)[0].dtype
    moved = lambda *leaves: from_bits(fn(*(as_bits(leaf.astype(dtype)) for leaf in leaves)))
    keys, values = jax.tree.map(moved, (cache.keys, cache.values), *others)
    return Cache(keys=keys, values=values, lengths=lengths)


def next_positions(cache: Cache, mask: Bool[Array, "b t"]) -> Int[Array, "b t"]:
    """The slots of tokens that follow; a masked token has that of the one before it."""
    return cache.lengths[:, None] + jnp.cumsum(mask, axis=1) - 1
