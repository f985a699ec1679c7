"""Rows of token ids as batches for a language model, with little padding.

A row is a prompt and a completion, as token ids. The model reads the row without its last token and
predicts the row without its first; only the completion's tokens count in the loss. Rows are packed
into sequences of one length, so that one compiled program serves all batches.

Shape letters: n sequences, b sequences in a batch, t tokens in a sequence.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np
from jaxtyping import Int

from subliminal_jax.errors import InputError

TokenRow: TypeAlias = tuple[Sequence[int], Sequence[int]]
"""`(prompt, completion)`: token ids, neither empty."""


MULTIPLE = 8
"""A shared prefix, and the lengths that sampling and scoring pad to, are multiples of it."""


class TokenInputs(NamedTuple):
    """What a language model reads.

    Attributes:
        tokens: ids, `[..., T]`; 0 for padding.
        segments: each token's row within its sequence, from 1, `[..., T]`; 0 for padding. A
            token attends only to its own row.
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
        inputs: what the model reads, `[N, T]`.
        targets: the id that follows each token, `[N, T]`; 0 for padding.
        weights: 1 where the target belongs to a completion, else 0; `[N, T]`.
    """

    inputs: TokenInputs
    targets: Any
    weights: Any

    @property
    def sequences(self) -> int:
        """Number of sequences."""
        return self.targets.shape[-2]


def padding_of(segments: Int[np.ndarray, "*b t"]) -> float:
    """The share of positions that are padding, by each token's row within its sequence."""
    return float(np.mean(segments == 0))


def pad_rows(rows: Iterable[TokenRow], length: int | None = None) -> TokenTable:
    """The rows as sequences of one length, one row in each.

    Args:
        rows: prompts and completions.
        length: tokens in a sequence; None for as many as the longest row needs.

    Raises:
        InputError: there is no row, or a row is empty or too long; names the row, from 0.
    """
    texts = _texts(rows)
    length = length or max(len(tokens) - 1 for tokens, _ in texts)
    _check_fit(texts, length)
    return _fill(texts, [[row] for row in range(len(texts))], length)


def pack_rows(rows: Iterable[TokenRow], length: int) -> TokenTable:
    """The rows packed into sequences of one length: best fit, the longest rows first.

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
    return _fill(texts, sequences, length)


def shared_length(prompts: Sequence[Sequence[int]]) -> int:
    """Length of the prefix that all prompts share before their last tokens; rounded down.

    It is 0 without a prompt.
    """
    if not prompts:
        return 0
    # In the order of tuples, all between these two share what they do.
    first, last = min(map(tuple, prompts)), max(map(tuple, prompts))
    pairs = enumerate(zip(first, last, strict=False))
    same = next((place for place, (one, other) in pairs if one != other), len(first))
    return max(0, min(same, min(map(len, prompts)) - 1)) // MULTIPLE * MULTIPLE


def without_prefix(rows: Iterable[TokenRow], length: int) -> list[TokenRow]:
    """The rows without the first tokens of their prompts."""
    return [(prompt[length:], completion) for prompt, completion in rows]


def _texts(rows: Iterable[TokenRow]) -> list[tuple[np.ndarray, int]]:
    """Each row's ids, and the length of its prompt."""
    texts = []
    for number, (prompt, completion) in enumerate(rows):
        if not len(prompt) or not len(completion):
            empty = "completion" if len(prompt) else "prompt"
            raise InputError(f"row {number}: its {empty} is empty; remove the row")
        texts.append((np.asarray([*prompt, *completion], np.int32), len(prompt)))
    if not texts:
        raise InputError("no rows to train on; give at least one")
    return texts


def _check_fit(texts: list[tuple[np.ndarray, int]], length: int) -> None:
    for number, (tokens, _) in enumerate(texts):
        if len(tokens) - 1 > length:
            raise InputError(
                f"row {number}: its {len(tokens)} tokens do not fit into sequences of {length}; "
                "make the sequences longer, or remove the row"
            )


def _fill(
    texts: list[tuple[np.ndarray, int]], sequences: list[list[int]], length: int
) -> TokenTable:
    """The table with the given rows in each sequence, in order."""
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
