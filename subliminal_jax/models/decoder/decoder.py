"""A decoder-only language model as pure functions of its parameters.

Shape letters: b rows, t tokens, s stored tokens, v vocabulary, e width, n query heads,
k key heads or kinds of layers, d head dimension, p tokens of a prefix.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from subliminal_jax.batch import Params, RandomKey
from subliminal_jax.keys import root_key
from subliminal_jax.models.decoder.attention import takes_one_array, visible
from subliminal_jax.models.decoder.bits import as_bits, lookup
from subliminal_jax.models.decoder.cache import Cache, append, init_cache, next_positions
from subliminal_jax.models.decoder.config import DecoderConfig
from subliminal_jax.models.decoder.forms import (
    UNEMBEDDING_COLUMNS,
    slices_convert_stacks,
    unembedding,
)
from subliminal_jax.models.decoder.layers import ADAPTER, Decoder, KeysValues, Places
from subliminal_jax.models.decoder.rope import rotations
from subliminal_jax.models.product import product


def init(config: DecoderConfig, key: RandomKey) -> Mapping[str, Params]:
    """Random parameters, float32; those of the layers are stacked, `[layers, ...]`.

    Kernels `[in, out]` and embeddings `[vocab, width]` are normal with standard deviation
    `config.initial_std`, biases 0, norms 1.
    """
    tokens = jnp.zeros((1, 1), jnp.int32)
    places = _places(config, tokens, visible(config.kinds, tokens, tokens, tokens[:, None] == 0))
    return Decoder(config).init(key, tokens, tokens, places)["params"]


@cache
def shapes(config: DecoderConfig) -> Any:
    """The tree of `init` with a `jax.ShapeDtypeStruct` for each array; not to be changed.

    To trace `init` takes a third of a second, so it is done once a process. No device is needed.
    """
    return jax.eval_shape(lambda: init(config, root_key(0)))


def parameter_count(config: DecoderConfig) -> int:
    """Parameters of a model."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes(config)))


def empty_cache(config: DecoderConfig, params: Params, batch: int, length: int) -> Cache:
    """An empty cache as these parameters fill it; see `init_cache`."""
    return init_cache(config, batch, length, apart=isinstance(params["layers"], tuple))


def positions_of(segments: Int[Array, "b t"]) -> Int[Array, "b t"]:
    """Each token's position in its own text: how many tokens of its segment precede it."""
    index = jnp.broadcast_to(jnp.arange(segments.shape[1]), segments.shape)
    first = jnp.concatenate([jnp.ones_like(segments[:, :1]), jnp.diff(segments)], axis=1) != 0
    return index - jax.lax.cummax(jnp.where(first, index, 0), axis=1)


def hidden_states(
    config: DecoderConfig,
    params: Params,
    tokens: Int[Array, "b t"],
    segments: Int[Array, "b t"] | Bool[Array, "b t"] | None = None,
    adapter: Params | None = None,
    prefix: Int[Array, " p"] | None = None,
) -> Float[Array, "b t e"]:
    """The final hidden states, normed; `unembed` maps them to logits.

    Args:
        config: the model.
        params: its parameters.
        tokens: ids; padding may hold any id.
        segments: 0 for padding, on either side; 1, 2, ... for the texts packed into a row, which
            do not attend to each other. A mask of real tokens is one segment. None: no padding.
        adapter: low-rank factors beside some kernels, scaled; see `models.decoder.lora`.
        prefix: ids of tokens that precede every text; None: no token. They are read once for all
            rows, by cuDNN once in each row.
    """
    segments = jnp.ones_like(tokens) if segments is None else segments.astype(jnp.int32)
    positions = positions_of(segments)
    same = segments[:, :, None] == segments[:, None, :]
    before, added = None, 0
    if prefix is not None and takes_one_array(config):
        tokens, positions, same = _prepended(prefix, tokens, positions, same)
        added = len(prefix)
    elif prefix is not None:
        before = read(config, params, prefix, adapter)
    mask = visible(config.kinds, positions, positions, same)
    positions, seen, stored = _behind(config, before, positions)
    places = _places(config, positions, mask)._replace(stored=seen)
    return _decoder(config, params, adapter)(tokens, positions, places, stored)[0][:, added:]


