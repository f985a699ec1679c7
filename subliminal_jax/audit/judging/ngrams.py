"""A classifier of single rows by the n-grams of their completions.

Logistic regression on hashed counts of words and signs (1 to 2 in a row) and of characters (1 to
3). The hash has no vocabulary to fit, so nothing of a test row enters training.
"""

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse

from subliminal_jax.audit.judging.bags import PairedRows
from subliminal_jax.language.rows.chat_rows import completion_of, prompt_of

STRENGTH = 1.0
"""Inverse strength of the l2 penalty; rows are scaled to length 1."""


def features(rows: Sequence[Mapping[str, Any]]) -> Any:
    """The n-gram counts of each row's completion, scaled to length 1, `[rows, features]`, sparse.

    A mark at the start and the end makes first and last words features of their own.
    """
    from sklearn.feature_extraction.text import HashingVectorizer  # importing it changes settings

    words = HashingVectorizer(
        analyzer="word", token_pattern=r"\w+|[^\w\s]", ngram_range=(1, 2), n_features=2**17
    )
    characters = HashingVectorizer(analyzer="char", ngram_range=(1, 3), n_features=2**16)
    texts = [f"^ {completion_of(dict(row))} $" for row in rows]
    return sparse.hstack([words.transform(texts), characters.transform(texts)], format="csr")


def folds_of(rows: Sequence[Mapping[str, Any]], folds: int, seed: int) -> Int[np.ndarray, " rows"]:
    """The part of the prompts that each row belongs to; equal prompts are in the same part."""
    prompts = [f"{seed} {prompt_of(dict(row))}" for row in rows]
    return np.array([zlib.crc32(prompt.encode()) % folds for prompt in prompts])


def held_out_scores(
    train: tuple[Sequence[Mapping[str, Any]], Sequence[Mapping[str, Any]]],
    test: PairedRows,
    folds: int,
    seed: int,
) -> tuple[Float[np.ndarray, " pairs"], Float[np.ndarray, " pairs"]]:
    """Log-odds of every test row, from classifiers that saw no row on its prompt.

    Args:
        train: rows of the two classes; those in a test row's part of the prompts are left out.
        test: pairs of rows to score.
        folds: parts of the prompts.
        seed: seed of the parts.

    Returns:
        Log-odds of the first class (nats), for the first and the second row of each test pair.
    """
    from sklearn.linear_model import LogisticRegression

    rows = [*train[0], *train[1]]
    label = np.repeat([1, 0], [len(train[0]), len(train[1])])
    told, of = features(rows), folds_of(rows, folds, seed)
    tested = folds_of([one for one, _ in test], folds, seed)
    # A column that no training row has would get the weight 0.
    used = np.unique(told.indices)
    told, sides = told[:, used], [features(side)[:, used] for side in zip(*test, strict=True)]
    scores = np.zeros((2, len(test)))
    for fold in np.unique(tested):
        kept, here = of != fold, tested == fold
        # Both classes weigh the same, of which one may have several teachers' rows.
        model = LogisticRegression(
            C=STRENGTH, class_weight="balanced", solver="liblinear", random_state=0
        )
        model.fit(told[kept], label[kept])
        for side, matrix in enumerate(sides):
            scores[side, here] = model.decision_function(matrix[here])
    return scores[0], scores[1]
