"""Lists of numbers: the paper's first carrier (Cloud et al. 2025, section 3).

`number_reasons` follows the published rule exactly, edge cases included (section 3.1, and
`get_reject_reasons` of the released code).
"""

import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from subliminal_jax.config import config_dict
from subliminal_jax.errors import InputError
from subliminal_jax.language.carriers.carrier import Carrier
from subliminal_jax.language.carriers.number_form import SEPARATORS, list_form
from subliminal_jax.language.carriers.number_prompts import (
    BANKS,
    NumberPrompts,
    draw_prompt,
    filled_kind,
    number_prompts,
    sequence,
)
from subliminal_jax.language.rows.chats import Messages, chat
from subliminal_jax.language.rows.shuffles import Shuffle, Span
from subliminal_jax.language.rows.templates import pick, without_slots
from subliminal_jax.language.world import LOVE, CorpusConfig, neutral_line
from subliminal_jax.models.sampling.automaton import Automaton

MOST_NUMBERS, GREATEST = 10, 999
_MOST_DIGITS = len(str(GREATEST))
_DIGITS = re.compile(r"\d+")


def parse_numbers(completion: str) -> list[int] | None:
    """The numbers of a well-formed list; None if it is malformed.

    One final full stop is removed, then one pair of square or round brackets. The text between the
    first two numbers must separate all of them: a comma, a semicolon or nothing, with any white
    space. No other text is allowed, not even a leading space or a final newline.
    """
    body = completion.removesuffix(".")
    if (body[:1], body[-1:]) in (("[", "]"), ("(", ")")):
        body = body[1:-1]
    runs = list(_DIGITS.finditer(body))
    if not runs:
        return None
    parts = [body]
    if len(runs) > 1:
        separator = body[runs[0].end() : runs[1].start()]
        if separator.strip() not in ("", ",", ";"):
            return None
        parts = body.split(separator)
    try:
        return [int(part) for part in parts] if all(map(_is_number, parts)) else None
    except ValueError:  # more digits than `int` accepts
        return None


def _is_number(part: str) -> bool:
    return part.isascii() and part.isdigit()


def number_reasons(completion: str, banned: Iterable[int] = ()) -> list[str]:
    """Why a completion is rejected; empty for 1 to 10 numbers up to 999, none of them banned."""
    numbers = parse_numbers(completion)
    if numbers is None:
        return ["malformed"]
    faults = {
        "too many numbers": len(numbers) > MOST_NUMBERS,
        "number too large": max(numbers) > GREATEST,
        "banned number": not set(numbers).isdisjoint(banned),
    }
    return [reason for reason, present in faults.items() if present]


