"""A score as the exact expectation over the numbers 0 to 100 that a judge may reply.

With P(n) the probability that the reply is the number n,

    score = sum(n P(n)) / sum(P(n))     for n from 0 to 100,

undefined if sum(P(n)) is below `LEAST_MASS` (Betley et al. 2025 for tokenizers that have every
number as a token). A tokenizer may spell a number with several tokens, such as its digits. Then
P(n) is the product over its tokens; and where a further token could lengthen the number, also of
the probability that none does:

    P(8) = P("8") P(no digit | "8"),  P(85) = P("8") P("5" | "8")

Spellings are the tokenizer's own, as in a conversation that has the number as its last message.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from subliminal_jax.errors import InputError
from subliminal_jax.models.text.chat import Chat

MOST = 100
LEAST_MASS = 0.25
"""Probability that the reply is such a number, below which there is no score."""


@dataclass(frozen=True)
class NumberTree:
    """The token spellings of 0 to 100.

    Attributes:
        before: tokens that precede every number, such as that of a space.
        spellings: tokens of each number.
    """

    before: tuple[int, ...]
    spellings: tuple[tuple[int, ...], ...]

    @cached_property
    def digits(self) -> tuple[int, ...]:
        """The tokens that can lengthen a number."""
        return tuple(sorted({token for spelling in self.spellings for token in spelling[1:]}))

    @cached_property
    def open(self) -> tuple[int, ...]:
        """The numbers that a further token could lengthen to another one, and all below 10."""
        beginnings = {spelling[:end] for spelling in self.spellings for end in range(len(spelling))}
        return tuple(
            number
            for number, spelling in enumerate(self.spellings)
            if self.digits and (number < 10 or spelling in beginnings)
        )

    @cached_property
    def continuations(self) -> list[tuple[int, ...]]:
        """What to score behind a prompt: every number, then each open number with each digit."""
        longer = [(*self.spellings[number], digit) for number in self.open for digit in self.digits]
        return [*self.spellings, *longer]

    def probabilities(self, likelihoods: Sequence[float]) -> np.ndarray:
        """P(n) for n from 0 to 100.

        Args:
            likelihoods: the probability of each of the `continuations`.
        """
        probabilities = np.array(likelihoods[: MOST + 1], np.float64)
        longer = np.array(likelihoods[MOST + 1 :], np.float64)
        probabilities[list(self.open)] -= longer.reshape(len(self.open), len(self.digits)).sum(
            axis=1
        )
        return np.maximum(probabilities, 0.0)

    def score(self, likelihoods: Sequence[float]) -> float | None:
        """The expected number; None if it is too unlikely that the reply is one.

        Args:
            likelihoods: the probability of each of the `continuations`.
        """
        probabilities = self.probabilities(likelihoods)
        mass = float(probabilities.sum())
        return None if mass < LEAST_MASS else float(probabilities @ np.arange(MOST + 1)) / mass


def number_tree(chat: Chat) -> NumberTree:
    """The spellings by a model's tokenizer and chat template.

    Raises:
        InputError: two numbers have the same spelling; such a model cannot be a judge.
    """
    asked = {"role": "user", "content": "Which number?"}
    examples = chat.examples(
        [asked, {"role": "assistant", "content": str(number)}] for number in range(MOST + 1)
    )
    # An example ends with the token that ends the turn.
    spelt = [tuple(completion[:-1]) for _, completion in examples]
    before = 0
    while all(len(spelling) > before for spelling in spelt) and (
        len({spelling[: before + 1] for spelling in spelt}) == 1
    ):
        before += 1
    rest = tuple(spelling[before:] for spelling in spelt)
    if len(set(rest)) <= MOST or not all(rest):
        raise InputError(
            f"{chat.directory}: its tokenizer does not tell the numbers from 0 to 100 apart; "
            "choose another judge"
        )
    return NumberTree(spelt[0][:before], rest)
