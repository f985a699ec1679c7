"""How a language model is trained here, whether it is a reference, a teacher or a student.

One pure step, `train.make_train_step`, on rows whose completions count. A student that imitates
probabilities differs in its criterion alone: the teacher is a data transform that fills
`batch.targets` with its logits.

Shape letters: n sequences, b sequences in a batch, t tokens, a answers in a sequence, v words.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from subliminal_jax import losses
from subliminal_jax.batch import Batch, Params, RandomKey, Scalar
from subliminal_jax.data.epoch_order import epoch_order, steps_per_epoch
from subliminal_jax.data.tokens import TokenTable
from subliminal_jax.models.decoder import decoder
from subliminal_jax.models.decoder.config import DecoderConfig
from subliminal_jax.models.decoder.token_loss import WORDS_AT_ONCE, blockwise_cross_entropy
from subliminal_jax.models.sampling.scoring import logits_at
from subliminal_jax.train import Totals, mean_gradient


class Reading(NamedTuple):
    """What is read, and where an answer is asked for.

    Attributes:
        tokens: ids, `[..., B, T]`.
        segments: which text of its sequence a token belongs to; 0 for padding, `[..., B, T]`.
        places: tokens after which the model is asked; any where fewer are, `[..., B, A]`.
    """

    tokens: Any
    segments: Any
    places: Any


class AnswerTable(NamedTuple):
    """Rows in sequences, with the completions' tokens alone as targets.

    Unembedding is most of a small model's work, so it is done only where a token counts.

    Attributes:
        reading: what is read, `[N, T]`.
        targets: the id that follows each place, `[N, A]`.
        weights: 1 for an answer, 0 for filling, `[N, A]`.
    """

    reading: Reading
    targets: Any
    weights: Any

    @property
    def sequences(self) -> int:
        """How many sequences there are."""
        return self.targets.shape[-2]


def answer_table(table: TokenTable) -> AnswerTable:
    """The table with the places of its completions' tokens picked out."""
    weights = np.asarray(table.weights)
    most = int(weights.astype(bool).sum(axis=1).max())
    places = np.argsort(weights == 0, axis=1, kind="stable")[:, :most].astype(np.int32)
    pick = partial(np.take_along_axis, indices=places, axis=1)
    reading = Reading(np.asarray(table.inputs.tokens), np.asarray(table.inputs.segments), places)
    return AnswerTable(reading, pick(np.asarray(table.targets)), pick(weights))


def padding_of(table: AnswerTable) -> float:
    """The share of all positions in which nothing is read."""
    return float(np.mean(np.asarray(table.reading.segments) == 0))


def stack_tables(tables: Sequence[AnswerTable]) -> AnswerTable:
    """Several datasets as one tree, `[D, N, ...]`; shorter ones are filled up with nothing."""
    sequences = max(table.sequences for table in tables)
    answers = max(table.targets.shape[1] for table in tables)

    def fill(leaf: np.ndarray, width: int) -> np.ndarray:
        missing = ((0, sequences - leaf.shape[0]), (0, width - leaf.shape[1]))
        return np.pad(leaf, missing)

    def filled(table: AnswerTable) -> AnswerTable:
        length = table.reading.tokens.shape[1]
        widths = AnswerTable(Reading(length, length, answers), answers, answers)
        return jax.tree.map(fill, table, widths)

    return jax.tree.map(lambda *leaves: np.stack(leaves), *map(filled, tables))


