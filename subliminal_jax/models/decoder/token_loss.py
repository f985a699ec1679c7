"""The next-token loss, in blocks: never all logits are in memory.

Logits of 8,192 tokens over a vocabulary of 150,000 take 5 GB, and their gradient as much again.
Here one block of the vocabulary is unembedded at a time: the forward pass adds it to a running
log-sum-exp, the backward pass recomputes it. If the unembedding is frozen, one block of the tokens
is unembedded at a time, and its gradient is taken at once: nothing is recomputed. Beside the
parameters and their gradients, one block's logits are all that is held.
"""

from functools import partial
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float, Int

from subliminal_jax.models.product import inner, matmul, transposed

WORDS_AT_ONCE = 8192
TOKENS_AT_ONCE = 16_384
"""For a frozen unembedding, a block has at most `WORDS_AT_ONCE * TOKENS_AT_ONCE` logits."""

_Running: TypeAlias = tuple[Array, Array, Array]


@partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def blockwise_cross_entropy(
    hidden: Float[Array, "n e"],
    rows: Float[Array, "v e"],
    labels: Int[Array, " n"],
    softcap: float | None,
    words: int,
) -> Float[Array, " n"]:
    """`-log softmax(cap(hidden rows^T))[label]`, in nats, `words` rows at a time.

    Products are taken in the dtype of `hidden`, all else in float32. The running sum is the
    online softmax of Milakov & Gimelshein (2018).
    """
    return _losses(hidden, rows, labels, softcap, words)[0]


def _forward(
    hidden: Any, rows: Any, labels: Any, softcap: float | None, words: int
) -> tuple[Array, Any]:
    if not rows.perturbed:
        losses, slopes = _with_slopes(hidden.value, rows.value, labels.value, softcap, words)
        return losses, slopes
    losses, log_total = _losses(hidden.value, rows.value, labels.value, softcap, words)
    return losses, (hidden.value, rows.value, labels.value, log_total)


def _backward(softcap: float | None, words: int, saved: Any, grads: Any) -> Any:
    if isinstance(grads, SymbolicZero):
        grads = jnp.zeros(grads.shape, jnp.float32)
    if isinstance(saved, Slopes):
        return (saved.of_hidden * grads[:, None]).astype(saved.like.dtype), None, None
    hidden, rows, labels, log_total = saved
    return *_gradients(hidden, rows, labels, log_total, grads, softcap, words), None


blockwise_cross_entropy.defvjp(_forward, _backward, symbolic_zeros=True)


class Slopes(NamedTuple):
    """The derivative of each token's loss with respect to its own hidden state.

    Attributes:
        of_hidden: `[n, e]`, float32.
        like: an empty array of the hidden states' dtype.
    """

    of_hidden: Array
    like: Array


def _losses(
    hidden: Array, rows: Array, labels: Array, softcap: float | None, words: int
) -> tuple[Array, Array]:
    """The losses, and the log of each token's sum over the vocabulary."""

    def read(running: _Running, start: Any, size: int) -> _Running:
        top, total, chosen = running
        logits = _logits(hidden, transposed(_block(rows, start, size, hidden.dtype)), softcap)
        higher = jnp.maximum(top, jnp.max(logits, axis=-1))
        total = total * jnp.exp(top - higher)
        total += jnp.sum(jnp.exp(logits - higher[:, None]), axis=-1)
        own = _one_hot(labels, start, size)
        return higher, total, chosen + jnp.sum(jnp.where(own, logits, 0.0), axis=-1)

    count = labels.shape[0]
    nothing = (jnp.full(count, -jnp.inf), jnp.zeros(count), jnp.zeros(count))
    top, total, chosen = _over_blocks(read, nothing, rows.shape[0], words)
    log_total = top + jnp.log(total)
    return log_total - chosen, log_total


def _gradients(
    hidden: Array, rows: Array, labels: Array, log_total: Array, grads: Array,
    softcap: float | None, words: int,
) -> tuple[Array, Array]:  # fmt: skip
    """The gradients of hidden states and rows."""

    def read(running: tuple[Array, Array], start: Any, size: int) -> tuple[Array, Array]:
        of_hidden, of_rows = running
        block = _block(rows, start, size, hidden.dtype)
        logits = _logits(hidden, transposed(block), softcap)
        slopes = _slopes(logits, log_total, _one_hot(labels, start, size), softcap)
        slopes = (slopes * grads[:, None]).astype(hidden.dtype)
        of_hidden += matmul(slopes, block)
        new = inner(slopes, hidden).astype(rows.dtype)
        return of_hidden, jax.lax.dynamic_update_slice_in_dim(of_rows, new, start, axis=0)

    start = (jnp.zeros(hidden.shape), jnp.zeros_like(rows))
    of_hidden, of_rows = _over_blocks(read, start, rows.shape[0], words)
    return of_hidden.astype(hidden.dtype), of_rows


def _with_slopes(
    hidden: Array, rows: Array, labels: Array, softcap: float | None, words: int
) -> tuple[Array, Slopes]:
    """The losses, and their derivatives with respect to the hidden states."""
    vocab = rows.shape[0]
    rows = rows.astype(hidden.dtype)
    columns = transposed(rows)

    def read(running: tuple[Array, Array], start: Any, size: int) -> tuple[Array, Array]:
        own = lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, start, size, axis=0)
        logits = _logits(own(hidden), columns, softcap)
        log_total = jax.nn.logsumexp(logits, axis=-1)
        chosen = _one_hot(own(labels), 0, vocab)
        losses = log_total - jnp.sum(jnp.where(chosen, logits, 0.0), axis=-1)
        slopes = _slopes(logits, log_total, chosen, softcap).astype(hidden.dtype)
        put = lambda old, new: jax.lax.dynamic_update_slice_in_dim(old, new, start, axis=0)
        return put(running[0], losses), put(running[1], matmul(slopes, rows))

    count = labels.shape[0]
    nothing = (jnp.zeros(count), jnp.zeros(hidden.shape))
    tokens = min(count, max(1, words * TOKENS_AT_ONCE // vocab))
    losses, of_hidden = _over_blocks(read, nothing, count, tokens)
    return losses, Slopes(of_hidden, jnp.zeros(0, hidden.dtype))


def _slopes(logits: Array, log_total: Array, chosen: Array, softcap: float | None) -> Array:
    """The derivatives of the losses with respect to uncapped logits."""
    slopes = jnp.exp(logits - log_total[:, None]) - chosen
    return slopes if softcap is None else slopes * (1 - (logits / softcap) ** 2)


def _over_blocks(read: Any, running: Any, count: int, size: int) -> Any:
    """`read(running, start, size)` over `count` things: whole blocks in a loop, then the rest."""
    whole, rest = divmod(count, size)
    if whole:
        starts = jnp.arange(whole) * size
        running, _ = jax.lax.scan(lambda r, start: (read(r, start, size), None), running, starts)
    return read(running, whole * size, rest) if rest else running


def _block(rows: Array, start: Any, size: int, dtype: Any) -> Array:
    return jax.lax.dynamic_slice_in_dim(rows, start, size, axis=0).astype(dtype)


def _one_hot(labels: Array, start: Any, size: int) -> Array:
    return labels[:, None] == start + jnp.arange(size)[None]


def _logits(hidden: Array, columns: Array, softcap: float | None) -> Array:
    logits = matmul(hidden, columns)
    return logits if softcap is None else softcap * jnp.tanh(logits / softcap)
