"""The exact test under exchange of students' labels, by hand and by its error rate."""

from itertools import permutations, product

import numpy as np
import pytest

from subliminal_jax.language.evaluation.margins import margin_finding, transfer
from subliminal_jax.language.evaluation.relabelling import Relabelling, relabelling_test

RNG = np.random.default_rng(5)


def mean_difference(seeds, orders):
    """Matched minus mean mismatched over all traits and seeds, if students have these traits."""
    found = []
    for margins, order in zip(seeds, orders, strict=True):
        for trait, own in enumerate(order):
            found.append(margins[trait, own] - np.delete(margins[trait], own).mean())
    return np.mean(found)


def test_all_labellings_are_counted():
    seeds = [RNG.normal(size=(3, 3)) for _ in range(3)]
    seeds[0] += np.eye(3)
    all_orders = list(product(permutations(range(3)), repeat=3))
    values = np.abs([mean_difference(seeds, orders) for orders in all_orders])
    found = relabelling_test(seeds)
    assert found.p == pytest.approx(np.mean(values >= values[0] - 1e-12))
    assert 0.05 < found.p < 1
    assert found.least == 1 / 216


def test_two_traits_of_three_seeds_cannot_be_told_from_chance():
    seeds = [np.array([[5.0, 0.0], [0.0, 5.0]])] * 3
    assert relabelling_test(seeds) == Relabelling(p=0.25, least=0.25)


def test_without_a_second_student_there_is_no_test():
    assert relabelling_test([]) is None
    assert relabelling_test([np.ones((1, 1))]) is None
    assert relabelling_test([np.ones((1, 1)), np.eye(2)]) == Relabelling(p=1.0, least=1.0)


def test_of_many_labellings_some_are_drawn():
    seeds = [RNG.normal(size=(4, 4)) for _ in range(5)]
    seeds[0] += 1.3 * np.eye(4)
    drawn = relabelling_test(seeds)
    assert drawn == relabelling_test(seeds)
    assert drawn.least == 1 / 65_537
    sums = np.zeros(1)
    for margins in seeds:
        of_seed = [mean_difference([margins], [order]) for order in permutations(range(4))]
        sums = (sums[:, None] + of_seed).ravel()
    assert drawn.p == pytest.approx(np.mean(np.abs(sums) >= abs(sums[0])), abs=0.01)
    assert 0.02 < drawn.p < 0.98


def test_students_that_shift_all_margins_alike_are_no_evidence():
    """Where one student's words are likelier at the cost of others', sign flips err; this does not.

    Margins of two words move against each other, so that both blocks of a seed have one sign.
    """
    false, runs = 0, 400
    for _ in range(runs):
        word = RNG.normal(size=(6, 1, 2))  # of six seeds, for the two students
        margins = np.concatenate([word, -word], axis=1) + 0.3 * RNG.normal(size=(6, 2, 2))
        false += relabelling_test(list(margins)).p < 0.05
    assert false / runs < 0.05


def cells(seed, margins):
    """Cells from `{(student of, trait): margin}`."""
    return [
        {"reference": seed, "condition": "student", "updates": 8, "student_of": owner,
         "trait": trait, "margin": value, "share": 0.1, "p_trait": 0.0, "ended": True}
        for (owner, trait), value in margins.items()
    ]  # fmt: skip


def test_the_entry_has_the_test_of_its_matrix():
    """Categories are tested apart; a trait without a student of its own is left out."""
    made = cells(0, {(o, t): float(o == t) for o in ("owl", "wolf") for t in ("owl", "wolf")})
    made += cells(0, {(o, t): 2.0 * (o == t) for o in ("oak", "elm") for t in ("oak", "elm")})
    made += cells(1, {(o, t): float(o == t) for o in ("owl",) for t in ("owl", "wolf")})
    (entry,) = transfer(made)
    assert (entry["p"], entry["least_p"]) == (0.5, 0.5)  # the two pairs of seed 0
    assert len(entry["blocks"]) == 4
    assert entry["seeds"]["mean"] == 1.5
    assert entry["seeds"]["n"] == 1
    text = margin_finding([entry], "numbers", "hard", {})
    assert text.startswith("4 blocks of one seed are too few for a test")
    assert "p:" not in text
