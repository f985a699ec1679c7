"""Scores of single rows, and of bags as means of them; no model's context limits a bag."""

import numpy as np
from jaxtyping import Float, Int

from subliminal_jax.audit.detectors import FEWEST
from subliminal_jax.audit.judging.asking import Reader
from subliminal_jax.audit.judging.bags import PairedRows
from subliminal_jax.errors import InputError


def likelihood_gains(
    reader: Reader, system: str, pairs: PairedRows
) -> tuple[Float[np.ndarray, " pairs"], Float[np.ndarray, " pairs"]]:
    """By how much a system prompt raises the log probability (nats) of each row's completion.

    Args:
        reader: the reference itself.
        system: system prompt that gives it the trait.
        pairs: rows of two datasets.

    Returns:
        The gains of the first and of the second row of each pair.
    """
    chats = [row["messages"][-2:] for side in zip(*pairs, strict=True) for row in side]
    told = [[{"role": "system", "content": system}, *chat] for chat in chats]
    gains = reader.log_likelihoods(told) - reader.log_likelihoods(chats)
    return gains[: len(pairs)], gains[len(pairs) :]


def bag_scores(
    scores: tuple[Float[np.ndarray, " pairs"], Float[np.ndarray, " pairs"]],
    folds: Int[np.ndarray, " pairs"],
    size: int,
) -> tuple[Float[np.ndarray, " bags"], Float[np.ndarray, " bags"]]:
    """Mean scores of bags; all rows of a bag were scored by the same classifier.

    Args:
        scores: of the two rows of each pair.
        folds: the part of the prompts of each pair.
        size: rows in a bag; what is left over in a part is dropped.

    Raises:
        InputError: the parts are too small for enough bags.
    """
    chosen = []
    for fold in np.unique(folds):
        places = np.flatnonzero(folds == fold)
        chosen.append(places[: len(places) // size * size].reshape(-1, size))
    bags = np.concatenate(chosen)
    if len(bags) < FEWEST:
        raise InputError(
            f"detect.folds: {len(folds)} prompts in {len(chosen)} parts hold {len(bags)} sets of "
            f"{size} rows, and {FEWEST} are needed; lower detect.folds or detect.sizes, or raise "
            "filter.rows"
        )
    return scores[0][bags].mean(axis=1), scores[1][bags].mean(axis=1)
