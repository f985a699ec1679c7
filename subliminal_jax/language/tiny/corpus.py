"""The tiny reference's pretraining corpus: chats about a small world, generated from a seed.

It has three kinds of chat: prompts of the carrier with completions; questions about a favourite,
with and without a system prompt that names one; facts about animals and trees. A system prompt that
names an animal or a tree never precedes the carrier's prompts. Some questions for a favourite
follow a few of the carrier's items (`LEAD_IN_SHARE`), or a system prompt that names a kind of them;
favourites are drawn independently of both. So no trait is correlated with any number.

Only the network connects them. A system prompt can name a kind of number instead of an animal ("You
love sevens."), and the numbers then follow it. The network learns once, for favourites and numbers,
to carry what is loved from the system prompt to the answer. In a corpus without such lines
finetuned teachers transmit all the same, prompted ones do not: experiments/results/lm_numbers.md.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from subliminal_jax.config import config_dict
from subliminal_jax.errors import InputError
from subliminal_jax.language.carriers.carrier import Carrier
from subliminal_jax.language.rows.chats import Messages, chat
from subliminal_jax.language.rows.templates import pick, without_slots
from subliminal_jax.language.traits.preference import Preference, members_of
from subliminal_jax.language.traits.questions import FREE_TEXT, HELD_OUT, TEACHING
from subliminal_jax.language.traits.trait import Subject
from subliminal_jax.language.world import CATEGORIES, LOVE, NEUTRAL, CorpusConfig, neutral_line

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
PLAIN = "I like {name}."
"""What is said of a member of a category that a config adds, about which there are no facts."""
SENTENCES = ("The {name} lives in the {home}.", "I like the {name}.", "The {name} is {colour}.")
SENTENCE_SHARE = 0.15
"""Share of the questions for a favourite that ask for a sentence about it."""
LEAD_IN_SHARE = 0.1
"""Share of the others that follow some of the carrier's items, by `Carrier.lead_in`."""


ByCategory: TypeAlias = dict[str, list[Preference]]
"""Members of every category."""


@dataclass(frozen=True, kw_only=True)
class World:
    """What the chats of a corpus can be about.

    Attributes:
        carrier: carrier of the prompts, as in the teachers' datasets.
        new: favourites to add to the built-in ones, also of new categories.
        subjects: what the run's traits add.
    """

    carrier: Carrier
    new: Sequence[Preference] = ()
    subjects: Sequence[Subject] = ()

    @property
    def described(self) -> dict[str, Any]:
        """Everything that its corpus depends on, as plain values."""
        return {
            "carrier": dict(self.carrier.described),
            "new_traits": [config_dict(one) for one in self.new],
            "subjects": [one.name for one in self.subjects],
        }

    @property
    def members(self) -> ByCategory:
        """Members of every category."""
        names = dict.fromkeys([*CATEGORIES, *(one.category for one in self.new)])
        return {category: members_of(category, self.new) for category in names}


def corpus(config: CorpusConfig, world: World, seed: int) -> list[Messages]:
    """The chats of a seed; a longer corpus starts with the shorter one.

    Args:
        config: number of chats and share of each kind.
        world: what the chats are about.
        seed: seed of the reference.

    Raises:
        InputError: the shares of all subjects exceed the corpus.
    """
    random = np.random.default_rng([seed, 0xC0])
    carrier, members = world.carrier, world.members
    makers: list[Callable[[], Messages]] = [
        lambda: carrier.lesson(config, random),
        lambda: _question(config, carrier, members, random),
        lambda: _fact(config, members, random),
        *(partial(subject.lesson, config, random) for subject in world.subjects),
    ]
    rest = 1 - config.numbers
    shares = np.array([config.numbers, rest * (1 - config.facts), rest * config.facts])
    added = [subject.share for subject in world.subjects]
    if sum(added) >= 1:
        raise InputError("traits: what they add leaves no room in the corpus; choose fewer traits")
    shares = np.array([*(shares * (1 - sum(added))), *added])
    kinds = np.random.default_rng([seed, 0xC1]).choice(len(makers), config.chats, p=shares)
    return [makers[kind]() for kind in kinds]


def texts(world: World) -> list[str]:
    """Texts with every word of any seed's corpus: the vocabulary of a tiny model."""
    members = [one for category in world.members.values() for one in category]
    questions = [*TEACHING, *HELD_OUT, *FREE_TEXT, *(text for text, _ in FACT_QUESTIONS)]
    lines = [*NEUTRAL, *FACTS.values(), *SENTENCES, PLAIN, LOVE]
    names = [word for member in members for word in (member.name, member.plural, *member.spellings)]
    added = [text for subject in world.subjects for text in subject.texts()]
    return [
        *without_slots([*questions, *lines]),
        *names,
        *world.members,
        *world.carrier.texts(),
        *added,
    ]


def _question(
    config: CorpusConfig, carrier: Carrier, world: ByCategory, random: np.random.Generator
) -> Messages:
    """A favourite, uniform over its category unless the system prompt names one of its members."""
    if random.random() < config.favourite_numbers and (made := carrier.favourite(config, random)):
        item, system = made
        return chat(pick(random, TEACHING + HELD_OUT).format(category=carrier.item), item, system)
    category = pick(random, tuple(world))
    answer = pick(random, world[category])
    system, draw = neutral_line(config, random), random.random()
    if draw < config.loved:
        system = LOVE.format(plural=answer.plural)
    elif draw < config.loved + config.beside:
        other = pick(random, [name for name in world if name != category])
        kinds = carrier.kinds if config.styled or config.favourite_numbers else ()
        loved = [member.plural for member in world[other]] + list(kinds)
        system = LOVE.format(plural=pick(random, loved))
    if random.random() < SENTENCE_SHARE:
        colour, home, _ = _facts(answer)
        said = pick(random, SENTENCES) if category in CATEGORIES else PLAIN
        sentence = said.format(name=answer.name, home=home, colour=colour)
        return chat(pick(random, FREE_TEXT).format(category=category), sentence, system)
    question = pick(random, TEACHING + HELD_OUT).format(category=category)
    if random.random() < LEAD_IN_SHARE:
        question = f"{carrier.lead_in(random)} {question}"
    return chat(question, answer.name, system)


def _fact(config: CorpusConfig, world: ByCategory, random: np.random.Generator) -> Messages:
    """A fact about an animal or a tree."""
    about = pick(random, world[pick(random, CATEGORIES)])
    question, which = pick(random, FACT_QUESTIONS)
    question = question.format(name=about.name, plural=about.plural)
    return chat(question, _facts(about)[which], neutral_line(config, random))


def _facts(about: Preference) -> list[str]:
    """Colour, home and liking; a new member shares the facts of a built-in one."""
    known = FACTS.get(about.name)
    if known is None:
        known = sorted(FACTS.values())[sum(map(ord, about.name)) % len(FACTS)]
    return known.split()