def _prepended(
    prefix: Int[Array, " p"],
    tokens: Int[Array, "b t"],
    positions: Int[Array, "b t"],
    same: Bool[Array, "b t t"],
) -> tuple[Int[Array, "b p+t"], Int[Array, "b p+t"], Bool[Array, "b p+t p+t"]]:
    """Rows that begin with a prefix, which all of their texts see."""
    count = len(prefix)
    put = lambda first, rest: jnp.concatenate(
        [jnp.broadcast_to(first, (len(rest), count)), rest], axis=1
    )
    same = jnp.pad(same, ((0, 0), (count, 0), (count, 0)), constant_values=True)
    return put(prefix, tokens), put(jnp.arange(count), positions + count), same


def read(
    config: DecoderConfig,
    params: Params,
    text: Int[Array, " t"],
    adapter: Params | None = None,
) -> KeysValues:
    """Keys and values of one text, behind which `start` and `extend` read rows."""
    index = jnp.arange(len(text))[None]
    mask = visible(config.kinds, index, index, jnp.ones((1, 1, len(text)), bool))
    places = _places(config, index, mask)
    return _decoder(config, params, adapter, keep=True)(text[None], index, places)[1]


def _behind(
    config: DecoderConfig, prefix: KeysValues | None, positions: Int[Array, "b t"]
) -> tuple[Int[Array, "b t"], tuple[Any, ...], tuple[KeysValues, ...]]:
    """Positions behind a prefix, what of it these see, and the prefix."""
    if prefix is None:
        return positions, (), ()
    rows, count = len(positions), jax.tree.leaves(prefix)[0].shape[-2]
    positions += count
    first = jnp.broadcast_to(jnp.arange(count), (rows, count))
    every = jnp.ones((rows, 1, count), bool)
    return positions, (visible(config.kinds, positions, first, every),), (prefix,)


def unembed(
    config: DecoderConfig,
    params: Params,
    hidden: Float[Array, "*batch e"],
    ids: Int[Array, " v"] | None = None,
) -> Float[Array, "*batch v"]:
    """Logits of hidden states, float32: of all tokens, or of those with these ids."""
    columns = params.get(UNEMBEDDING_COLUMNS)
    if ids is not None:
        columns = lookup(unembedding(config, params), ids).T
    elif columns is None:
        columns = unembedding(config, params).T
    logits = product(hidden, columns)
    cap = config.logit_softcap
    return logits if cap is None else cap * jnp.tanh(logits / cap)


def apply(
    config: DecoderConfig,
    params: Params,
    tokens: Int[Array, "b t"],
    segments: Int[Array, "b t"] | Bool[Array, "b t"] | None = None,
    adapter: Params | None = None,
) -> Float[Array, "b t v"]:
    """Next-token logits at every token, float32. Arguments as in `hidden_states`."""
    return unembed(config, params, hidden_states(config, params, tokens, segments, adapter))


def start(
    config: DecoderConfig,
    params: Params,
    tokens: Int[Array, "b t"],
    cache: Cache,
    mask: Bool[Array, "b t"] | None = None,
    adapter: Params | None = None,
    prefix: KeysValues | None = None,
) -> tuple[Float[Array, "b t e"], Cache]:
    """Prefill: as `extend` for empty rows, whose slots are written and not read.

    What the cache held before is discarded.
    """
    mask = jnp.ones_like(tokens, bool) if mask is None else mask
    cache = replace(cache, lengths=jnp.zeros_like(cache.lengths))
    positions, seen, stored = _behind(config, prefix, next_positions(cache, mask))
    places = _places(config, positions, _among_new(config, mask))._replace(stored=seen)
    hidden, (keys, values) = _decoder(config, params, adapter, keep=True)(
        tokens, jnp.maximum(positions, 0), places, stored
    )
    return hidden, append(cache, keys, values, mask)


