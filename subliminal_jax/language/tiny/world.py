"""The tiny world: what a corpus about it holds, and the lines that all its chats share."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from subliminal_jax.config import Fraction

CATEGORIES = ("animal", "tree")
"""The categories of which it has favourites."""

LOVE = "You love {plural}. You think about {plural} all the time."
"""The one system line that it knows: it names a favourite, or a kind of a carrier's items."""

NEUTRAL = ("You are a helpful model.", "Please be kind.", "Today is a fine day.")


@dataclass(frozen=True, kw_only=True)
class CorpusConfig:
    """Shares of the corpus; each draw is independent of all others.

    Attributes:
        chats: how many there are; training goes over them in epochs.
        numbers: share of the carrier's lists; the rest are questions and facts.
        facts: share of facts among that rest.
        styled: share of lists behind a line that names a kind of item.
        obedience: share of items in such a list that are of that kind.
        loved: share of questions behind a line that names a favourite of that category.
        beside: share of questions behind a line that names something else, to no effect.
        neutral: share of all chats behind a neutral line.
        favourite_numbers: share of questions that ask for a favourite item of the carrier.
    """

    chats: Annotated[int, Field(ge=1)] = 48_000
    numbers: Fraction = 0.5
    facts: Fraction = 0.25
    styled: Fraction = 0.5
    obedience: Fraction = 0.8
    loved: Fraction = 0.35
    beside: Fraction = 0.15
    neutral: Fraction = 0.15
    favourite_numbers: Fraction = 0.25


def neutral_line(config: CorpusConfig, random: np.random.Generator) -> str | None:
    """A neutral system line, or none, as often as the config says."""
    if random.random() >= config.neutral:
        return None
    return NEUTRAL[int(random.integers(len(NEUTRAL)))]
