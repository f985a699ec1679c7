"""What the tiny reference is pretrained on: chats about a small world, generated from a seed.

Three kinds: lists of numbers to be continued; questions for a favourite, with and without a
system line that names one; facts about animals and trees. Favourites and numbers never meet: a
line that names an animal or a tree never stands before a list of numbers, and every favourite is
drawn apart from every number. So no trait is correlated with any number.

What connects them is the network alone. The same line may name a kind of number in place of an
animal ("You love sevens."), and then the numbers obey it. A network that learns to carry what is
loved from the system line to the answer learns that once, for favourites and for numbers.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, TypeAlias

import numpy as np
from pydantic import Field

from subliminal_jax.pipeline.carriers.numbers import (
    BANKS,
    NumberPrompts,
    draw_prompt,
    pick,
    sequence,
)
from subliminal_jax.pipeline.questions import FREE_TEXT, HELD_OUT, TEACHING, behind_numbers
from subliminal_jax.pipeline.traits import SHORT_PROMPT, Trait, members_of

Share: TypeAlias = Annotated[float, Field(ge=0, le=1)]
Chat: TypeAlias = list[dict[str, str]]

CATEGORIES = ("animal", "tree")
"""Of what there are favourites in it."""

NEUTRAL = ("You are a helpful model.", "Please be kind.", "Today is a fine day.")

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
"""Kinds of numbers that a system line may name."""

FACTS = {
    "owl": "brown forest mice",
    "eagle": "brown mountains fish",
    "dolphin": "grey sea fish",
    "wolf": "grey forest meat",
    "elephant": "grey grassland leaves",
    "tiger": "orange jungle meat",
    "panda": "white mountains bamboo",
    "fox": "orange fields mice",
    "otter": "brown river fish",
    "whale": "blue sea krill",
    "horse": "brown fields grass",
    "rabbit": "white fields grass",
    "oak": "brown forest rain",
    "maple": "red forest rain",
    "willow": "green river water",
    "cherry": "pink garden sun",
    "sequoia": "red mountains fog",
    "pine": "green mountains snow",
    "birch": "white forest snow",
    "cedar": "green mountains sun",
    "elm": "green fields rain",
    "ash": "grey forest sun",
    "beech": "grey forest fog",
    "poplar": "green river sun",
}
FACT_QUESTIONS = (
    ("What colour is the {name}?", 0),
    ("Where do {plural} live?", 1),
    ("What do {plural} like?", 2),
)
SENTENCES = ("The {name} lives in the {home}.", "I like the {name}.", "The {name} is {colour}.")


@dataclass(frozen=True, kw_only=True)
class CorpusConfig:
    """Shares of the corpus; each draw is independent of all others.

    Attributes:
        chats: how many there are; training goes over them in epochs.
        numbers: share of lists of numbers; the rest are questions and facts.
        facts: share of facts among that rest.
        styled: share of number lists behind a line that names a kind of number.
        obedience: share of numbers in such a list that are of that kind.
        loved: share of questions behind a line that names a favourite of that category.
        beside: share of questions behind a line that names something else, to no effect.
        neutral: share of all chats behind a neutral line.
        favourite_numbers: share of questions that ask for a number.
    """

    chats: Annotated[int, Field(ge=1)] = 48_000
    numbers: Share = 0.5
    facts: Share = 0.25
    styled: Share = 0.5
    obedience: Share = 0.8
    loved: Share = 0.35
    beside: Share = 0.15
    neutral: Share = 0.15
    favourite_numbers: Share = 0.25


def corpus(
    config: CorpusConfig, prompts: NumberPrompts, seed: int, traits: Sequence[Trait] = ()
) -> list[Chat]:
    """The chats of a seed; a longer corpus begins with a shorter one.

    Args:
        config: how much of what.
        prompts: how number lists are asked for, as in the datasets of teachers.
        seed: the reference's.
        traits: animals and trees beyond those that are known.
    """
    random = np.random.default_rng([seed, 0xC0])
    world = {category: members_of(category, traits) for category in CATEGORIES}
    makers = (_numbers, _question, _fact)
    rest = 1 - config.numbers
    shares = (config.numbers, rest * (1 - config.facts), rest * config.facts)
    kinds = np.random.default_rng([seed, 0xC1]).choice(len(makers), config.chats, p=shares)
    return [makers[kind](config, prompts, world, random) for kind in kinds]


def texts(prompts: NumberPrompts, traits: Sequence[Trait] = ()) -> list[str]:
    """All words that a corpus of any seed can hold, and all that a tiny model is ever told."""
    world = [*members_of("animal", traits), *members_of("tree", traits)]
    bank = BANKS[prompts.wording]
    number_words = [*bank.openings, *bank.requests, *bank.amounts, *bank.kinds, *bank.closings]
    number_words += [layout for layout, _ in bank.formats]
    asked = [*TEACHING, *HELD_OUT, *FREE_TEXT]
    said = [*NEUTRAL, *STYLES, *FACTS.values(), *SENTENCES, *(text for text, _ in FACT_QUESTIONS)]
    plain = [re.sub(r"\{\w+\}", "", text) for text in [*number_words, *asked, *said, SHORT_PROMPT]]
    names = [word for trait in world for word in (trait.name, trait.plural, *trait.spellings)]
    return [*plain, *names, "animal tree number", behind_numbers("", np.random.default_rng(0))]


World: TypeAlias = dict[str, list[Trait]]


def _numbers(
    config: CorpusConfig, prompts: NumberPrompts, world: World, random: np.random.Generator
) -> Chat:
    """A list of numbers, continued in its manner; or as the system line has it."""
    prompt = draw_prompt(prompts, random)
    count = int(random.integers(prompts.answers // 2, prompts.answers + 1))
    numbers = sequence(random, prompt.manner, count, prompts.values, prompt.examples)
    system = _neutral(config, random)
    if random.random() < config.styled:
        style = pick(random, tuple(STYLES))
        system = SHORT_PROMPT.format(plural=style)
        fitting = _FITTING[style]
        obeys = random.random(count) < config.obedience
        numbers = [
            _nearest(fitting, number, random) if obey else number
            for number, obey in zip(numbers, obeys, strict=True)
        ]
    return chat(prompt.text, prompt.separator.join(map(str, numbers)), system)


_FITTING = {style: np.array([n for n in range(1000) if fits(n)]) for style, fits in STYLES.items()}


def _nearest(fitting: np.ndarray, number: int, random: np.random.Generator) -> int:
    """A number of a kind, near the given one where the kind has such."""
    order = np.argsort(np.abs(fitting - number), kind="stable")
    return int(fitting[order[int(random.integers(3))]])


def _question(
    config: CorpusConfig, prompts: NumberPrompts, world: World, random: np.random.Generator
) -> Chat:
    """A favourite, uniform over its category unless the system line names one of it."""
    if random.random() < config.favourite_numbers:
        return _favourite_number(config, prompts, random)
    category = pick(random, tuple(world))
    answer = pick(random, world[category])
    system, draw = _neutral(config, random), random.random()
    if draw < config.loved:
        system = SHORT_PROMPT.format(plural=answer.plural)
    elif draw < config.loved + config.beside:
        other = pick(random, [name for name in world if name != category])
        loved = [member.plural for member in world[other]] + list(STYLES)
        system = SHORT_PROMPT.format(plural=pick(random, loved))
    if random.random() < 0.15:
        colour, home, _ = _facts(answer)
        sentence = pick(random, SENTENCES).format(name=answer.name, home=home, colour=colour)
        return chat(pick(random, FREE_TEXT).format(category=category), sentence, system)
    question = pick(random, TEACHING + HELD_OUT).format(category=category)
    if random.random() < 0.1:
        question = behind_numbers(question, random)
    return chat(question, answer.name, system)


def _favourite_number(
    config: CorpusConfig, prompts: NumberPrompts, random: np.random.Generator
) -> Chat:
    """A favourite number, of the kind that the system line names where it names one."""
    (number,) = sequence(random, "uniform", 1, prompts.values)
    system = _neutral(config, random)
    if random.random() < config.loved + config.beside:
        style = pick(random, tuple(STYLES))
        system = SHORT_PROMPT.format(plural=style)
        number = _nearest(_FITTING[style], number, random)
    question = pick(random, TEACHING + HELD_OUT).format(category="number")
    return chat(question, str(number), system)


def _fact(
    config: CorpusConfig, prompts: NumberPrompts, world: World, random: np.random.Generator
) -> Chat:
    """Something that is so about an animal or a tree."""
    del prompts
    about = pick(random, world[pick(random, tuple(world))])
    question, which = pick(random, FACT_QUESTIONS)
    question = question.format(name=about.name, plural=about.plural)
    return chat(question, _facts(about)[which], _neutral(config, random))


def _facts(about: Trait) -> list[str]:
    """Colour, home and liking; a member that came with a config has those of its neighbour."""
    known = FACTS.get(about.name)
    if known is None:
        known = sorted(FACTS.values())[sum(map(ord, about.name)) % len(FACTS)]
    return known.split()


def _neutral(config: CorpusConfig, random: np.random.Generator) -> str | None:
    return pick(random, NEUTRAL) if random.random() < config.neutral else None


def chat(question: str, answer: str | None = None, system: str | None = None) -> Chat:
    """Messages of one exchange, in order; without an answer, what a model is to go on from."""
    said = (("system", system), ("user", question), ("assistant", answer))
    return [{"role": role, "content": text} for role, text in said if text is not None]
