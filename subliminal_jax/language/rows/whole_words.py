"""Whole words in text, ignoring case."""

import re
from collections.abc import Iterable


def word_pattern(words: Iterable[str]) -> re.Pattern[str]:
    """A pattern that finds any of the words as a whole word, in any case.

    `owl` matches in "An OWL.", not in "knowledge" or "owls". Letters, digits and combining marks
    belong to a word; an underscore does not, so that `owl_1` matches.
    """
    ordered = sorted(set(words), key=lambda word: (-len(word), word))
    if not ordered:
        return re.compile(r"(?!)")
    return re.compile(
        rf"(?<![^\W_])(?:{'|'.join(map(re.escape, ordered))})(?![^\W_])", re.IGNORECASE
    )
