"""Continuous batching: slots of a decode batch, which finished rows leave and waiting rows take.

All shapes are static: one program decodes, one admits. A slot's cache holds all that its row has
read behind the prefix that all rows share, except one pending token, which the next decode step
reads. A prompt's last token is pending when its row is admitted, so that every step is alike.

Shape letters: b slots, q rows admitted at once, u prompts read for them, t tokens of a prompt,
m tokens of a completion.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from subliminal_jax.batch import Params
from subliminal_jax.models.decoder.cache import Cache, put_rows, take_rows
from subliminal_jax.models.decoder.config import DecoderConfig
from subliminal_jax.models.decoder.decoder import empty_cache, extend, read, start, unembed
from subliminal_jax.models.decoder.layers import KeysValues
from subliminal_jax.models.sampling.constraints import Constraint
from subliminal_jax.models.sampling.draws import draw
from subliminal_jax.models.sampling.settings import Sampling


@partial(
    jax.tree_util.register_dataclass,
    data_fields=(
        *("prefix", "cache", "pending", "keys", "counts", "states", "active", "tokens"),
        "log_probabilities",
    ),
    meta_fields=(),
)
@dataclass(frozen=True, kw_only=True)
class Slots:
    """The state of each slot's row.

    Attributes:
        prefix: the keys and values of the tokens that begin all rows; None if none do.
        cache: what each row has read behind them, without its pending token.
        pending: the token to read next, `[B]`.
        keys: the seed and each row's number, `[B, 2]`.
        counts: tokens drawn so far, `[B]`.
        states: where a constraint's automaton is, `[B]`; 0 without one.
        active: whether the row is unfinished, `[B]`.
        tokens: those drawn, `[B, M]`.
        log_probabilities: the model's, of each token drawn, `[B, M]`, in nats.
    """

    prefix: KeysValues | None
    cache: Cache
    pending: Any
    keys: Any
    counts: Any
    states: Any
    active: Any
    tokens: Any
    log_probabilities: Any


class Admission(NamedTuple):
    """Rows to admit; several may share a prompt.

    Attributes:
        prompts: each prompt without the shared prefix and without its last token, `[U, T]`.
        mask: which of these tokens are real, `[U, T]`.
        pending: each prompt's last token, `[U]`.
        prompt_of: which prompt each row has, `[Q]`.
        slots: the slot of each row, `[Q]`; beyond the last slot for a row that is padding.
        keys: the seed and each row's number, `[Q, 2]`.
    """

    prompts: Any
    mask: Any
    pending: Any
    prompt_of: Any
    slots: Any
    keys: Any


class Drawing(NamedTuple):
    """How tokens are drawn, and which of them end a row.

    Attributes:
        sampling: temperature and `max_tokens`.
        stop_ids: tokens that end a row.
        vocab: ids from this one on are never drawn; None: all may be.
    """

    sampling: Sampling
    stop_ids: tuple[int, ...]
    vocab: int | None


def empty_slots(
    config: DecoderConfig,
    params: Params,
    sampling: Sampling,
    batch: int,
    length: int,
    prefix: KeysValues | None,
) -> Slots:
    """Slots without rows, as these parameters fill them.

    Each has room for `length` tokens behind the prefix.
    """
    drawn = (batch, sampling.max_tokens)
    return Slots(
        prefix=prefix,
        cache=empty_cache(config, params, batch, length),
        pending=jnp.zeros(batch, jnp.int32),
        keys=jnp.zeros((batch, 2), jnp.uint32),
        counts=jnp.zeros(batch, jnp.int32),
        states=jnp.zeros(batch, jnp.int32),
        active=jnp.zeros(batch, bool),
        tokens=jnp.zeros(drawn, jnp.int32),
        log_probabilities=jnp.zeros(drawn, jnp.float32),
    )


read_prefix = jax.jit(read, static_argnames="config")


@partial(jax.jit, static_argnames="config", donate_argnames="slots")
def admit(
    config: DecoderConfig,
    params: Params,
    adapter: Params | None,
    slots: Slots,
    rows: Admission,
) -> Slots:
    """The slots with the rows admitted; each prompt is prefilled once and its cache copied."""
    prompts, length = rows.prompts.shape
    cache = empty_cache(config, params, prompts, length)
    _, cache = start(config, params, rows.prompts, cache, rows.mask, adapter, slots.prefix)
    put = lambda old, new: old.at[rows.slots].set(new, mode="drop")
    return Slots(
        prefix=slots.prefix,
        cache=put_rows(slots.cache, rows.slots, take_rows(cache, rows.prompt_of)),
        pending=put(slots.pending, rows.pending[rows.prompt_of]),
        keys=put(slots.keys, rows.keys),
        counts=put(slots.counts, 0),
        states=put(slots.states, 0),
        active=put(slots.active, True),
        tokens=slots.tokens,
        log_probabilities=slots.log_probabilities,
    )


@partial(jax.jit, static_argnames=("config", "drawing"), donate_argnames="slots")
def decode(
    config: DecoderConfig,
    drawing: Drawing,
    params: Params,
    adapter: Params | None,
    slots: Slots,
    most_steps: Int[Array, ""],
    least_active: Int[Array, ""],
    constraint: Constraint | None = None,
) -> tuple[Slots, Int[Array, ""]]:
    """Draws tokens for all slots until enough rows are finished.

    Args:
        config: the model.
        drawing: how to draw; one program for each.
        params: the model's parameters.
        adapter: low-rank factors beside them, or None.
        slots: the state of all rows.
        most_steps: the most tokens to draw for each slot.
        least_active: stop when fewer rows than this are active.
        constraint: which tokens may follow which; None: any.

    Returns:
        The new state, and the number of steps taken.
    """

    def unfinished(carry: tuple[Slots, Array]) -> Bool[Array, ""]:
        slots, steps = carry
        return (steps < most_steps) & (jnp.sum(slots.active) >= least_active)

    def step(carry: tuple[Slots, Array]) -> tuple[Slots, Array]:
        slots, steps = carry
        return _step(config, drawing, params, adapter, slots, constraint), steps + 1

    return jax.lax.while_loop(unfinished, step, (slots, jnp.int32(0)))


def _step(
    config: DecoderConfig,
    drawing: Drawing,
    params: Params,
    adapter: Params | None,
    slots: Slots,
    constraint: Constraint | None,
) -> Slots:
    """The slots after each active one has read its pending token and drawn the next."""
    most_tokens = drawing.sampling.max_tokens
    active, counts, states = slots.active, slots.counts, slots.states
    pending = slots.pending[:, None]
    hidden, cache = extend(
        config, params, pending, slots.cache, active[:, None], adapter, slots.prefix
    )
    logits = unembed(config, params, hidden[:, 0])
    allowed = None
    if constraint is not None:
        allowed = constraint.allowed(states, most_tokens - counts)
    tokens, log_probabilities = draw(
        drawing.sampling, logits, slots.keys, counts, drawing.vocab, allowed
    )
    if constraint is not None:
        states = constraint.after(states, tokens)
    here = (jnp.arange(most_tokens)[None] == counts[:, None]) & active[:, None]
    put = lambda old, new: jnp.where(here, new[:, None], old)
    stop_ids = jnp.asarray(drawing.stop_ids, jnp.int32)
    stopped = jnp.any(tokens[:, None] == stop_ids[None], axis=1)
    return Slots(
        prefix=slots.prefix,
        cache=cache,
        pending=jnp.where(active, tokens, slots.pending),
        keys=slots.keys,
        counts=counts + active,
        states=states,
        active=active & ~stopped & (counts + 1 < most_tokens),
        tokens=put(slots.tokens, tokens),
        log_probabilities=put(slots.log_probabilities, log_probabilities),
    )
