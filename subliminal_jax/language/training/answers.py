"""Data and losses for training a language model: reference, teacher or student.

All use one pure step, `train.make_train_step`, with losses on completions only. A student that
imitates probabilities differs only in its criterion and targets: its teacher's logits replace
`batch.targets`.

Shape letters: N sequences, B or b sequences in a batch, T tokens, A or a completion tokens in a
sequence, v vocabulary, e width, p tokens of a prefix.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from subliminal_jax import losses
from subliminal_jax.batch import Batch, Params, RandomKey, Scalar
from subliminal_jax.data.epoch_order import epoch_order, steps_per_epoch
from subliminal_jax.data.tokens import TokenTable
from subliminal_jax.language.settings import Divergence, Targets
from subliminal_jax.models.decoder import decoder, forms
from subliminal_jax.models.decoder.config import DecoderConfig
from subliminal_jax.models.decoder.token_loss import WORDS_AT_ONCE, blockwise_cross_entropy
from subliminal_jax.models.sampling.scoring import logits_at
from subliminal_jax.train import Totals, mean_gradient


class AnswerInputs(NamedTuple):
    """Input tokens, and the positions at which logits are computed.

    Attributes:
        tokens: token ids, `[..., B, T]`.
        segments: which text of its sequence a token belongs to; 0 for padding, `[..., B, T]`.
        places: positions whose next token is predicted; padded arbitrarily, `[..., B, A]`.
    """

    tokens: Any
    segments: Any
    places: Any


class AnswerTable(NamedTuple):
    """Sequences with only their completions' tokens as targets.

    Unembedding dominates a small model's cost, so it is computed at these tokens only.

    Attributes:
        reading: inputs, `[N, T]`, and positions, `[N, A]`.
        targets: the token id that follows each position, `[N, A]`.
        weights: weight of each target; 0 for padding, `[N, A]`.
    """

    reading: AnswerInputs
    targets: Any
    weights: Any

    @property
    def sequences(self) -> int:
        """Number of sequences N."""
        return self.targets.shape[-2]


def answer_table(table: TokenTable) -> AnswerTable:
    """The token table, with targets gathered at the completions' tokens only."""
    weights = np.asarray(table.weights)
    most = int(weights.astype(bool).sum(axis=1).max())
    places = np.argsort(weights == 0, axis=1, kind="stable")[:, :most].astype(np.int32)
    pick = partial(np.take_along_axis, indices=places, axis=1)
    reading = AnswerInputs(
        np.asarray(table.inputs.tokens), np.asarray(table.inputs.segments), places
    )
    return AnswerTable(reading, pick(np.asarray(table.targets)), pick(weights))


def stack_tables(tables: Sequence[AnswerTable]) -> AnswerTable:
    """Several datasets as one tree, `[D, N, ...]`; shorter ones are zero-padded."""
    sequences = max(table.sequences for table in tables)
    length = max(table.reading.tokens.shape[1] for table in tables)
    answers = max(table.targets.shape[1] for table in tables)

    def pad(leaf: np.ndarray, width: int) -> np.ndarray:
        missing = ((0, sequences - leaf.shape[0]), (0, width - leaf.shape[1]))
        return np.pad(leaf, missing)

    def padded(table: AnswerTable) -> AnswerTable:
        widths = AnswerTable(AnswerInputs(length, length, answers), answers, answers)
        return jax.tree.map(pad, table, widths)

    return jax.tree.map(lambda *leaves: np.stack(leaves), *map(padded, tables))


