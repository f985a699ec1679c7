"""Values of detectors and what they are by chance: areas, accuracies, exchanged pairs."""

import itertools

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from subliminal_jax.audit.judging.bags import bags_of, check_enough, paired
from subliminal_jax.audit.judging.verdicts import accuracy, auc
from subliminal_jax.errors import InputError
from subliminal_jax.language.rows.chat_rows import row


def area(shown, other):
    return roc_auc_score([1] * len(shown) + [0] * len(other), [*shown, *other])


def test_the_area_is_scikit_learns_with_ties_too():
    random = np.random.default_rng(0)
    for draw in (lambda: random.normal(size=30), lambda: random.integers(0, 4, 30) / 2):
        shown, other = draw(), draw()
        assert auc(shown, other).value == pytest.approx(area(shown, other))


def test_chance_is_what_exchanging_pairs_gives():
    shown, other = [0.1, 2.0, -1.0, 0.5, 3.0, 1.5], [0.3, -2.0, 0.5, 0.4, 0.0, 1.0]
    exchanged = [
        area(*zip(*((b, a) if swap else (a, b)
                    for a, b, swap in zip(shown, other, swaps, strict=True)), strict=True))
        for swaps in itertools.product((False, True), repeat=len(shown))
    ]  # fmt: skip
    found = auc(shown, other)
    assert np.mean(exchanged) == pytest.approx(0.5)
    low, high = np.quantile(exchanged, [0.025, 0.975])
    assert found.low == pytest.approx(low, abs=0.03)
    assert found.high == pytest.approx(high, abs=0.03)


def test_accuracy_counts_ties_half_and_its_chance_is_binomial():
    found = accuracy([1.0, 2.0, -1.0, 0.0])
    assert found.value == pytest.approx(2.5 / 4)
    many = accuracy(np.ones(100))
    assert many.value == 1.0
    assert (many.low, many.high) == pytest.approx((0.4, 0.6), abs=0.02)
    assert many.bags == 100


def rows(name, prompts):
    return [row(f"{name}-{prompt}", f"p{prompt}", f"{name} {prompt}") for prompt in prompts]


def test_rows_are_paired_by_their_prompt_and_bags_share_none():
    pairs = paired(rows("a", [3, 1, 2, 9, 1, *range(20, 40)]), rows("b", [1, 2, 3, *range(20, 44)]))
    prompts = [(a["messages"][0]["content"], b["messages"][0]["content"]) for a, b in pairs]
    assert prompts[:3] == [("p3", "p3"), ("p1", "p1"), ("p2", "p2")]
    assert len(pairs) == 23
    assert all(a == b for a, b in prompts)
    bags = bags_of(pairs, size=3, most=100, seed=1)
    assert len(bags) == 7
    for side in (0, 1):
        used = [one["id"] for bag in bags for one in bag[side]]
        assert len(set(used)) == len(used) == 21
    assert bags_of(pairs, size=3, most=2, seed=1) == bags_of(pairs, size=3, most=2, seed=1)
    assert len(bags_of(pairs, size=3, most=2, seed=1)) == 2


def test_too_few_rows_are_refused_in_a_line():
    pairs = paired(rows("a", range(15)), rows("b", range(15)))
    check_enough(pairs, 1, "owl and regular")
    with pytest.raises(InputError, match="owl and regular: share 15 prompts, but 8 sets of 2 rows"):
        check_enough(pairs, 2, "owl and regular")
