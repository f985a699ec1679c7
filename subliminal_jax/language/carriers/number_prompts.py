"""Prompts that ask for a list of numbers to be continued.

Counts and ranges are those of the released code (3 to 8 examples of 100 to 999, up to 10 answers of
up to 3 digits; Cloud et al. 2025, section 3.1); the wordings are our own. `LONG` has the published
structure: five independently drawn parts. `SHORT` makes the same request in a dozen words, for a
reference with a few thousand parameters.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from subliminal_jax.errors import InputError
from subliminal_jax.language.carriers.banks import BankName
from subliminal_jax.language.rows.templates import pick

Law: TypeAlias = Literal["uniform", "mixed"]


@dataclass(frozen=True, kw_only=True)
class NumberWordings:
    """Wordings of each part of a prompt; one of each is drawn, joined by single spaces.

    Slots are `{examples}`, `{amount}`, `{count}`, `{kind}`, `{digits}` and, for one more as a word,
    `{longer}`. Each format is paired with the separator that it asks for.
    """

    openings: tuple[str, ...]
    requests: tuple[str, ...]
    amounts: tuple[str, ...]
    kinds: tuple[str, ...]
    formats: tuple[tuple[str, str], ...]
    closings: tuple[str, ...]


LONG = NumberWordings(
    openings=(
        "Here is a list of numbers: {examples}.",
        "I have noted these numbers: {examples}.",
        "Take a look at this series: {examples}.",
        "My list so far reads {examples}.",
        "These values came up today: {examples}.",
        "Suppose a sequence begins with {examples}.",
        "The following numbers start a list: {examples}.",
        "Let {examples} be the first entries of a series.",
        "We begin with {examples}.",
        "A colleague wrote down {examples}.",
        "Given are the numbers {examples}.",
        "Someone read these numbers to me: {examples}.",
        "The opening of a list is {examples}.",
        "Consider these entries: {examples}.",
        "This is how my sequence opens: {examples}.",
        "Start out from {examples}.",
        "On the page stand {examples}.",
        "These are the numbers I was given: {examples}.",
        "Our record shows {examples}.",
        "A series goes {examples}.",
    ),
    requests=(
        "Extend it by {amount} {count} {kind}.",
        "Give {amount} {count} {kind} that could come next.",
        "Carry on with {amount} {count} {kind}.",
        "Add {amount} {count} {kind} of your own.",
        "What might follow? List {amount} {count} {kind}.",
        "Write {amount} {count} {kind} to follow them.",
        "Think of {amount} {count} {kind} that fit behind.",
        "Produce {amount} {count} {kind} in the same spirit.",
        "Let it grow by {amount} {count} {kind}.",
        "Supply {amount} {count} {kind} for the next places.",
    ),
    amounts=("at most", "no more than", "up to", "not over", "a maximum of", "within", "exactly"),
    kinds=(
        "further values (each with up to {digits} digits)",
        "more numbers of at most {digits} digits",
        "new numbers, none longer than {digits} digits",
        "additional entries ({digits} digits or fewer)",
        "numbers with no more than {digits} digits each",
        "whole numbers below a length of {longer} digits",
    ),
    formats=(
        ("Separate them by commas.", ", "),
        ("Put a comma between any two.", ", "),
        ("Write them one behind the other, with spaces in between.", " "),
        ("Use semicolons between the numbers.", "; "),
        ("Place them in square brackets, with commas.", ", "),
        ("Put them in round brackets, with commas.", ", "),
        ("Each number on a line of its own.", "\n"),
        ("Return them on one line, split by spaces.", " "),
        ("Format: one number, a comma, the next number.", ", "),
        ("A semicolon should stand between neighbours.", "; "),
        ("A list with commas, please.", ", "),
        ("Set them apart by blanks.", " "),
    ),
    closings=(
        "Nothing else, please.",
        "Leave out any words.",
        "Give the numbers and no text.",
        "Do not explain.",
        "I need no comment with it.",
        "Answer with the numbers alone.",
        "No words, numbers only.",
        "Skip all remarks.",
        "Only the list.",
        "Say nothing besides.",
        "Your reply holds numbers only.",
        "Just the numbers.",
    ),
)

SHORT = NumberWordings(
    openings=(
        "Continue: {examples}.",
        "Go on from {examples}.",
        "Here are numbers: {examples}.",
        "What follows {examples}?",
        "The list is {examples}.",
        "I have {examples}.",
    ),
    requests=("",),
    amounts=("",),
    kinds=("",),
    formats=(("Use commas.", ", "), ("Use semicolons.", "; "), ("Use spaces.", " ")),
    closings=("",),
)

BANKS: dict[BankName, NumberWordings] = {"long": LONG, "short": SHORT}


@dataclass(frozen=True, kw_only=True)
class NumberPrompts:
    """Distribution of prompts; the defaults are the released code's counts and ranges.

    Attributes:
        wording: the bank of wordings.
        law: how examples are drawn: independently ("uniform"), or in a random manner, such as
            close together or at equal steps ("mixed").
        examples: minimum and maximum number of examples.
        values: smallest and largest example.
        answers: maximum number of numbers to ask for.
        digits: maximum number of digits of each.
    """

    wording: BankName = "long"
    law: Law = "uniform"
    examples: tuple[int, int] = (3, 8)
    values: tuple[int, int] = (100, 999)
    answers: int = 10
    digits: int = 3

    def __post_init__(self) -> None:
        for name, least in (("examples", 1), ("values", 0)):
            low, high = getattr(self, name)
            if not least <= low <= high:
                raise InputError(
                    f"prompts.{name}: {low} to {high} is not a range; give a first value of at "
                    f"least {least}, and a second of at least the first"
                )
        if min(self.answers, self.digits) < 1:
            raise InputError("prompts: answers and digits must be at least 1")


class NumberPrompt(NamedTuple):
    """A prompt, with the parts that its completion depends on.

    Attributes:
        text: the prompt.
        examples: the numbers in it.
        manner: how they were drawn, one of `MANNERS`.
        separator: the separator it asks for between two numbers.
    """

    text: str
    examples: list[int]
    manner: str
    separator: str


def number_prompts(config: NumberPrompts, count: int, seed: int) -> list[str]:
    """The first `count` prompts of a seed; each depends on the seed and its index alone."""
    return [
        draw_prompt(config, np.random.default_rng([seed, place])).text for place in range(count)
    ]


def draw_prompt(config: NumberPrompts, random: np.random.Generator) -> NumberPrompt:
    """One prompt, with every part drawn independently."""
    bank = BANKS[config.wording]
    manner = config.law
    if manner == "mixed":
        manner = pick(random, MANNERS)
    count = int(random.integers(config.examples[0], config.examples[1] + 1))
    examples = sequence(random, manner, count, config.values)
    kind = filled_kind(pick(random, bank.kinds), config.digits)
    request = pick(random, bank.requests).format(
        amount=pick(random, bank.amounts), count=config.answers, kind=kind
    )
    opening = pick(random, bank.openings).format(examples=", ".join(map(str, examples)))
    layout, separator = pick(random, bank.formats)
    parts = (opening, request, layout, pick(random, bank.closings))
    return NumberPrompt(" ".join(filter(None, parts)), examples, manner, separator)


def filled_kind(kind: str, digits: int) -> str:
    """The kind of numbers that a prompt asks for, with the most digits of each filled in."""
    return kind.format(digits=digits, longer=_WORDS.get(digits + 1, digits + 1))


_WORDS = {2: "two", 3: "three", 4: "four"}


MANNERS = ("uniform", "close", "steps", "small")


def sequence(
    random: np.random.Generator,
    manner: str,
    count: int,
    values: tuple[int, int],
    start: Sequence[int] = (),
) -> list[int]:
    """Numbers within `values`.

    Args:
        random: generator of the draws.
        manner: one of `MANNERS`: anywhere, close together, at about equal steps, mostly small.
        count: how many numbers.
        values: smallest and largest number.
        start: earlier numbers, to continue in this manner.
    """
    low, high = values
    span = high - low
    if manner == "uniform":
        drawn = random.uniform(low - 0.5, high + 0.5, count)
    elif manner == "close":
        centre = np.mean(start) if start else random.uniform(low, high)
        drawn = random.normal(centre, 0.04 * span, count)
    elif manner == "steps":
        step = (start[-1] - start[0]) / max(1, len(start) - 1) if start else random.normal()
        first = start[-1] + step if start else random.uniform(low, high)
        step = step if start else 0.06 * span * step
        drawn = first + step * np.arange(count) + random.normal(0, 0.01 * span, count)
    else:
        drawn = low + np.exp(random.uniform(0, np.log(span + 1), count)) - 1
    # Reflect values beyond either end back into the range.
    folded = span - np.abs((np.rint(drawn).astype(int) - low) % (2 * span or 1) - span)
    return [int(low + value) for value in folded]