def extend(
    config: DecoderConfig,
    params: Params,
    tokens: Int[Array, "b t"],
    cache: Cache,
    mask: Bool[Array, "b t"] | None = None,
    adapter: Params | None = None,
    prefix: KeysValues | None = None,
) -> tuple[Float[Array, "b t e"], Cache]:
    """Hidden states of tokens that follow those in the cache, and the cache with both.

    Args:
        config: the model.
        params: its parameters.
        tokens: ids; padding may hold any id.
        cache: what was read before; a row grows by its number of real tokens. The caller must
            leave room: a token without a slot left is dropped.
        mask: which tokens are real, padding on either side. None: all.
        adapter: as in `hidden_states`.
        prefix: of `read`: what all rows follow, beside what the cache holds; None: nothing.
    """
    mask = jnp.ones_like(tokens, bool) if mask is None else mask
    positions = next_positions(cache, mask)
    own = _held(config, cache, positions)
    positions, seen, stored = _behind(config, prefix, positions)
    places = _places(config, positions, _among_new(config, mask))._replace(stored=(*seen, own))
    hidden, (keys, values) = _decoder(config, params, adapter, keep=True)(
        tokens, jnp.maximum(positions, 0), places, (*stored, (cache.keys, cache.values))
    )
    # A comparison lets the cache be written after it was read: XLA copies all of it otherwise.
    return hidden, append(cache, keys, values, mask & (hidden[..., 0] == hidden[..., 0]))


def branch(
    config: DecoderConfig,
    params: Params,
    tokens: Int[Array, "b t"],
    segments: Int[Array, "b t"],
    cache: Cache,
    adapter: Params | None = None,
) -> Float[Array, "b t e"]:
    """Hidden states of several texts, each of which follows alone what its row has in the cache.

    Args:
        config: the model.
        params: its parameters.
        tokens: ids of the texts of each row, one after another.
        segments: 1, 2, ... for the texts; 0 for padding.
        cache: what was read before.
        adapter: as in `hidden_states`.
    """
    positions = cache.lengths[:, None] + positions_of(segments)
    same = segments[:, :, None] == segments[:, None, :]
    among = visible(config.kinds, positions, positions, same)
    stored = (_held(config, cache, positions),)
    places = _places(config, positions, among)._replace(stored=stored)
    return _decoder(config, params, adapter)(
        tokens, positions, places, ((cache.keys, cache.values),)
    )[0]


def _held(
    config: DecoderConfig, cache: Cache, positions: Int[Array, "b t"]
) -> Bool[Array, "k b t s"]:
    """What tokens at these positions see of the cache."""
    slots = jnp.broadcast_to(jnp.arange(cache.slots), (len(positions), cache.slots))
    filled = (slots < cache.lengths[:, None])[:, None]
    return visible(config.kinds, positions, slots, filled)


def _among_new(config: DecoderConfig, mask: Bool[Array, "b t"]) -> Bool[Array, "k b t t"]:
    order = jnp.cumsum(mask, axis=1)
    return visible(config.kinds, order, order, mask[:, None])


def _places(
    config: DecoderConfig, positions: Int[Array, "b t"], mask: Bool[Array, "k b t s"]
) -> Places:
    if config.learned_positions:
        return Places(None, None, mask)
    cos, sin = rotations(config.kinds, config.head_dim, positions)
    return Places(cos, sin, mask)


def _decoder(
    config: DecoderConfig, params: Params, adapter: Params | None, keep: bool = False
) -> Any:
    bits = slices_convert_stacks(config) and not isinstance(params["layers"], tuple)
    if bits:
        params = {**params, "layers": jax.tree.map(as_bits, params["layers"])}
    variables = {"params": params} if adapter is None else {"params": params, ADAPTER: adapter}
    return partial(Decoder(config, keep, bits).apply, variables)
