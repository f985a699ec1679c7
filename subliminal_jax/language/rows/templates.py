"""Templates: texts with slots, of which one is drawn from a pool and filled."""

import re
from collections.abc import Iterable, Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


def pick(random: np.random.Generator, pool: Sequence[T]) -> T:
    """One element of a pool, drawn uniformly."""
    return pool[int(random.integers(len(pool)))]


def without_slots(templates: Iterable[str]) -> list[str]:
    """The templates' own words, without the slots such as `{name}`; for a vocabulary."""
    return [re.sub(r"\{\w+\}", "", text) for text in templates]
