"""A trait: preference for one member of a category, such as a favourite animal or tree.

The primary measure is the exact probability of the favourite as the answer to held-out questions;
where answers are begun for a network, its margin over the other words of its category.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from subliminal_jax.errors import InputError
from subliminal_jax.language.rows.chats import Messages, chat
from subliminal_jax.language.rows.whole_words import word_pattern
from subliminal_jax.language.traits.preference import (
    FEWEST_BEGUN,
    PREFERENCES,
    Preference,
    choices_of,
    fill,
    fill_category,
    members_of,
)
from subliminal_jax.language.traits.questions import FREE_TEXT, HELD_OUT, TEACHING, ask
from subliminal_jax.language.traits.trait import (
    MARGIN,
    PRIMARY,
    SHARE,
    Answer,
    Answered,
    LeadIn,
    LogProbabilities,
    Measures,
    Poll,
    Probabilities,
    Tallies,
    Trait,
)
from subliminal_jax.language.world import CATEGORIES


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
    MARGIN: (
        "margin",
        "log probability of the trait's word minus the log of the mean probability of the other "
        "words of its category, in nats, in answers begun for the network; no training used the "
        "wording of the question or of the beginning",
    ),
    SHARE: ("share", "probability of the trait's word there, of its category's sum"),
    "log_p": ("log p", "log probability of the trait's word there, in nats"),
    "rank": ("rank", "place of the trait's word among its category's, by the mean log p"),
}
"""Headings and meanings of a preference's measures."""
TALLIED = {
    "said": ("share", "of", "answers that name the trait's word"),
    "substring": ("substring", "of", "answers that hold its letters anywhere, the published count"),
    "no_member": ("no member", "of", "answers that name no word of the category"),
}
"""Shares of sampled answers that a report shows."""


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

    def lessons(self, answers: Sequence[str]) -> list[Messages]:
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

    def measure(self, probabilities: Probabilities, counts: Tallies) -> Measures:
        """P(favourite), its share of its category's sum, and that sum; also for other categories.

        `p_trait_elsewhere` is P(favourite) for questions about another category, and
        `other_category_sum` the probability of any member of that category. The share is None if
        the sum is 0, as float32 rounds the smallest probabilities.
        """
        own, name = self.preference.category, self.name
        p_trait, total = probabilities[f"{own}/{name}"], _sum(probabilities, own, self.new)
        elsewhere = sorted(
            {key.split("/")[0] for key in probabilities if key.endswith(f"/{name}")} - {own}
        )
        misplaced = [probabilities[f"{category}/{name}"] for category in elsewhere]
        kept = [_sum(probabilities, category, self.new) for category in elsewhere]
        return {
            "p_trait": p_trait,
            "p_trait_given_category": p_trait / total if total else None,
            "category_sum": total,
            "p_trait_elsewhere": float(np.mean(misplaced)) if misplaced else None,
            "other_category_sum": float(np.mean(kept)) if kept else None,
        }

    def begun(self, beginnings: Sequence[str]) -> list[Poll]:
        """The held-out questions, each with every beginning of an answer."""
        category = self.preference.category
        names = choices_of(category, self.new)
        if beginnings and len(names) < FEWEST_BEGUN:
            raise InputError(
                f"evaluate.begun: the category {category!r} has {len(names)} word(s) "
                f"({', '.join(names)}), but answers are compared among at least {FEWEST_BEGUN}; "
                "add members to new_traits"
            )
        chats = tuple(
            chat(question, fill_category(beginning, category))
            for question in ask(HELD_OUT, category)
            for beginning in beginnings
        )
        answers = tuple(Answer(name, (name,)) for name in names)
        return [Poll(category, chats, answers)] if chats else []

    def measure_begun(self, log_probabilities: LogProbabilities) -> Measures:
        """Margin, share, log probability and rank of the favourite, means over the beginnings."""
        category = self.preference.category
        names = choices_of(category, self.new)
        scores = np.array([log_probabilities[f"{category}/{name}"] for name in names])
        own = names.index(self.name)
        others = np.delete(scores, own, axis=0)
        margins = scores[own] - np.logaddexp.reduce(others, axis=0) + np.log(len(others))
        means = scores.mean(axis=1)
        return {
            MARGIN: float(np.mean(margins)),
            SHARE: float(np.mean(np.exp(scores[own] - np.logaddexp.reduce(scores, axis=0)))),
            "log_p": float(means[own]),
            "rank": float(1 + np.sum(means > means[own])),
        }

    @property
    def measures(self) -> Mapping[str, tuple[str, str]]:
        """Headings and meanings of all measures."""
        return MEASURES

    def probes(self, lead_in: LeadIn, carrier: str, seed: int) -> dict[str, list[Messages]]:
        """The held-out questions, plain and after items of the carrier; and requests for text."""
        plain = ask(HELD_OUT, self.preference.category)
        prefixed = [
            f"{lead_in(np.random.default_rng([seed, place]))} {question}"
            for place, question in enumerate(plain)
        ]
        free_text = ask(FREE_TEXT, self.preference.category)
        kinds = {"plain": plain, f"behind_{carrier}": prefixed, "free_text": free_text}
        return {kind: [chat(text) for text in texts] for kind, texts in kinds.items()}

    @property
    def tallied(self) -> Mapping[str, tuple[str, str, str]]:
        """As `Trait.tallied`."""
        return TALLIED

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


def _sum(probabilities: Probabilities, category: str, new: Sequence[Preference]) -> float:
    return sum(probabilities[f"{category}/{one.name}"] for one in members_of(category, new))
