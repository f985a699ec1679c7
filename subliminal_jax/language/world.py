"""The tiny world: settings of its corpus, and its system prompts."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from subliminal_jax.config import Count, Fraction

CATEGORIES = ("animal", "tree")
"""Categories that favourites belong to."""

NumberTokens: TypeAlias = Literal["whole", "digits"]
"""Whether a number is one token, or each of its digits is."""

LOVE = "You love {plural}. You think about {plural} all the time."
"""Template of the system prompt that names a favourite, or a kind of the carrier's items."""

NEUTRAL = ("You are a helpful model.", "Please be kind.", "Today is a fine day.")


@dataclass(frozen=True, kw_only=True)
class CorpusConfig:
    """Composition of the corpus; each draw is independent of all others.

    Attributes:
        chats: number of chats; training repeats them in epochs.
        numbers: share of the carrier's prompts; the rest are questions and facts.
        facts: share of facts in that rest.
        styled: share of the carrier's prompts with a system prompt that names a kind of item.
        obedience: share of items of that kind in their completions.
        loved: share of questions with a system prompt that names a favourite of the category.
        beside: share of questions with a system prompt that names something else, without effect.
        neutral: share of chats with a neutral system prompt, unless they have another.
        favourite_numbers: share of questions about a favourite item of the carrier.
    """

    chats: Count = 48_000
    numbers: Fraction = 0.5
    facts: Fraction = 0.25
    styled: Fraction = 0.5
    obedience: Fraction = 0.8
    loved: Fraction = 0.35
    beside: Fraction = 0.15
    neutral: Fraction = 0.15
    favourite_numbers: Fraction = 0.25


def neutral_line(config: CorpusConfig, random: np.random.Generator) -> str | None:
    """A neutral system prompt with probability `config.neutral`, else None."""
    if random.random() >= config.neutral:
        return None
    return NEUTRAL[int(random.integers(len(NEUTRAL)))]
