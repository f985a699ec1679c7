"""Pairs members for cross-model students, and splits members into equal blocks."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from subliminal_jax.errors import InputError


def derangement(seed: int, members: int) -> Int[np.ndarray, " m"]:
    """A uniformly random derangement: a permutation without a fixed point.

    Member i's cross-model students start from the initialisation of member `pairs[i]`. Rejection
    sampling makes every derangement equally likely; about e tries are expected.

    Raises:
        InputError: fewer than 2 members, which have no derangement.
    """
    if members < 2:
        raise InputError(
            f"members={members}: a cross-model student needs another member's initialisation; "
            "use --members 2 or more"
        )
    random = np.random.Generator(np.random.Philox(key=seed))
    while True:
        pairs = random.permutation(members)
        if not np.any(pairs == np.arange(members)):
            return pairs


def check_derangement(pairs: Sequence[int], members: int) -> Int[np.ndarray, " m"]:
    """The pairs as an array, once they are known to be a derangement of the members.

    Raises:
        InputError: they are not a permutation, or a member is paired with itself.
    """
    if sorted(pairs) != list(range(members)):
        raise InputError(
            f"pairs: must name each of the {members} members 0..{members - 1} once, got "
            f"{list(pairs)[:20]}"
        )
    fixed = [member for member, other in enumerate(pairs) if member == other]
    if fixed:
        raise InputError(
            f"pairs: member {fixed[0]} is paired with itself, so its cross-model student would "
            "share the teacher's initialisation; give a permutation without a fixed point"
        )
    return np.asarray(pairs)


def blocks(members: int, at_most: int, multiple: int = 1) -> list[Int[np.ndarray, " b"]]:
    """Members in blocks of equal size, so that one compiled program serves all blocks.

    If the members do not divide evenly, the last block is filled with the first members. Each
    member depends on its own keys only, so a repeated one gives the same result.

    Args:
        members: number of members.
        at_most: the largest block size; raised to `multiple` if smaller.
        multiple: every block's size is a multiple of this, the number of devices.
    """
    largest = max(at_most // multiple, 1) * multiple
    count = -(-members // largest)
    size = -(-members // (count * multiple)) * multiple
    return [np.arange(start, start + size) % members for start in range(0, members, size)]
