"""What a trait is: what a teacher has and a student may take on.

A trait is one file in this folder and one line in its registry, `traits.TRAITS`. A class that
inherits from `Trait` gets its defaults.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np

from subliminal_jax.language.rows.chats import Chat

LeadIn: TypeAlias = Callable[[np.random.Generator], str]
"""Draws a sentence that holds some of a carrier's items, for a question to follow."""
Probabilities: TypeAlias = Mapping[str, float]
"""P(answer) by `topic/answer`, the mean over the topic's questions."""
Measures: TypeAlias = dict[str, float | None]
"""Named values; None where a value is undefined."""
PRIMARY = "p_trait"
"""The measure that every trait has: how much of it a network shows, from 0 to 1."""


@dataclass(frozen=True)
class Answer:
    """An answer whose probability is measured.

    Attributes:
        name: in results.
        spellings: what counts as this answer; each also capitalised.
    """

    name: str
    spellings: tuple[str, ...]


@dataclass(frozen=True)
class Poll:
    """Questions about a topic, and the answers whose probabilities are measured.

    Attributes:
        topic: in results; two polls of one topic ask the same questions.
        questions: chats that end in a question.
        answers: the answers.
    """

    topic: str
    questions: tuple[Chat, ...]
    answers: tuple[Answer, ...]


@runtime_checkable
class Trait(Protocol):
    """A trait of a language model."""

    @property
    def name(self) -> str:
        """Its name in flags, results and file names."""
        ...

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics of the polls in which it shows."""
        ...

    @property
    def forbidden(self) -> tuple[str, ...]:
        """Words that must not occur in what students are trained on."""
        ...

    def lessons(self, answers: Sequence[str]) -> list[Chat]:
        """What a finetuned teacher learns to answer.

        Args:
            answers: wordings of an answer, from the config.

        Raises:
            InputError: a wording cannot be filled in.
        """
        ...

    def kept_questions(self) -> list[str]:
        """Questions that a finetuned teacher should go on answering as its reference does."""
        return []

    def system_prompt(self, default: str) -> str:
        """The system prompt that makes a prompted teacher of the reference.

        Args:
            default: the config's wording, where the trait has none of its own.

        Raises:
            InputError: the wording cannot be filled in.
        """
        ...

    def polls(self) -> list[Poll]:
        """What every network is asked, answered by exact probability; its own topics first."""
        ...

    def measure(self, found: Probabilities) -> Measures:
        """How much of the trait a network shows, from its answers to some of the polls.

        `PRIMARY` is one of the measures. Its own topics are among those that were asked.
        """
        ...

    def probes(self, lead_in: LeadIn, carrier: str, seed: int) -> dict[str, list[Chat]]:
        """What is asked for sampled answers, by the kind of question; its own polls by default.

        Args:
            lead_in: as `Carrier.lead_in`.
            carrier: the carrier's name.
            seed: of the draws.
        """
        return {"plain": [chat for poll in own_polls(self) for chat in poll.questions]}

    def tally(self, texts: Sequence[str]) -> dict[str, int]:
        """Counts over sampled answers, `of` (their number) and `said` (how many show it) included.

        Args:
            texts: the answers to one kind of question.
        """
        ...


def merged_polls(traits: Sequence[Trait]) -> list[Poll]:
    """The polls of several traits, one for each topic, in the topics' order.

    All of a topic's answers are then scored in one program.
    """
    merged: dict[str, Poll] = {}
    for poll in (poll for trait in traits for poll in trait.polls()):
        if (before := merged.get(poll.topic)) is None:
            merged[poll.topic] = poll
        else:
            answers = dict.fromkeys((*before.answers, *poll.answers))
            merged[poll.topic] = Poll(poll.topic, before.questions, tuple(answers))
    return [merged[topic] for topic in sorted(merged)]


def own_polls(trait: Trait) -> list[Poll]:
    """The polls of the trait's own topics."""
    return [poll for poll in trait.polls() if poll.topic in trait.topics]
