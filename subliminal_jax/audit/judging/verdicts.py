"""How well scores tell two datasets apart, and how well they do by chance.

If two teachers write alike, the two bags of a pair can be exchanged. All exchanges together give
the distribution of a value by chance for one trained teacher; its mean is .5, exactly. How much
teachers differ from each other is another question: that interval counts references.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.stats import rankdata

EXCHANGES, SEED = 4000, 0


@dataclass(frozen=True)
class Verdict:
    """How well bags of two teachers are told apart.

    Attributes:
        value: area under the ROC curve, or accuracy.
        low, high: the central 95% of the values under exchange of the two bags of each pair.
        bags: pairs of bags.
    """

    value: float
    low: float
    high: float
    bags: int


def auc(
    shown: Float[np.ndarray, " pairs"] | Sequence[float],
    other: Float[np.ndarray, " pairs"] | Sequence[float],
) -> Verdict:
    """The area under the ROC curve: P(a bag of the teacher scores higher than one of the other).

    Ties count half.

    Args:
        shown: scores of the teacher's bags, any unit.
        other: scores of the other's bags, on the same prompts.

    References:
        Hanley and McNeil, "The meaning and use of the area under a receiver operating
        characteristic (ROC) curve", Radiology 143 (1982), 29-36.
    """
    count = len(shown)
    ranks = rankdata(np.concatenate([np.asarray(shown), np.asarray(other)]))
    # With ranks r of the pooled scores, the area is 1/2 + sum(r_shown - r_other) / (2 n^2).
    return _verdict((ranks[:count] - ranks[count:]) / (2 * count))


def accuracy(margins: Float[np.ndarray, " pairs"] | Sequence[float]) -> Verdict:
    """The share of pairs with a positive margin, which is in favour of the right bag; ties half."""
    return _verdict(np.sign(np.asarray(margins, np.float64)) / 2)


def _verdict(parts: Float[np.ndarray, " pairs"]) -> Verdict:
    """The verdict `1/2 + mean(parts)`; exchanging a pair's bags changes the sign of its part."""
    signs = np.random.default_rng(SEED).choice([-1.0, 1.0], (EXCHANGES, len(parts)))
    low, high = np.quantile(0.5 + signs @ parts / len(parts), [0.025, 0.975])
    return Verdict(float(0.5 + parts.mean()), float(low), float(high), len(parts))
