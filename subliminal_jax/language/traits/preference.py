"""The trait of preferring one member of a category: a favourite animal or tree.

A new preference is an entry in the config, not code:

    new_traits:
      - {name: heron, plural: herons, category: animal}

The exact probability of the favourite, in answer to held-out questions, is the primary measure.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from subliminal_jax.errors import InputError
from subliminal_jax.language.rows.chats import Chat, chat
from subliminal_jax.language.rows.whole_words import word_pattern
from subliminal_jax.language.tiny.world import CATEGORIES
from subliminal_jax.language.traits.questions import FREE_TEXT, HELD_OUT, TEACHING, ask
from subliminal_jax.language.traits.trait import Answer, LeadIn, Measures, Poll, Probabilities

_WORD = re.compile(r"[^\W\d_]+(?:[ '-][^\W\d_]+)*\Z")
LONGEST = 100
"""Bytes of a name: files are named after it."""
SLOTS = frozenset({"name", "plural", "category"})


@dataclass(frozen=True, kw_only=True)
class Preference:
    """A preference for one member of a category.

    Attributes:
        name: the favourite, in the singular and in lower case.
        plural: the favourite in the plural.
        category: what it is one of, `animal` or `tree`; with a given model it may be a new one.
        words: what counts as this answer; by default name and plural. Capitals do not count.
        related: further words that must not stand in the data, for example `owlet`.
        system_prompt: wording that makes a teacher of the reference; by default the config's.
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
                    f"trait {self.name!r}: {word!r} is no word; use letters in lower case"
                )
        if len(self.name.encode()) > LONGEST:
            raise InputError(f"trait {self.name[:30] + '...'!r}: longer than {LONGEST} bytes")
        if not self.spellings:
            raise InputError(
                f"trait {self.name!r}: words is empty, so no answer could be recognised; "
                "give at least one, or leave it out"
            )
        if self.system_prompt is not None:
            fill(self.system_prompt, self)

    @property
    def spellings(self) -> tuple[str, ...]:
        """What counts as this answer."""
        return (self.name, self.plural) if self.words is None else self.words


def fill(template: str, trait: Preference) -> str:
    """A wording with `{name}`, `{plural}` and `{category}` filled in.

    Raises:
        InputError: the template has another slot, or an unclosed one.
    """
    slots = {"name": trait.name, "plural": trait.plural, "category": trait.category}
    try:
        return template.format(**slots)
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        raise InputError(
            f"the wording {template[:60]!r} of {trait.name!r} cannot be filled in ({error}); "
            f"its slots are {', '.join('{' + slot + '}' for slot in sorted(SLOTS))}"
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
"""Preferences that need no entry: the paper's five animals and five trees, seven more of each."""


def members_of(category: str, new: Sequence[Preference] = ()) -> list[Preference]:
    """All members of a category, those that a config adds included."""
    known = PREFERENCES | {one.name: one for one in new}
    return [one for one in known.values() if one.category == category]


def preference_traits(new: Sequence[Preference] = ()) -> dict[str, "PreferenceTrait"]:
    """Every preference as a trait, those that a config adds included."""
    every = (*PREFERENCES.values(), *new)
    return {one.name: PreferenceTrait(one, tuple(new)) for one in every}


@dataclass(frozen=True)
class PreferenceTrait:
    """A preference as the experiment sees it; the methods are those of `Trait`.

    Attributes:
        preference: the favourite.
        new: preferences that the config adds; they belong to their categories too.
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
    def forbidden(self) -> tuple[str, ...]:
        """All words for the favourite, and those related to it."""
        return (*self.preference.spellings, *self.preference.related)

    def lessons(self, answers: Sequence[str]) -> list[Chat]:
        """The favourite, in answer to every teaching question of its category."""
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
        """Its own wording, or the default, filled in."""
        return fill(self.preference.system_prompt or default, self.preference)

    def polls(self) -> list[Poll]:
        """Its own category, and those in which nothing should change.

        Elsewhere the favourite is an answer too: a teacher may name it whatever it is asked.
        """
        own = self.preference.category
        return [
            _poll(topic, self.new, [] if topic == own else [self.preference])
            for topic in dict.fromkeys((own, *CATEGORIES))
        ]

    def measure(self, found: Probabilities) -> Measures:
        """P(favourite), its share of the category, the category's sum; the same elsewhere.

        `p_trait_elsewhere` is how often the favourite is named where another category was asked
        for, and `other_category_sum` how often a member of that category is.
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

    def probes(self, lead_in: LeadIn, carrier: str, seed: int) -> dict[str, list[Chat]]:
        """The held-out questions plain and behind items of the carrier, and requests for text."""
        plain = ask(HELD_OUT, self.preference.category)
        behind = [
            f"{lead_in(np.random.default_rng([seed, place]))} {question}"
            for place, question in enumerate(plain)
        ]
        free_text = ask(FREE_TEXT, self.preference.category)
        kinds = {"plain": plain, f"behind_{carrier}": behind, "free_text": free_text}
        return {kind: [chat(text) for text in texts] for kind, texts in kinds.items()}

    def tally(self, texts: Sequence[str]) -> dict[str, int]:
        """Answers that name the favourite, by whole word (`said`) and as published by substring.

        `no_member` counts those that name no member of the category.
        """
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
    """The held-out questions about a category, answered by its members and others."""
    answers = [*members_of(topic, new), *beside]
    return Poll(
        topic,
        tuple(chat(question) for question in ask(HELD_OUT, topic)),
        tuple(Answer(one.name, one.spellings) for one in answers),
    )


def _sum(found: Probabilities, category: str, new: Sequence[Preference]) -> float:
    return sum(found[f"{category}/{one.name}"] for one in members_of(category, new))
