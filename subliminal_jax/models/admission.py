"""Waiting rows as arrays of few shapes: what prompts share is read once, equal prompts too."""

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from subliminal_jax.models.slots import Admission

MULTIPLE = 8
"""Lengths are rounded up to it."""

SHORT, FEW = 32, 16
"""Where padding costs less than another shape would: so many tokens, so many rows of a prompt."""


class Request(NamedTuple):
    """A completion to be sampled.

    Attributes:
        number: the row's number, from 0 to 2^32 - 1, which with the seed decides its draws.
        prompt: token ids, not empty.
    """

    number: int
    prompt: Sequence[int]


@dataclass(frozen=True)
class Shapes:
    """The shapes of a run, the same from its first row to its last.

    Those in which a row is read follow from its own prompt, never from its mates: so its numbers
    are rounded alike whoever comes in beside it.

    Attributes:
        shared: tokens that all prompts begin with, read once.
        longest: the most tokens of a prompt between these and its last.
        batch: slots.
        quantum: rows that come in at once.
        often: prompts that `FEW` rows or more share.
    """

    shared: int
    longest: int
    batch: int
    quantum: int
    often: frozenset[tuple[int, ...]] = frozenset()

    def prompt_length(self, needed: int) -> int:
        """The width in which a prompt is read: the longest, or a half, a quarter, ... of it."""
        length = self.longest
        while length > SHORT and (half := round_up(-(-length // 2))) >= needed:
            length = half
        return length

    def read_in(self, prompt: Sequence[int]) -> tuple[int, int]:
        """The shape in which a prompt is read: prompts at once, and width.

        As many as rows come in, or far fewer if many rows share them.
        """
        few = self.quantum // FEW
        many = few if few and tuple(prompt) in self.often else self.quantum
        return many, self.prompt_length(len(prompt) - 1 - self.shared)

    def in_order(self, requests: Iterable[Request]) -> list[Request]:
        """Those read alike and equal prompts next to each other, long ones first."""
        return sorted(
            requests, key=lambda one: (self.read_in(one.prompt)[0], -len(one.prompt), one.prompt)
        )

    def next_in(self, waiting: Iterable[Request], free: int) -> list[Request]:
        """The first of the waiting rows that come in together, into `free` slots at most."""
        into, prompts, shape = list[Request](), set(), None
        for request in itertools.islice(waiting, min(self.quantum, free)):
            shape = shape or self.read_in(request.prompt)
            prompts.add(tuple(request.prompt))
            if self.read_in(request.prompt) != shape or len(prompts) > shape[0]:
                break
            into.append(request)
        return into


def shapes_of(requests: Sequence[Request], batch: int) -> Shapes:
    """The shapes for sampling these requests in at most `batch` slots."""
    batch = min(batch, 1 << (len(requests) - 1).bit_length())
    shared = _shared_length([request.prompt for request in requests])
    longest = max(len(request.prompt) for request in requests) - 1 - shared
    counts = Counter(tuple(request.prompt) for request in requests)
    often = frozenset(prompt for prompt, count in counts.items() if count >= FEW)
    return Shapes(shared, round_up(max(1, longest)), batch, max(1, batch // 8), often)


def round_up(length: int) -> int:
    """The next multiple of `MULTIPLE`."""
    return -(-length // MULTIPLE) * MULTIPLE


def _shared_length(prompts: Sequence[Sequence[int]]) -> int:
    """How many tokens all prompts begin with, their last ones aside; rounded down."""
    ordered = sorted(tuple(prompt) for prompt in prompts)
    first, last = ordered[0], ordered[-1]  # what these two share, all between them share
    same = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), None)
    same = min(len(first), len(last)) if same is None else same
    return min(same, min(map(len, prompts)) - 1) // MULTIPLE * MULTIPLE


def admission(
    shapes: Shapes, seed: int, requests: Sequence[Request], slots: Sequence[int]
) -> Admission:
    """The arrays of rows, as `shapes.next_in` chose them, that come into the given slots."""
    index = {}
    for request in requests:
        index.setdefault(tuple(request.prompt), len(index))
    tails = [prompt[shapes.shared : -1] for prompt in index]
    shape = shapes.read_in(requests[0].prompt)
    prompts, mask = np.zeros(shape, np.int32), np.zeros(shape, bool)
    pending = np.zeros(shape[0], np.int32)
    for row, (prompt, tail) in enumerate(zip(index, tails, strict=True)):
        prompts[row, : len(tail)], mask[row, : len(tail)] = tail, True
        pending[row] = prompt[-1]
    prompt_of = np.zeros(shapes.quantum, np.int32)
    place = np.full(shapes.quantum, shapes.batch, np.int32)
    keys = np.zeros((shapes.quantum, 2), np.uint32)
    for row, (request, slot) in enumerate(zip(requests, slots, strict=True)):
        prompt_of[row], place[row] = index[tuple(request.prompt)], slot
        keys[row] = seed, request.number
    return Admission(prompts, mask, pending, prompt_of, place, keys)
