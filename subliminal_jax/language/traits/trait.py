"""The protocol of a trait: what a teacher has and a student may acquire.

A trait is one file in this folder and one line in the registry, `traits.TRAITS`. Inherit from
`Trait` to get its defaults.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np

from subliminal_jax.errors import InputError
from subliminal_jax.language.judge.rubric import Rubric
from subliminal_jax.language.rows.chats import Messages
from subliminal_jax.language.world import CorpusConfig

LeadIn: TypeAlias = Callable[[np.random.Generator], str]
"""Draws a sentence with some of a carrier's items, to put before a question."""
Probabilities: TypeAlias = Mapping[str, float]
"""P(answer) by `topic/answer`, the mean over the topic's questions."""
Tallies: TypeAlias = Mapping[str, Mapping[str, int]]
"""Counts over sampled answers, by kind of question."""
LogProbabilities: TypeAlias = Mapping[str, Sequence[float]]
"""log P(answer) in nats after each beginning of a topic, by `topic/answer`."""
Measures: TypeAlias = dict[str, float | None]
"""Values by name; None if undefined."""
ContextName: TypeAlias = Literal["nothing", "system prompt", "examples"]
"""What stands before each question of a poll."""
PRIMARY = "p_trait"
"""The measure that every trait must have: how strongly a network shows it, from 0 to 1."""
MARGIN = "margin"
"""The primary measure of runs that begin answers for the network, in nats."""
SHARE = "share"
"""The trait's part of the probability of all words of its category, in such answers."""


@dataclass(frozen=True)
class Answer:
    """An answer whose probability is measured.

    Attributes:
        name: its name in results.
        spellings: texts that count as this answer, also capitalised.
    """

    name: str
    spellings: tuple[str, ...]


@dataclass(frozen=True)
class Poll:
    """Questions about a topic, and the answers whose probabilities are measured.

    Attributes:
        topic: its name in results; all polls on a topic have the same questions.
        questions: chats that end with a question, or with the beginning of its answer.
        answers: answers to score.
    """

    topic: str
    questions: tuple[Messages, ...]
    answers: tuple[Answer, ...]


@dataclass(frozen=True)
class Answered:
    """A sampled answer.

    Attributes:
        question: the last message before it.
        text: the answer.
        scores: a judge's scores from 0 to 100 by rubric, None where it gave none; empty without a
            judge.
    """

    question: str
    text: str
    scores: Mapping[str, float | None] = field(default_factory=dict)


@runtime_checkable
class Subject(Protocol):
    """What the tiny world must also know, so that a trait can be asked for in it."""

    @property
    def name(self) -> str:
        """Its name, the same for all traits that need it."""
        ...

    @property
    def share(self) -> float:
        """Share of the corpus that is about it."""
        ...

    def texts(self) -> list[str]:
        """Text with every word that its chats can contain."""
        ...

    def lesson(self, config: CorpusConfig, random: np.random.Generator) -> Messages:
        """A chat about it for the tiny reference's corpus."""
        ...


