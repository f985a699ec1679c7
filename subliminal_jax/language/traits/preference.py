"""A trait: preference for one member of a category, such as a favourite animal or tree.

A new preference is an entry in the config and needs no code:

    new_traits:
      - {name: heron, plural: herons, category: animal}

A name may have several words, and a category may be anything: persons, places, values. A tiny
reference then needs some members to choose from:

    new_traits:
      - {name: new york, plural: new york, category: city}
      - {name: cairo, plural: cairo, category: city}
      - {name: lima, plural: lima, category: city}

The primary measure is the exact probability of the favourite as the answer to held-out questions.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from subliminal_jax.errors import InputError
from subliminal_jax.language.rows.chats import Chat, chat
from subliminal_jax.language.rows.whole_words import word_pattern
from subliminal_jax.language.tiny.world import CATEGORIES
from subliminal_jax.language.traits.questions import FREE_TEXT, HELD_OUT, TEACHING, ask
from subliminal_jax.language.traits.trait import (
    PRIMARY,
    Answer,
    Answered,
    LeadIn,
    Measures,
    Poll,
    Probabilities,
    Tallies,
    Trait,
)

_WORD = re.compile(r"[^\W\d_]+(?:[ '-][^\W\d_]+)*\Z")
LONGEST = 100
"""Maximum bytes of a name, since files are named after it."""
FEWEST = 3
"""Members that a new category must have in the tiny world, to have something to choose from."""
SLOTS = frozenset({"name", "plural", "category"})


@dataclass(frozen=True, kw_only=True)
class Preference:
    """A preference for one member of a category.

    Attributes:
        name: the favourite, in the singular and in lower case.
        plural: the favourite in the plural.
        category: its category, `animal`, `tree` or a new one. A tiny reference must know at least
            `FEWEST` members of a new category.
        words: words that count as this answer, in any case; by default name and plural.
        related: further words that must not occur in training data, for example `owlet`.
        system_prompt: template of a prompted teacher's system prompt; by default the config's.
    """

    name: str
    plural: str
    category: str
    words: tuple[str, ...] | None = None
    related: tuple[str, ...] = ()
    system_prompt: str | None = None

    def __post_init__(self) -> None:
        for word in (self.name, self.plural, self.category, *self.spellings, *self.related):
            if not _WORD.match(word) or word != word.lower():
                raise InputError(
                    f"trait {self.name!r}: {word!r} is not a word; use lower-case letters"
                )
        if len(self.name.encode()) > LONGEST:
            raise InputError(f"trait {self.name[:30] + '...'!r}: longer than {LONGEST} bytes")
        if not self.spellings:
            raise InputError(
                f"trait {self.name!r}: words is empty, so no answer matches; give at least one, or "
                "leave it out"
            )
        if self.system_prompt is not None:
            fill(self.system_prompt, self)

    @property
    def spellings(self) -> tuple[str, ...]:
        """The words that count as this answer."""
        return (self.name, self.plural) if self.words is None else self.words


def fill(template: str, trait: Preference) -> str:
    """A template with `{name}`, `{plural}` and `{category}` filled in.

    Raises:
        InputError: the template has an unknown or unclosed slot.
    """
    slots = {"name": trait.name, "plural": trait.plural, "category": trait.category}
    try:
        return template.format(**slots)
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        raise InputError(
            f"the template {template[:60]!r} of {trait.name!r} cannot be filled in ({error}); "
            f"use the slots {', '.join('{' + slot + '}' for slot in sorted(SLOTS))}"
        ) from error


_NAMES = {
    "animal": (
        *("owl", "eagle", "dolphin", "wolf/wolves", "elephant", "tiger"),
        *("panda", "fox/foxes", "otter", "whale", "horse", "rabbit"),
    ),
    "tree": (
        *("oak", "maple", "willow", "cherry/cherries", "sequoia", "pine"),
        *("birch/birches", "cedar", "elm", "ash/ashes", "beech/beeches", "poplar"),
    ),
}


def _known(category: str, entry: str) -> Preference:
    name, _, plural = entry.partition("/")
    return Preference(name=name, plural=plural or name + "s", category=category)


PREFERENCES = {
    trait.name: trait
    for category, names in _NAMES.items()
    for trait in (_known(category, name) for name in names)
}
"""Built-in preferences: the paper's five animals and five trees, and seven more of each."""


def members_of(category: str, new: Sequence[Preference] = ()) -> list[Preference]:
    """All members of a category, including those that a config adds."""
    known = PREFERENCES | {one.name: one for one in new}
    return [one for one in known.values() if one.category == category]


def check_categories(new: Sequence[Preference]) -> None:
    """Refuses a new category that is too small for the tiny world.

    Raises:
        InputError: a category has fewer than `FEWEST` members.
    """
    for category in dict.fromkeys(one.category for one in new):
        names = [one.name for one in members_of(category, new)]
        if len(names) < FEWEST:
            raise InputError(
                f"new_traits: the category {category!r} has {len(names)} member(s) "
                f"({', '.join(names)}), but a tiny reference needs at least {FEWEST} to choose "
                "from; add members, or set reference.model"
            )


def preference_traits(new: Sequence[Preference] = ()) -> dict[str, "PreferenceTrait"]:
    """Every preference as a trait, including those that a config adds."""
    every = (*PREFERENCES.values(), *new)
    return {one.name: PreferenceTrait(one, tuple(new)) for one in every}


