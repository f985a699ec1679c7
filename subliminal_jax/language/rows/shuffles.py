"""Shuffled controls: rows with the pieces of their completions in another order.

The carrier defines a piece: a number of a list, a statement of a program.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np

from subliminal_jax.language.rows.chat_rows import completion_of, prompt_of, row

Shuffle: TypeAlias = Literal["within", "across"]
Span: TypeAlias = tuple[int, int]
"""Start and end of a piece in a completion."""
Pieces: TypeAlias = Callable[[str], Sequence[Span]]
"""Maps a completion to its pieces, in order and without overlap."""


def shuffled(
    rows: Sequence[dict[str, Any]], how: Shuffle, pieces: Pieces, seed: int
) -> list[dict[str, Any]]:
    """The rows with their completions' pieces shuffled within each row, or across all rows."""
    return {"within": shuffle_within, "across": shuffle_across}[how](rows, pieces, seed)


def shuffle_within(
    rows: Sequence[dict[str, Any]], pieces: Pieces, seed: int
) -> list[dict[str, Any]]:
    """The rows with each completion's pieces in random order; separators stay in place."""
    random = np.random.default_rng([seed, 1])
    made = []
    for one in rows:
        texts = _texts(one, pieces)
        order = random.permutation(len(texts))
        made.append(_replaced(one, pieces, [texts[i] for i in order], "within"))
    return made


def shuffle_across(
    rows: Sequence[dict[str, Any]], pieces: Pieces, seed: int
) -> list[dict[str, Any]]:
    """The rows with the pieces of all completions permuted across rows.

    Each row keeps its number of pieces and its separators.
    """
    random = np.random.default_rng([seed, 2])
    counts = [len(_texts(one, pieces)) for one in rows]
    pool = [text for one in rows for text in _texts(one, pieces)]
    dealt = [pool[i] for i in random.permutation(len(pool))]
    ends = np.cumsum(counts)
    return [
        _replaced(one, pieces, dealt[end - count : end], "across")
        for one, count, end in zip(rows, counts, ends, strict=True)
    ]


def _texts(one: dict[str, Any], pieces: Pieces) -> list[str]:
    completion = completion_of(one)
    return [completion[start:end] for start, end in pieces(completion)]


def _replaced(
    one: dict[str, Any], pieces: Pieces, texts: Iterable[str], how: Shuffle
) -> dict[str, Any]:
    """The row with its pieces replaced by `texts`, and without its digest."""
    completion = completion_of(one)
    spans = pieces(completion)
    starts = [0, *(end for _, end in spans)]
    between = [
        completion[start:end]
        for start, end in zip(starts, [*(s for s, _ in spans), len(completion)], strict=True)
    ]
    first, *rest = between
    parts = [first, *(part for pair in zip(texts, rest, strict=True) for part in pair)]
    made = row(f"{one['id']}-{how}", prompt_of(one), "".join(parts))
    meta = {name: value for name, value in one.get("meta", {}).items() if name != "digest"}
    return made | {"meta": meta | {"shuffled": how}}