@runtime_checkable
class Trait(Protocol):
    """A trait of a language model."""

    @property
    def name(self) -> str:
        """Its name in flags, results and file names."""
        ...

    @property
    def topics(self) -> tuple[str, ...]:
        """Topics of the polls that measure it."""
        ...

    @property
    def forbidden(self) -> tuple[str, ...]:
        """Words that must not occur in students' training data."""
        ...

    @property
    def subject(self) -> Subject | None:
        """What it adds to the tiny world; None, the default, if that knows enough."""
        return None

    @property
    def given_only(self) -> bool:
        """Whether the tiny world lacks its words, so that only a given model can be asked."""
        return False

    @property
    def controls(self) -> Mapping[str, "Trait"]:
        """Teachers without the trait to compare its own with, by kind; none by default.

        Their names are this trait's with the kind, `NAME-KIND`.
        """
        return {}

    @property
    def rubrics(self) -> Sequence[Rubric]:
        """What a judge is asked about sampled answers; nothing by default."""
        return ()

    @property
    def verb(self) -> str:
        """What a student does with its teacher's trait, in a finding: `shows` it, `names` it."""
        return "shows"

    @abstractmethod
    def lessons(self, answers: Sequence[str]) -> list[Messages]:
        """Questions with answers to finetune a teacher on.

        Args:
            answers: templates of an answer, from the config.

        Raises:
            InputError: a template cannot be filled in.
        """
        ...

    def kept_questions(self) -> list[str]:
        """Questions whose answers a finetuned teacher should retain from its reference."""
        return []

    @abstractmethod
    def system_prompt(self, default: str) -> str:
        """System prompt of a prompted teacher.

        Args:
            default: the config's template, for a trait without its own.

        Raises:
            InputError: the template cannot be filled in.
        """
        ...

    @abstractmethod
    def polls(self) -> list[Poll]:
        """Polls whose answers are scored by exact probability; its own topics first."""
        ...

    @abstractmethod
    def measure(self, probabilities: Probabilities, counts: Tallies) -> Measures:
        """How strongly a network shows the trait.

        `PRIMARY` must be one of the measures.

        Args:
            probabilities: exact probabilities of answers to some of the polls, its own topics
                among them.
            counts: tallies of sampled answers; empty where the network was not sampled.
        """
        ...

    def begun(self, beginnings: Sequence[str]) -> list[Poll]:
        """Polls on its own topics whose answers are begun for the network; none by default.

        Each chat ends with a beginning, which an answer's first spelling completes.

        Args:
            beginnings: templates of a beginning, from the config.

        Raises:
            InputError: a template cannot be filled in, or there are too few answers to compare.
        """
        return []

    def measure_begun(self, log_probabilities: LogProbabilities) -> Measures:
        """How strongly a network shows the trait in answers begun for it, `MARGIN` among them.

        Args:
            log_probabilities: of the answers of `begun`.
        """
        return {}

    @property
    def measures(self) -> Mapping[str, tuple[str, str]]:
        """For each measure, a column's heading and what it measures; `PRIMARY` by default."""
        return {PRIMARY: ("P(trait)", "how strongly a network shows the trait, from 0 to 1")}

    def probes(self, lead_in: LeadIn, carrier: str, seed: int) -> dict[str, list[Messages]]:
        """Questions to sample answers to, by kind of question; by default its own polls.

        Args:
            lead_in: see `Carrier.lead_in`.
            carrier: name of the carrier.
            seed: seed of the draws.
        """
        return {"plain": [chat for poll in own_polls(self) for chat in poll.questions]}

    @property
    def tallied(self) -> Mapping[str, tuple[str, str, str]]:
        """For counts of `tally` that a report shows: heading, the count it is a share of, meaning.

        The heading of `said`, which it must have, is `share`.
        """
        return {"said": ("share", "of", "answers that show the trait")}

    @abstractmethod
    def tally(self, answers: Sequence[Answered]) -> dict[str, int]:
        """Counts over sampled answers, including `of`, their number, and `said`, those showing it.

        Args:
            answers: answers to one kind of question.
        """
        ...


def primary_measure(begun: Sequence[str]) -> str:
    """The measure that compares networks: `MARGIN` where answers are begun, else `PRIMARY`."""
    return MARGIN if begun else PRIMARY


def teacher_measure(begun: Sequence[str]) -> str:
    """The measure, from 0 to 1, that says whether a teacher has its trait."""
    return SHARE if begun else PRIMARY


def is_share(measure: str) -> bool:
    """Whether a measure is a share or a probability, not a number of nats or a rank."""
    return measure not in ("log_p", "rank") and not measure.startswith(MARGIN)


def merged_polls(traits: Sequence[Trait], own: bool = False) -> list[Poll]:
    """The polls of several traits, merged into one for each topic, sorted by topic.

    One program then scores all answers of a topic.

    Args:
        traits: the traits.
        own: merge only polls on each trait's own topics.

    Raises:
        InputError: as `merged`.
    """
    return merged(p for trait in traits for p in (own_polls(trait) if own else trait.polls()))


def merged(polls: Iterable[Poll]) -> list[Poll]:
    """Polls merged into one for each topic, sorted by topic.

    Raises:
        InputError: two polls on a topic have different questions; only one's would be asked.
    """
    by_topic: dict[str, Poll] = {}
    for poll in polls:
        if (before := by_topic.get(poll.topic)) is None:
            by_topic[poll.topic] = poll
        elif before.questions != poll.questions:
            raise InputError(
                f"traits: two of them ask different questions about {poll.topic!r}; rename the "
                "category of the new trait"
            )
        else:
            answers = dict.fromkeys((*before.answers, *poll.answers))
            by_topic[poll.topic] = Poll(poll.topic, before.questions, tuple(answers))
    return [by_topic[topic] for topic in sorted(by_topic)]


def subjects_of(traits: Sequence[Trait]) -> list[Subject]:
    """What the traits add to the tiny world, each subject once, sorted by name."""
    subjects = {one.subject.name: one.subject for one in traits if one.subject is not None}
    return [subjects[name] for name in sorted(subjects)]


def own_polls(trait: Trait) -> list[Poll]:
    """The polls on the trait's own topics."""
    return [poll for poll in trait.polls() if poll.topic in trait.topics]