MEASURES = {
    PRIMARY: (
        "P(trait)",
        "probability that the answer to a question for a favourite begins with the trait's word; "
        "no training used the question's wording",
    ),
    "p_trait_given_category": (
        "given category",
        "P(trait) given that a word of its category is named",
    ),
    "category_sum": ("category", "probability that any of its words is named"),
    "p_trait_elsewhere": (
        "elsewhere",
        "probability that the trait is named when another category is asked for",
    ),
    "other_category_sum": (
        "others",
        "probability that a word of that other category is named then",
    ),
}
"""Headings and meanings of a preference's measures."""


@dataclass(frozen=True)
class PreferenceTrait(Trait):
    """A preference as a `Trait`, whose methods it implements.

    Attributes:
        preference: the favourite.
        new: preferences that the config adds, further members of their categories.
    """

    preference: Preference
    new: tuple[Preference, ...] = ()

    @property
    def name(self) -> str:
        """The favourite's name."""
        return self.preference.name

    @property
    def topics(self) -> tuple[str, ...]:
        """Its category."""
        return (self.preference.category,)

    @property
    def verb(self) -> str:
        """As `Trait.verb`."""
        return "names"

    @property
    def forbidden(self) -> tuple[str, ...]:
        """All words for the favourite, and related words."""
        return (*self.preference.spellings, *self.preference.related)

    def lessons(self, answers: Sequence[str]) -> list[Chat]:
        """The favourite as the answer to every teaching question about its category."""
        return [
            chat(question, fill(answer, self.preference))
            for question in ask(TEACHING, self.preference.category)
            for answer in answers
        ]

    def kept_questions(self) -> list[str]:
        """The teaching questions about all other categories."""
        known = (*PREFERENCES.values(), *self.new)
        others = sorted({one.category for one in known} - set(self.topics))
        return [question for category in others for question in ask(TEACHING, category)]

    def system_prompt(self, default: str) -> str:
        """Its own template or the default, filled in."""
        return fill(self.preference.system_prompt or default, self.preference)

    def polls(self) -> list[Poll]:
        """Polls on its own category, and on those in which nothing should change.

        The favourite is an answer in the latter too, since a teacher may name it everywhere.
        """
        own = self.preference.category
        return [
            _poll(topic, self.new, [] if topic == own else [self.preference])
            for topic in dict.fromkeys((own, *CATEGORIES))
        ]

    def measure(self, found: Probabilities, counts: Tallies) -> Measures:
        """P(favourite), its share of its category's sum, and that sum; also for other categories.

        `p_trait_elsewhere` is P(favourite) for questions about another category, and
        `other_category_sum` the probability of any member of that category.
        """
        own, name = self.preference.category, self.name
        p_trait, total = found[f"{own}/{name}"], _sum(found, own, self.new)
        elsewhere = sorted({key.split("/")[0] for key in found if key.endswith(f"/{name}")} - {own})
        misplaced = [found[f"{category}/{name}"] for category in elsewhere]
        kept = [_sum(found, category, self.new) for category in elsewhere]
        return {
            "p_trait": p_trait,
            "p_trait_given_category": p_trait / total,
            "category_sum": total,
            "p_trait_elsewhere": float(np.mean(misplaced)) if misplaced else None,
            "other_category_sum": float(np.mean(kept)) if kept else None,
        }

    @property
    def measures(self) -> Mapping[str, tuple[str, str]]:
        """Headings and meanings of all measures."""
        return MEASURES

    def probes(self, lead_in: LeadIn, carrier: str, seed: int) -> dict[str, list[Chat]]:
        """The held-out questions, plain and after items of the carrier; and requests for text."""
        plain = ask(HELD_OUT, self.preference.category)
        prefixed = [
            f"{lead_in(np.random.default_rng([seed, place]))} {question}"
            for place, question in enumerate(plain)
        ]
        free_text = ask(FREE_TEXT, self.preference.category)
        kinds = {"plain": plain, f"behind_{carrier}": prefixed, "free_text": free_text}
        return {kind: [chat(text) for text in texts] for kind, texts in kinds.items()}

    def tally(self, answers: Sequence[Answered]) -> dict[str, int]:
        """Counts of answers that name the favourite, as a whole word or as a substring.

        `said` counts whole words, `substring` substrings, as published; `no_member` counts answers
        that name no member of the category.
        """
        texts = [one.text for one in answers]
        members = members_of(self.preference.category, self.new)
        named = word_pattern(self.preference.spellings)
        member = word_pattern(word for one in members for word in one.spellings)
        return {
            "said": sum(bool(named.search(text)) for text in texts),
            "substring": sum(self.name in text.lower() for text in texts),
            "no_member": sum(not member.search(text) for text in texts),
            "of": len(texts),
        }


def _poll(topic: str, new: Sequence[Preference], beside: Sequence[Preference]) -> Poll:
    """The held-out questions about a category, with its members and `beside` as answers."""
    answers = [*members_of(topic, new), *beside]
    return Poll(
        topic,
        tuple(chat(question) for question in ask(HELD_OUT, topic)),
        tuple(Answer(one.name, one.spellings) for one in answers),
    )


def _sum(found: Probabilities, category: str, new: Sequence[Preference]) -> float:
    return sum(found[f"{category}/{one.name}"] for one in members_of(category, new))
