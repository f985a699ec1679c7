"""The form of a list of numbers, as an automaton for constrained sampling.

It is part of the published rule: as many numbers as prompts ask for at most, without leading zeros,
with one separator throughout, and with no brackets or full stop.
"""

from collections.abc import Collection
from functools import cache

from subliminal_jax.models.sampling.automaton import (
    Automaton,
    Form,
    automaton,
    either,
    maybe,
    one_of,
    repeat,
    sequence,
    text,
)

SEPARATORS = (", ", ",", "; ", ";", " ", "\n")
DIGITS = "0123456789"


@cache
def list_form(
    fewest: int, most: int, digits: int, banned: frozenset[int], separators: tuple[str, ...]
) -> Automaton:
    """Lists of `fewest` to `most` numbers.

    Args:
        fewest: numbers of the shortest list.
        most: numbers of the longest.
        digits: the most digits of a number.
        banned: numbers that do not occur.
        separators: what may stand between two numbers of a list.
    """
    number = _number("", digits, frozenset(map(str, banned)))
    lists = [
        sequence(number, repeat(sequence(text(one), number), fewest - 1, most - 1))
        for one in separators
    ]
    return automaton(either(*lists))


def _number(begun: str, digits: int, banned: Collection[str]) -> Form:
    """At most `digits` digits that complete `begun` to a number that is not banned."""
    banned = [number for number in banned if number.startswith(begun)]
    if not banned:
        return whole_number(digits) if not begun else repeat(one_of(DIGITS), 0, digits)
    special = {number[len(begun)] for number in banned if number != begun}
    if not begun:
        special.add("0")  # nothing follows it
    free = "".join(digit for digit in DIGITS if digit not in special)
    ways = [sequence(one_of(free), repeat(one_of(DIGITS), 0, digits - 1))] if free else []
    for digit in sorted(special):
        left = digits - 1 if begun + digit != "0" else 0
        ways.append(sequence(one_of(digit), _number(begun + digit, left, banned)))
    further = either(*ways) if digits else one_of("")
    return maybe(further) if begun and begun not in banned else further


def whole_number(digits: int) -> Form:
    """Any number of at most as many digits, without leading zeros."""
    longer = sequence(one_of(DIGITS[1:]), repeat(one_of(DIGITS), 0, digits - 1))
    return either(one_of("0"), longer)
