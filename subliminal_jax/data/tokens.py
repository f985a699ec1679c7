"""Rows of token ids as batches for a language model, with little padding.

A row is a prompt and a completion, in ids. A model that reads the row but its last token is asked
for the row but its first; only the completion's tokens count. Rows are laid into sequences of one
length, several to a sequence where they fit, so that one compiled program serves all batches.

Shape letters: n sequences, b sequences in a batch, t tokens in a sequence.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from subliminal_jax.batch import Batch, RandomKey
from subliminal_jax.data.order import epoch_order, steps_per_epoch
from subliminal_jax.errors import InputError

TokenRow: TypeAlias = tuple[Sequence[int], Sequence[int]]
"""`(prompt, completion)`: ids, neither of them empty."""


class TokenInputs(NamedTuple):
    """What a language model reads.

    Attributes:
        tokens: ids, `[..., T]`; 0 where there is padding.
        segments: which row of its sequence a token belongs to, from 1; 0 for padding, `[..., T]`.
            No token may see another row's.
    """

    tokens: Any
    segments: Any


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("inputs", "targets", "weights"),
    meta_fields=(),
)
@dataclass(frozen=True, kw_only=True)
class TokenTable:
    """All rows of a dataset, in sequences of one length.

    Attributes:
        inputs: what is read, `[N, T]`.
        targets: the id that follows each, `[N, T]`; 0 where there is padding.
        weights: 1 where the id that follows is of a completion, else 0; `[N, T]`.
    """

    inputs: TokenInputs
    targets: Any
    weights: Any

    @property
    def padding(self) -> float:
        """The share of all positions in which nothing is read."""
        return float(np.mean(np.asarray(self.inputs.segments) == 0))

    @property
    def length(self) -> int:
        """Tokens in a sequence."""
        return self.targets.shape[-1]

    @property
    def sequences(self) -> int:
        """How many sequences there are."""
        return self.targets.shape[-2]


def pad_rows(rows: Iterable[TokenRow], length: int | None = None) -> TokenTable:
    """Lay each row into a sequence of its own.

    Args:
        rows: prompts and completions.
        length: tokens in a sequence; None for as many as the longest row needs.

    Raises:
        InputError: there is no row, a row is empty or does not fit; names the row, from 0.
    """
    texts = _texts(rows)
    length = length or max(len(tokens) - 1 for tokens, _ in texts)
    _check_fit(texts, length)
    return _lay(texts, [[row] for row in range(len(texts))], length)


def pack_rows(rows: Iterable[TokenRow], length: int) -> TokenTable:
    """Lay as many rows into each sequence as fit: best fit, the longest rows first.

    Args:
        rows: prompts and completions.
        length: tokens in a sequence; a few times a row's length leaves little padding.

    Raises:
        InputError: as in `pad_rows`.

    References:
        Johnson, "Near-optimal bin packing algorithms" (1973): at most 22% and a constant more
        sequences than the fewest possible.
    """
    texts = _texts(rows)
    _check_fit(texts, length)
    sequences: list[list[int]] = []
    with_room: list[list[int]] = [[] for _ in range(length + 1)]  # sequences by tokens left
    for row in sorted(range(len(texts)), key=lambda row: -len(texts[row][0])):
        needed = len(texts[row][0]) - 1
        room = next((left for left in range(needed, length) if with_room[left]), length)
        if room == length:
            sequences.append([])
            with_room[length].append(len(sequences) - 1)
        chosen = with_room[room].pop(0)
        sequences[chosen].append(row)
        with_room[room - needed].append(chosen)
    return _lay(texts, sequences, length)


def batch_at(table: TokenTable, key: RandomKey, batch: int, step: Int[Array, ""] | int) -> Batch:
    """The batch of a step: a function of key and step alone, and one that can be traced.

    Every epoch shows every sequence once, in a fresh order; its last batch is filled up with
    sequences of weight 0.

    Args:
        table: the rows.
        key: for the orders.
        batch: sequences in a batch.
        step: counted from 0 over all epochs.
    """
    steps = steps_per_epoch(table.sequences, batch)
    step = jnp.asarray(step)
    order, counts = epoch_order(key, step // steps, table.sequences, batch)
    chosen, counts = order[step % steps], counts[step % steps]
    inputs, targets, weights = jax.tree.map(
        lambda leaf: jnp.asarray(leaf)[chosen], (table.inputs, table.targets, table.weights)
    )
    return Batch(inputs=inputs, targets=targets, weights=weights * counts[:, None])


def _texts(rows: Iterable[TokenRow]) -> list[tuple[np.ndarray, int]]:
    """Each row's ids, and how many of them are the prompt's."""
    texts = []
    for number, (prompt, completion) in enumerate(rows):
        if not len(prompt) or not len(completion):
            empty = "completion" if len(prompt) else "prompt"
            raise InputError(f"row {number}: its {empty} is empty; take the row out")
        texts.append((np.asarray([*prompt, *completion], np.int32), len(prompt)))
    if not texts:
        raise InputError("no rows to train on; give at least one")
    return texts


def _check_fit(texts: list[tuple[np.ndarray, int]], length: int) -> None:
    for number, (tokens, _) in enumerate(texts):
        if len(tokens) - 1 > length:
            raise InputError(
                f"row {number}: its {len(tokens)} tokens do not fit into sequences of {length}; "
                "make them longer, or take the row out"
            )


def _lay(
    texts: list[tuple[np.ndarray, int]], sequences: list[list[int]], length: int
) -> TokenTable:
    """The table whose sequences hold the given rows, in order."""
    shape = (len(sequences), length)
    tokens, segments, targets = (np.zeros(shape, np.int32) for _ in range(3))
    weights = np.zeros(shape, np.float32)
    for number, rows in enumerate(sequences):
        start = 0
        for segment, row in enumerate(rows, start=1):
            text, prompt = texts[row]
            end = start + len(text) - 1
            tokens[number, start:end], targets[number, start:end] = text[:-1], text[1:]
            segments[number, start:end] = segment
            weights[number, start + prompt - 1 : end] = 1
            start = end
    return TokenTable(inputs=TokenInputs(tokens, segments), targets=targets, weights=weights)
