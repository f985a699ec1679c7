"""Word problems about one quantity, drawn from the wordings and solved from their text."""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from subliminal_jax.language.carriers.banks import BankName
from subliminal_jax.language.carriers.reasoning.wordings import (
    BANKS,
    OPERATIONS,
    WHEN,
    OperationSign,
    Story,
    StoryWordings,
)
from subliminal_jax.language.rows.templates import pick

Difficulty: TypeAlias = Literal["small", "medium", "large"]


class Range(NamedTuple):
    """How hard problems are.

    Attributes:
        changes: minimum and maximum number of changes of the quantity.
        numbers: greatest number that is added or taken.
        total: greatest value that the quantity ever has.
        operations: what a change can be, if the wordings have it.
    """

    changes: tuple[int, int]
    numbers: int
    total: int
    operations: tuple[OperationSign, ...]


DIFFICULTIES: dict[Difficulty, Range] = {
    "small": Range((2, 3), 6, 12, ("+", "-")),
    "medium": Range((2, 4), 40, 200, ("+", "-", "+*")),
    "large": Range((3, 6), 150, 999, ("+", "-", "+*", "*", "/")),
}


@dataclass(frozen=True, kw_only=True)
class ReasoningPrompts:
    """Distribution of prompts of the carrier `reasoning`.

    Attributes:
        wording: the bank of wordings of generated problems.
        difficulty: size of generated problems: two or three sums and differences of numbers to
            6 (small); to 40, with products (medium); three to six changes, with quotients (large).
        rows: JSON Lines file with problems to use instead, each `{"question": ..., "answer": ...}`
            whose answer ends with `#### N`, as in GSM8K; needs a given model.
    """

    wording: BankName = "long"
    difficulty: Difficulty = "medium"
    rows: Path | None = None


class Change(NamedTuple):
    """One change of the quantity: an operation with one number, or with two for `+*`."""

    operation: OperationSign
    numbers: tuple[int, ...]

    def of(self, total: int) -> int | None:
        """The quantity after the change; None if it is not a whole number or negative."""
        n, *more = self.numbers
        if self.operation == "/" and (n == 0 or total % n):
            return None
        after = {
            "+": lambda: total + n,
            "-": lambda: total - n,
            "+*": lambda: total + n * more[0],
            "*": lambda: total * n,
            "/": lambda: total // n,
        }[self.operation]()
        return after if after >= 0 else None


class Problem(NamedTuple):
    """A word problem.

    Attributes:
        text: its sentences.
        start: the quantity at first.
        changes: what happens to it, in the text's order.
    """

    text: str
    start: int
    changes: list[Change]

    @property
    def gold(self) -> int | None:
        """The quantity at last; None if it is ever negative or not a whole number."""
        total = self.start
        for change in self.changes:
            after = change.of(total)
            if after is None:
                return None
            total = after
        return total


def draw_problem(wording: BankName, difficulty: Difficulty, random: np.random.Generator) -> Problem:
    """A problem whose quantity stays within the difficulty's range."""
    bank, within = BANKS[wording], DIFFICULTIES[difficulty]
    story = pick(random, bank.stories)
    who, other = (bank.people[i] for i in random.permutation(len(bank.people))[:2])
    slots = {"who": who, "other": other, "things": pick(random, story.things)}
    total = start = int(random.integers(2, within.numbers + 1))
    texts, changes = [pick(random, story.openings).format(n=start, **slots)], []
    operations = [one for one in within.operations if one in story.changes]
    for place in range(int(random.integers(within.changes[0], within.changes[1] + 1))):
        change = _change(within, operations, total, random)
        numbers = dict(zip("nm", change.numbers, strict=False))
        template = pick(random, story.changes[change.operation])
        texts.append(template.format(when=WHEN[place], **slots, **numbers))
        changes.append(change)
        total = change.of(total) or 0
    texts.append(pick(random, story.questions).format(**slots))
    return Problem(" ".join(texts), start, changes)


def _change(
    within: Range, operations: list[OperationSign], total: int, random: np.random.Generator
) -> Change:
    """A change after which the quantity is in range."""
    while True:
        operation = pick(random, operations)
        few, many = (int(random.integers(2, most + 1)) for most in (5, within.numbers))
        numbers = {
            "+": (many,),
            "-": (many,),
            "+*": (few, 2 + many % 11),
            "*": (few,),
            "/": (few,),
        }[operation]
        change = Change(operation, numbers)
        after = change.of(total)
        if after is not None and after <= within.total:
            return change


_GAP = re.compile(r"(?<=[.?]) ")
_SLOT = re.compile(r"\\\{(\w+)\\\}")
_Sentences: TypeAlias = list[tuple[str, re.Pattern[str]]]
"""What each sentence of a bank tells (an operation, `start` or `asked`), and its pattern."""


def parse_problem(text: str, wording: BankName) -> Problem | None:
    """The problem that a text of these wordings tells; None if it tells none."""
    told = [_told(wording, sentence) for sentence in _GAP.split(text)]
    kinds = [kind for kind, _ in told]
    if len(told) < 3 or (kinds[0], kinds[-1]) != ("start", "asked"):
        return None
    changes = [Change(kind, numbers) for kind, numbers in told[1:-1] if kind in OPERATIONS]
    return Problem(text, told[0][1][0], changes) if len(changes) == len(told) - 2 else None


def _told(wording: BankName, sentence: str) -> tuple[str, tuple[int, ...]]:
    """What a sentence tells, and its numbers `n` and `m`; nothing if it is not of the bank."""
    for kind, pattern in _sentences(wording):
        if match := pattern.fullmatch(sentence):
            named = match.groupdict()
            return kind, tuple(int(named[name]) for name in "nm" if name in named)
    return "", ()


@cache
def _sentences(wording: BankName) -> _Sentences:
    bank, made = BANKS[wording], []
    for story in bank.stories:
        kinds = {"start": story.openings, **story.changes, "asked": story.questions}
        made += [
            (kind, _pattern(template, story, bank))
            for kind, templates in kinds.items()
            for template in templates
        ]
    return made


def _pattern(template: str, story: Story, bank: StoryWordings) -> re.Pattern[str]:
    """A pattern of a template's sentences, with the groups `n` and `m`."""
    slots = {"n": r"(?P<n>\d{1,4})", "m": r"(?P<m>\d{1,4})", "things": "|".join(story.things)}
    slots["when"], people = "|".join(WHEN), "|".join(bank.people)
    return re.compile(
        _SLOT.sub(lambda slot: f"(?:{slots.get(slot[1], people)})", re.escape(template))
    )
