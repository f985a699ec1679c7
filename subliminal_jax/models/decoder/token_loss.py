"""The next-token loss, in blocks of the vocabulary: never all logits are in memory.

Logits of 8,192 tokens over a vocabulary of 150,000 take 5 GB, and their gradient as much again.
Here one block of the vocabulary is unembedded at a time: the forward pass adds it to a running
log-sum-exp, the backward pass recomputes it. Beside the parameters and their gradients, one block's
logits are all that is held.
"""

from functools import partial
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from subliminal_jax.batch import Batch, Params, Scalar
from subliminal_jax.models.decoder.config import DecoderConfig
from subliminal_jax.models.decoder.decoder import hidden_states, unembedding
from subliminal_jax.models.product import inner, matmul, transposed

WORDS_AT_ONCE = 8192

_Running: TypeAlias = tuple[Array, Array, Array]


def token_loss(
    config: DecoderConfig,
    params: Params,
    batch: Batch,
    adapter: Params | None = None,
    words: int = WORDS_AT_ONCE,
) -> tuple[Scalar, Scalar]:
    """The weighted sum of the cross-entropies of a batch's next tokens, and the sum of weights.

    `partial(token_loss, config)` is a loss function of the parameters, as the training step
    takes it.

    Args:
        config: the model.
        params: its parameters.
        batch: `inputs.tokens` and `inputs.segments`, the ids that follow as targets, and
            weights, all `[B, T]`.
        adapter: as in `decoder.hidden_states`.
        words: rows of the vocabulary that are unembedded at a time.
    """
    hidden = hidden_states(config, params, batch.inputs.tokens, batch.inputs.segments, adapter)
    losses = blockwise_cross_entropy(
        hidden.reshape(-1, config.width),
        unembedding(config, params),
        batch.targets.reshape(-1),
        config.logit_softcap,
        words,
    ).reshape(batch.targets.shape)
    return jnp.sum(losses * batch.weights), jnp.sum(batch.weights)


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
    return _forward(hidden, rows, labels, softcap, words)[0]


def _forward(
    hidden: Array, rows: Array, labels: Array, softcap: float | None, words: int
) -> tuple[Array, Any]:
    def read(running: _Running, start: Any, size: int) -> _Running:
        top, total, chosen = running
        logits = _logits(hidden, _block(rows, start, size), softcap)
        higher = jnp.maximum(top, jnp.max(logits, axis=-1))
        total = total * jnp.exp(top - higher)
        total += jnp.sum(jnp.exp(logits - higher[:, None]), axis=-1)
        own = _one_hot(labels, start, size)
        return higher, total, chosen + jnp.sum(jnp.where(own, logits, 0.0), axis=-1)

    count = labels.shape[0]
    nothing = (jnp.full(count, -jnp.inf), jnp.zeros(count), jnp.zeros(count))
    top, total, chosen = _over_blocks(read, nothing, rows.shape[0], words)
    log_total = top + jnp.log(total)
    return log_total - chosen, (hidden, rows, labels, log_total)


def _backward(softcap: float | None, words: int, saved: Any, grads: Array) -> Any:
    hidden, rows, labels, log_total = saved

    def read(running: tuple[Array, Array], start: Any, size: int) -> tuple[Array, Array]:
        of_hidden, of_rows = running
        block = _block(rows, start, size)
        logits = _logits(hidden, block, softcap)
        slopes = jnp.exp(logits - log_total[:, None]) - _one_hot(labels, start, size)
        slopes *= grads[:, None]
        if softcap is not None:
            slopes *= 1 - (logits / softcap) ** 2
        slopes = slopes.astype(hidden.dtype)
        of_hidden += matmul(slopes, block.astype(hidden.dtype))
        new = inner(slopes, hidden).astype(rows.dtype)
        return of_hidden, jax.lax.dynamic_update_slice_in_dim(of_rows, new, start, axis=0)

    start = (jnp.zeros(hidden.shape), jnp.zeros_like(rows))
    of_hidden, of_rows = _over_blocks(read, start, rows.shape[0], words)
    return of_hidden.astype(hidden.dtype), of_rows, None


blockwise_cross_entropy.defvjp(_forward, _backward)


def _over_blocks(read: Any, running: Any, vocab: int, words: int) -> Any:
    """`read(running, start, size)` over the vocabulary: whole blocks in a loop, then the rest."""
    whole, rest = divmod(vocab, words)
    if whole:
        starts = jnp.arange(whole) * words
        running, _ = jax.lax.scan(lambda r, start: (read(r, start, words), None), running, starts)
    return read(running, whole * words, rest) if rest else running


def _block(rows: Array, start: Any, size: int) -> Array:
    return jax.lax.dynamic_slice_in_dim(rows, start, size, axis=0)


def _one_hot(labels: Array, start: Any, size: int) -> Array:
    return labels[:, None] == start + jnp.arange(size)[None]


def _logits(hidden: Array, block: Array, softcap: float | None) -> Array:
    logits = matmul(hidden, transposed(block.astype(hidden.dtype)))
    return logits if softcap is None else softcap * jnp.tanh(logits / softcap)
