"""Rows of two teachers in pairs of equal prompts, and bags of them.

The filter keeps different prompts for each teacher. Within a pair only the completions differ, so
that no detector can use the prompts.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from subliminal_jax.audit.detectors import FEWEST
from subliminal_jax.errors import InputError
from subliminal_jax.language.rows.chat_rows import prompt_of

Bag: TypeAlias = list[dict[str, Any]]
"""Rows of one teacher that are judged together."""
PairedRows: TypeAlias = list[tuple[dict[str, Any], dict[str, Any]]]
"""Rows of two teachers; each pair has the same prompt, and no prompt occurs twice."""


def paired(shown: Sequence[dict[str, Any]], other: Sequence[dict[str, Any]]) -> PairedRows:
    """The rows that two datasets have for the same prompts, in the first one's order.

    Args:
        shown: rows of the teacher to be detected.
        other: rows of the teacher that it is told from.
    """
    by_prompt = {prompt_of(row): row for row in reversed(other)}
    first = {prompt_of(row): row for row in reversed(shown)}
    rows = dict.fromkeys(prompt_of(row) for row in shown)
    return [(first[prompt], by_prompt[prompt]) for prompt in rows if prompt in by_prompt]


def check_enough(pairs: PairedRows, size: int, what: str) -> None:
    """Refuses too few rows for bags of a size.

    Args:
        pairs: rows of two datasets.
        size: rows in a bag.
        what: names of the two datasets, for the message.

    Raises:
        InputError: there are fewer than `FEWEST` bags.
    """
    if len(pairs) < FEWEST * size:
        raise InputError(
            f"{what}: share {len(pairs)} prompts, but {FEWEST} sets of {size} rows need "
            f"{FEWEST * size}; raise filter.rows, or lower detect.sizes"
        )


def bags_of(pairs: PairedRows, size: int, most: int, seed: int) -> list[tuple[Bag, Bag]]:
    """Pairs of bags that share no row; the rows of bag `i` answer the same prompts in both.

    Args:
        pairs: rows of two datasets.
        size: rows in a bag.
        most: maximum pairs of bags.
        seed: seed of the draw.
    """
    order = np.random.default_rng([seed, 0xBA6]).permutation(len(pairs))
    count = min(most, len(pairs) // size)
    chosen = order[: count * size].reshape(count, size)
    return [
        ([pairs[i][0] for i in places], [pairs[i][1] for i in places]) for places in chosen.tolist()
    ]