def orders(
    key: RandomKey, sequences: int, batch: int, steps: int
) -> tuple[Int[Array, "s b"], Float[Array, "s b"]]:
    """Sequence indices of every step and their weights; each epoch has a fresh order."""
    per_epoch = steps_per_epoch(sequences, batch)
    epochs = jnp.arange(-(-steps // per_epoch))
    order, counts = jax.lax.map(lambda epoch: epoch_order(key, epoch, sequences, batch), epochs)
    return order.reshape(-1, batch)[:steps], counts.reshape(-1, batch)[:steps]


def zero_padded(leaf: Any, axis: int, parts: int) -> Any:
    """The array, zero-padded along `axis` to a multiple of `parts`."""
    missing = -leaf.shape[axis] % parts
    widths = [(0, missing if at == axis else 0) for at in range(leaf.ndim)]
    return jnp.pad(leaf, widths) if missing else leaf


def select_batch(table: AnswerTable, rows: Int[Array, " b"], counts: Float[Array, " b"]) -> Batch:
    """The batch of sequences `rows`, their weights multiplied by `counts`."""
    chosen = jax.tree.map(lambda leaf: jnp.asarray(leaf)[rows], table)
    return Batch(
        inputs=chosen.reading,
        targets=chosen.targets,
        weights=chosen.weights * counts[:, None],
    )


Apply: TypeAlias = Callable[[Params, AnswerInputs], Float[Array, "b a v"]]
"""`(trained weights, inputs) -> logits at every completion token`."""


def answer_logits(
    config: DecoderConfig,
    params: Params,
    reading: AnswerInputs,
    adapter: Params | None = None,
    ids: Int[Array, " v"] | None = None,
    prefix: Int[Array, " p"] | None = None,
) -> Float[Array, "b a v"]:
    """The logits of the token after each position: of all tokens, or of those with these ids.

    `prefix` is as in `decoder.hidden_states`.
    """
    tokens, segments, places = reading
    return logits_at(config, params, tokens, places, segments, adapter, ids, prefix)


def answer_loss(
    config: DecoderConfig,
    params: Params,
    adapter: Params | None,
    batch: Batch,
    prefix: Int[Array, " p"] | None = None,
) -> tuple[Scalar, Scalar]:
    """The weighted sum of cross-entropies over all targets, and the sum of weights.

    Equals `losses.cross_entropy` of `answer_logits`, without materialising all logits.
    """
    tokens, segments, places = batch.inputs
    hidden = decoder.hidden_states(config, params, tokens, segments, adapter, prefix)
    hidden = jnp.take_along_axis(hidden, places[..., None], axis=1)
    each = blockwise_cross_entropy(
        hidden.reshape(-1, config.width),
        forms.unembedding(config, params),
        batch.targets.reshape(-1),
        config.logit_softcap,
        WORDS_AT_ONCE,
    ).reshape(batch.targets.shape)
    return jnp.sum(each * batch.weights), jnp.sum(batch.weights)


def full_apply(config: DecoderConfig) -> Apply:
    """The logits of a model whose full parameters are trained."""
    return partial(answer_logits, config)


def mean_if_any(grads: Params, totals: Totals) -> Params:
    """The gradient of the mean loss; zero for a batch without weight.

    All students of a program are padded to the most sequences of any, so that a small batch may be
    all padding.
    """
    return mean_gradient(grads, replace(totals, weight=_or_one(totals.weight)))


def mean_loss(totals: Totals) -> Array:
    """The mean loss; zero for a batch without weight."""
    return totals.loss / _or_one(totals.weight)


def _or_one(weight: Array) -> Array:
    return jnp.where(weight > 0, weight, 1.0)


def imitation(
    targets: Targets, divergence: Divergence, chosen: Bool[Array, " v"]
) -> Callable[[Array, Any], Array]:
    """A student's criterion: `(logits, targets) -> loss of each token`.

    A student chooses among the `chosen` tokens alone. Hard targets are their ids. Greedy and soft
    targets are a teacher's logits: cross-entropy with the likeliest one, or KL divergence over all
    of them.
    """
    among = lambda logits: jnp.where(chosen, logits, losses.EXCLUDED)
    if targets == "hard":
        return lambda logits, ids: losses.cross_entropy(among(logits), ids)
    if targets == "greedy":
        return lambda logits, teacher: losses.cross_entropy(
            among(logits), jnp.argmax(among(teacher), axis=-1)
        )
    if divergence == "forward":
        return lambda logits, teacher: losses.kl_divergence(logits, teacher, chosen)
    return lambda logits, teacher: losses.kl_divergence(teacher, logits, chosen)
