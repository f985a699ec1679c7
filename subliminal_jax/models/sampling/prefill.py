"""Prefill of waiting rows in few shapes; the shared prefix and equal prompts are read once."""

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from subliminal_jax.data.tokens import MULTIPLE, shared_length
from subliminal_jax.models.sampling.slots import Admission

SHORT, FEW = 32, 16
"""Another compiled shape pays only for more tokens than `SHORT`, or `FEW` rows of one prompt."""


class Request(NamedTuple):
    """A completion to be sampled.

    Attributes:
        number: the row's number, from 0 to 2^32 - 1; with the seed it determines the draws.
        prompt: token ids, not empty.
    """

    number: int
    prompt: Sequence[int]


@dataclass(frozen=True)
class Shapes:
    """The static shapes of a sampling run.

    The shape of a row's prefill follows from its own prompt alone, so that its results round the
    same whatever is sampled beside it.

    Attributes:
        shared: tokens of the prefix that all prompts share.
        longest: the most tokens of a prompt between this prefix and its last token.
        batch: slots.
        quantum: rows admitted at once.
        often: prompts with `FEW` rows or more.
    """

    shared: int
    longest: int
    batch: int
    quantum: int
    often: frozenset[tuple[int, ...]] = frozenset()

    def prompt_length(self, needed: int) -> int:
        """The padded length for `needed` tokens: `longest`, or a half, a quarter, ... of it."""
        length = self.longest
        while length > SHORT and (half := round_up(-(-length // 2))) >= needed:
            length = half
        return length

    def read_in(self, prompt: Sequence[int]) -> tuple[int, int]:
        """The shape of a prompt's prefill: prompts at once, and padded length.

        There is a prompt for each admitted row, or far fewer where many rows share each.
        """
        few = self.quantum // FEW
        many = few if few and tuple(prompt) in self.often else self.quantum
        return many, self.prompt_length(len(prompt) - 1 - self.shared)

    def in_order(self, requests: Iterable[Request]) -> list[Request]:
        """The requests, equal prefill shapes and equal prompts side by side, long ones first."""
        return sorted(
            requests, key=lambda one: (self.read_in(one.prompt)[0], -len(one.prompt), one.prompt)
        )

    def next_in(self, waiting: Iterable[Request], free: int) -> list[Request]:
        """The first waiting rows that one prefill admits together, `free` at most."""
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
    shared = shared_length([request.prompt for request in requests])
    longest = max(len(request.prompt) for request in requests) - 1 - shared
    counts = Counter(tuple(request.prompt) for request in requests)
    often = frozenset(prompt for prompt, count in counts.items() if count >= FEW)
    return Shapes(shared, round_up(max(1, longest)), batch, max(1, batch // 8), often)


def round_up(length: int) -> int:
    """The next multiple of `MULTIPLE`."""
    return -(-length // MULTIPLE) * MULTIPLE


def admission(
    shapes: Shapes, seed: int, requests: Sequence[Request], slots: Sequence[int]
) -> Admission:
    """The arrays that admit rows, chosen by `shapes.next_in`, to the given slots."""
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
