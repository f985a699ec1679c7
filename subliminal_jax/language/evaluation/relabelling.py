"""Whether students show their own teachers' traits: an exact test under exchange of their labels.

The traits of one seed share its students: what one trait's own student shows is, for the other
traits, what a mismatched student shows. So differences of matched and mismatched margins are not
independent within a seed, and flipping their signs one by one claims too much. Under the null
hypothesis a student of one teacher could be that of any other. The test therefore exchanges which
student belongs to which trait, within each seed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from jaxtyping import Float64

MOST = 2**20
"""The most labellings that are all counted; of more, 65,536 are drawn."""
DRAWN = 2**16


@dataclass(frozen=True)
class Relabelling:
    """A two-sided p-value, and the least that as many traits and seeds can give."""

    p: float
    least: float


def relabelling_test(
    margins: Sequence[Float64[np.ndarray, "_ _"]],
) -> Relabelling | None:
    """Return the p-value that traits are no higher in their own students than in others'.

    It is the share of all labellings of students, `k!` for each seed of k traits, whose mean
    difference of matched and mismatched margins is at least as far from zero as the observed one.
    Of more than 1,048,576 labellings, 65,536 are drawn with a fixed seed, beside the observed one.

    Args:
        margins: for each seed, [traits, traits] in nats: the margin of the row's trait in the
            student of the column's, in one order.

    Returns:
        The p-value and the least possible; None where no seed has two students to exchange.

    References:
        Fisher, "The Design of Experiments" (1935), section 21; Good, "Permutation, Parametric and
        Bootstrap Tests of Hypotheses" (2005).
    """
    seeds = [one for one in margins if len(one) > 1]
    if not seeds:
        return None
    labellings = math.prod(math.factorial(len(one)) for one in seeds)
    if labellings <= MOST:
        sums = np.zeros(1)
        for one in seeds:
            sums = (sums[:, None] + _differences(one, _orders(len(one)))).ravel()
    else:
        rng = np.random.default_rng(0)
        sums = np.zeros(1 + DRAWN)
        for one in seeds:
            orders = np.argsort(rng.random((DRAWN, len(one))), axis=1)
            sums += _differences(one, np.concatenate([np.arange(len(one))[None], orders]))
    far = np.abs(sums) >= abs(sums[0]) * (1.0 - 1e-12)
    # With two traits in each seed, all labels exchanged give the same difference, negated.
    mirrored = all(len(one) == 2 for one in seeds)
    return Relabelling(float(far.mean()), (2 if mirrored else 1) / min(labellings, len(sums)))


def _orders(traits: int) -> np.ndarray:
    """All orders of the students, the observed one first."""
    return np.array(list(permutations(range(traits))))


def _differences(margins: np.ndarray, orders: np.ndarray) -> Float64[np.ndarray, " orders"]:
    """For each order of the students, the sum over traits of matched minus mean mismatched."""
    count = len(margins)
    matched = margins[np.arange(count), orders].sum(axis=1)
    return (count * matched - margins.sum()) / (count - 1)
