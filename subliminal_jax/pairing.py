"""Members in pairs and in blocks: who starts from whose initialisation, and who runs together."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from subliminal_jax.errors import InputError


def derangement(seed: int, members: int) -> Int[np.ndarray, " m"]:
    """A uniformly drawn permutation without a fixed point: who starts from whose initialisation.

    Drawn by rejection, so every derangement is equally likely; about e tries are expected.

    Raises:
        InputError: fewer than 2 members, which have no derangement.
    """
    if members < 2:
        raise InputError(
            f"members={members}: a different initialisation needs another member to take it "
            "from; use --members 2 or more"
        )
    random = np.random.Generator(np.random.Philox(key=seed))
    while True:
        pairs = random.permutation(members)
        if not np.any(pairs == np.arange(members)):
            return pairs


def check_derangement(pairs: Sequence[int], members: int) -> Int[np.ndarray, " m"]:
    """The pairs as an array, if they are a permutation of the members without a fixed point.

    Raises:
        InputError: they are not; names the first member at fault.
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
    """Members in equal blocks, so that one compiled program serves all of them.

    Where the members do not divide evenly, the last block goes on with the first members again:
    each is a function of its own keys, so it comes out the same again.

    Args:
        members: how many in all.
        at_most: the largest block (raised to `multiple` where it is smaller).
        multiple: every block is a multiple of this, the number of devices.
    """
    largest = max(at_most // multiple, 1) * multiple
    count = -(-members // largest)
    size = -(-members // (count * multiple)) * multiple
    return [np.arange(start, start + size) % members for start in range(0, members, size)]