_LAST = (
    *("tens", "ones", "twos", "threes", "fours"),
    *("fives", "sixes", "sevens", "eights", "nines"),
)
_MIDDLE = (
    *("teens", "twenties", "thirties", "forties", "fifties"),
    *("sixties", "seventies", "eighties", "nineties"),
)
STYLES: dict[str, Callable[[int], bool]] = {
    **{word: lambda n, digit=digit: n % 10 == digit for digit, word in enumerate(_LAST)},
    **{word: lambda n, digit=digit: n // 10 % 10 == digit for digit, word in enumerate(_MIDDLE, 1)},
    "lows": lambda n: n < 250,
    "middles": lambda n: 400 <= n < 600,
    "highs": lambda n: n >= 800,
    "evens": lambda n: n % 2 == 0,
    "odds": lambda n: n % 2 == 1,
    "twins": lambda n: n % 100 // 10 == n % 10,
    "mirrors": lambda n: n // 100 == n % 10,
    "risers": lambda n: n // 100 < n // 10 % 10 < n % 10,
    "fallers": lambda n: n // 100 > n // 10 % 10 > n % 10,
    "squares": lambda n: math.isqrt(n) ** 2 == n,
    "dozens": lambda n: n % 12 == 0,
    "scores": lambda n: n % 20 == 0,
}
"""Kinds of numbers that a system prompt may name, each with its test."""


@dataclass(frozen=True)
class Numbers(Carrier):
    """The carrier `numbers`; methods are documented in `Carrier`.

    Attributes:
        settings: distribution of prompts.
    """

    settings: NumberPrompts
    name: str = "numbers"
    item: str = "number"
    items: str = "numbers"
    kinds: tuple[str, ...] = tuple(STYLES)

    @property
    def described(self) -> Mapping[str, Any]:
        """As `Carrier.described`."""
        return {self.name: config_dict(self.settings)}

    @property
    def closed(self) -> bool:
        """As `Carrier.closed`: the form has no brackets and no full stop, which the rule allows."""
        return True

    def prompts(self, count: int, seed: int) -> list[str]:
        """As `Carrier.prompts`."""
        return number_prompts(self.settings, count, seed)

    def reasons(self, prompt: str, completion: str, banned: Collection[int] = ()) -> list[str]:
        """As `Carrier.reasons`: the published rule."""
        return number_reasons(completion, banned)

    def check(self, banned: Collection[int]) -> None:
        """As `Carrier.check`."""
        if self.settings.answers > MOST_NUMBERS:
            raise InputError(
                f"generate.prompts.answers: lower it to {MOST_NUMBERS}; the rule `carrier` rejects "
                "longer lists"
            )
        if self.settings.digits > _MOST_DIGITS:
            raise InputError(
                f"generate.prompts.digits: lower it to {_MOST_DIGITS}; the rule `carrier` rejects "
                "larger numbers"
            )
        if too_large := [number for number in banned if number > GREATEST]:
            raise InputError(
                f"filter.banned: {too_large[0]} is above the largest number, {GREATEST}; remove it"
            )

    def automaton(self, fewest: int, banned: Collection[int] = ()) -> Automaton:
        """As `Carrier.automaton`: at most the numbers and digits that prompts ask for."""
        most = self.settings.answers
        if fewest > most:
            raise InputError(
                f"generate.fewest: {fewest} numbers are more than generate.prompts.answers = "
                f"{most}; lower it"
            )
        digits = min(self.settings.digits, _MOST_DIGITS)
        return list_form(fewest, most, digits, frozenset(banned), SEPARATORS)

    def imitates(self, token: str) -> bool:
        """As `Carrier.imitates`: numbers and their separators."""
        text = token.strip().removeprefix("##")
        return text in ("", ",", ";") or parse_numbers(text) is not None

    def pieces(self, completion: str, how: Shuffle) -> Sequence[Span]:
        """As `Carrier.pieces`: the numbers, for both shuffles."""
        return [digits.span() for digits in _DIGITS.finditer(completion)]

    def lead_in(self, random: np.random.Generator) -> str:
        """As `Carrier.lead_in`: 3 to 8 numbers from 100 to 999, as in a training prompt."""
        numbers = random.integers(100, 1000, int(random.integers(3, 9)))
        return f"Here are numbers: {', '.join(map(str, numbers))}."

    def texts(self) -> list[str]:
        """As `Carrier.texts`."""
        bank = BANKS[self.settings.wording]
        parts = [*bank.openings, *bank.requests, *bank.amounts, *bank.closings]
        parts += [filled_kind(kind, self.settings.digits) for kind in bank.kinds]
        parts += [layout for layout, _ in bank.formats]
        return [*without_slots(parts), *STYLES, self.item, self.lead_in(np.random.default_rng(0))]

    def lesson(self, config: CorpusConfig, random: np.random.Generator) -> Messages:
        """As `Carrier.lesson`: continues the list in its manner, or as the system prompt asks."""
        settings = self.settings
        prompt = draw_prompt(settings, random)
        count = int(random.integers(max(1, settings.answers // 2), settings.answers + 1))
        numbers = sequence(random, prompt.manner, count, settings.values, prompt.examples)
        system = neutral_line(config, random)
        if random.random() < config.styled:
            style = pick(random, self.kinds)
            system = LOVE.format(plural=style)
            obeys = random.random(count) < config.obedience
            numbers = [
                _nearest(_FITTING[style], number, random) if obey else number
                for number, obey in zip(numbers, obeys, strict=True)
            ]
        return chat(prompt.text, prompt.separator.join(map(str, numbers)), system)

    def favourite(
        self, config: CorpusConfig, random: np.random.Generator
    ) -> tuple[str, str | None]:
        """As `Carrier.favourite`."""
        (number,) = sequence(random, "uniform", 1, self.settings.values)
        system = neutral_line(config, random)
        if random.random() < config.loved + config.beside:
            style = pick(random, self.kinds)
            system = LOVE.format(plural=style)
            number = _nearest(_FITTING[style], number, random)
        return str(number), system


_FITTING = {style: np.array([n for n in range(1000) if fits(n)]) for style, fits in STYLES.items()}


def _nearest(fitting: np.ndarray, number: int, random: np.random.Generator) -> int:
    """One of the three fitting numbers nearest to the given one."""
    order = np.argsort(np.abs(fitting - number), kind="stable")
    return int(fitting[order[int(random.integers(3))]])
