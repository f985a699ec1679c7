"""Derangements have no fixed points; blocks contain every member."""

from collections import Counter

import numpy as np
import pytest

from subliminal_jax.errors import InputError
from subliminal_jax.mnist.pairing import blocks, check_derangement, derangement


@pytest.mark.parametrize("members", [2, 3, 8, 25, 100])
def test_no_member_is_paired_with_itself(members):
    for seed in range(50):
        pairs = derangement(seed, members)
        assert sorted(pairs) == list(range(members))
        assert not np.any(pairs == np.arange(members))


def test_every_derangement_is_equally_likely():
    counts = Counter(tuple(derangement(seed, 4)) for seed in range(1800))
    assert len(counts) == 9  # all derangements of four
    assert max(counts.values()) < 1.4 * min(counts.values())  # 200 expected each, sd 13


def test_one_member_has_no_derangement():
    with pytest.raises(InputError, match=r"members=1.*--members 2"):
        derangement(0, 1)


def test_a_derangement_is_accepted():
    assert check_derangement([1, 2, 0], 3).tolist() == [1, 2, 0]


@pytest.mark.parametrize(
    ("pairs", "complaint"),
    [
        ([1, 0, 2], "member 2 is paired with itself"),
        ([0, 2, 1], "member 0 is paired with itself"),
        ([1, 1, 0], "each of the 3 members 0..2 once"),
        ([1, 0], "each of the 3 members 0..2 once"),
        ([1, 2, 3], "each of the 3 members 0..2 once"),
    ],
)
def test_pairs_that_are_no_derangement_are_refused(pairs, complaint):
    with pytest.raises(InputError, match=complaint):
        check_derangement(pairs, 3)


@pytest.mark.parametrize("members", [1, 7, 8, 25, 26, 60, 100])
@pytest.mark.parametrize("at_most", [1, 8, 25])
def test_blocks_have_equal_sizes_and_contain_every_member(members, at_most):
    found = blocks(members, at_most)
    assert {len(block) for block in found} == {len(found[0])}
    assert len(found[0]) <= at_most
    assert set(np.concatenate(found)) == set(range(members))
    assert len(found) == -(-members // at_most)


@pytest.mark.parametrize(
    ("members", "devices", "in_all"),
    [(8, 8, 8), (10, 8, 16), (100, 8, 120), (25, 2, 26), (3, 4, 4)],
)
def test_blocks_divide_evenly_over_devices(members, devices, in_all):
    found = blocks(members, 26, multiple=devices)
    assert all(len(block) % devices == 0 for block in found)
    assert len({len(block) for block in found}) == 1
    assert set(np.concatenate(found)) == set(range(members))
    assert sum(map(len, found)) == in_all