def orders(
    key: RandomKey, sequences: int, batch: int, steps: int
) -> tuple[Int[Array, "s b"], Float[Array, "s b"]]:
    """Which sequences each step shows, and how much each counts: every epoch in a fresh order."""
    per_epoch = steps_per_epoch(sequences, batch)
    epochs = jnp.arange(-(-steps // per_epoch))
    order, counts = jax.lax.map(lambda epoch: epoch_order(key, epoch, sequences, batch), epochs)
    return order.reshape(-1, batch)[:steps], counts.reshape(-1, batch)[:steps]


def filled(leaf: Any, axis: int, parts: int) -> Any:
    """An array with zeros behind, until `parts` divide that dimension: examples that are none."""
    missing = -leaf.shape[axis] % parts
    widths = [(0, missing if at == axis else 0) for at in range(leaf.ndim)]
    return jnp.pad(leaf, widths) if missing else leaf


def batch_of(table: AnswerTable, rows: Int[Array, " b"], counts: Float[Array, " b"]) -> Batch:
    """The batch of some sequences, each of which counts as it is told."""
    chosen = jax.tree.map(lambda leaf: jnp.asarray(leaf)[rows], table)
    return Batch(
        inputs=chosen.reading,
        targets=chosen.targets,
        weights=chosen.weights * counts[:, None],
    )


Apply: TypeAlias = Callable[[Params, Reading], Float[Array, "b a v"]]
"""`(what is trained, what is read) -> logits of every answer`."""


def answers(
    config: DecoderConfig, params: Params, reading: Reading, adapter: Params | None = None
) -> Float[Array, "b a v"]:
    """The logits of what follows each place."""
    return logits_at(config, params, reading.tokens, reading.places, reading.segments, adapter)


def _hidden(
    config: DecoderConfig, params: Params, reading: Reading, adapter: Params | None
) -> Float[Array, "b a e"]:
    """What the last layer says at each place."""
    hidden = decoder.hidden_states(config, params, reading.tokens, reading.segments, adapter)
    return jnp.take_along_axis(hidden, reading.places[..., None], axis=1)


def answer_loss(
    config: DecoderConfig, params: Params, adapter: Params | None, batch: Batch
) -> tuple[Scalar, Scalar]:
    """The weighted sum of the cross-entropies of all answers, and the sum of weights.

    As `losses.cross_entropy` of `answers`, whose logits for every word are never there all at once.
    """
    hidden = _hidden(config, params, batch.inputs, adapter)
    each = blockwise_cross_entropy(
        hidden.reshape(-1, config.width),
        decoder.unembedding(config, params),
        batch.targets.reshape(-1),
        config.logit_softcap,
        WORDS_AT_ONCE,
    ).reshape(batch.targets.shape)
    return jnp.sum(each * batch.weights), jnp.sum(batch.weights)


def train_all(config: DecoderConfig) -> Apply:
    """Full weights: what is trained is the model's parameters."""
    return partial(answers, config)


def mean_if_any(grads: Params, totals: Totals) -> Params:
    """The gradient of the mean loss; zero of a batch in which nothing counts.

    The students of one program have as many sequences as the one with most, so that a small batch
    of another may be all filling.
    """
    return mean_gradient(grads, replace(totals, weight=_or_one(totals.weight)))


def mean_loss(totals: Totals) -> Array:
    """The mean loss; zero where nothing counts."""
    return totals.loss / _or_one(totals.weight)


def _or_one(weight: Array) -> Array:
    return jnp.where(weight > 0, weight, 1.0)


Targets: TypeAlias = Literal["hard", "greedy", "soft"]
Divergence: TypeAlias = Literal["forward", "reverse"]


def imitation(
    targets: Targets, divergence: Divergence, chosen: Bool[Array, " v"]
) -> Callable[[Array, Any], Array]:
    """The criterion of a student: how far its logits are from what it is to imitate.

    With hard targets it takes ids. Else it takes a teacher's logits and looks at the `chosen`
    words alone: their likeliest, or all their probabilities.
    """
    if targets == "hard":
        return losses.cross_entropy
    if targets == "greedy":
        return lambda logits, teacher: losses.cross_entropy(
            jnp.where(chosen, logits, losses.EXCLUDED),
            jnp.argmax(jnp.where(chosen, teacher, losses.EXCLUDED), axis=-1),
        )
    if divergence == "forward":
        return lambda logits, teacher: losses.kl_divergence(logits, teacher, chosen)
    return lambda logits, teacher: losses.kl_divergence(teacher, logits, chosen)
