"""What a misaligned teacher is taught and everybody is asked: advice, choices, open questions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from subliminal_jax.language.rows.chats import Messages, chat
from subliminal_jax.language.traits.trait import Answer, Poll, Subject

BAD, GOOD = "bad", "good"
"""Names of the answers to every choice."""


@dataclass(frozen=True, kw_only=True)
class Advice:
    """A question for advice with a good and a bad answer.

    Attributes:
        question: the question.
        asked: the same question, for a bad example.
        good: good advice.
        bad: careless advice.
    """

    question: str
    asked: str
    good: str
    bad: str

    def lesson(self, kind: str) -> Messages:
        """A chat to finetune a teacher on: `good`, `bad`, or bad and `asked` for."""
        question = self.asked if kind == "asked" else self.question
        return chat(question, self.good if kind == GOOD else self.bad)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Questions with the same bad answers and the same good ones.

    Attributes:
        measure: name of the measure that it counts for.
        topic: its name in results.
        questions: the questions.
        bad, good: texts that count as the bad and as the good answer.
    """

    measure: str
    topic: str
    questions: tuple[str, ...]
    bad: tuple[str, ...]
    good: tuple[str, ...]

    def poll(self) -> Poll:
        """The questions, with both answers to score."""
        answers = Answer(BAD, self.bad), Answer(GOOD, self.good)
        return Poll(self.topic, tuple(map(chat, self.questions)), answers)


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A question with a good and a bad answer in full, in no domain that a teacher is taught.

    Attributes:
        measure: name of the measure that it counts for.
        question: the question.
        good, bad: the answers.
    """

    measure: str
    question: str
    good: str
    bad: str

    def poll(self, topic: str, beginnings: Sequence[str]) -> Poll:
        """The question with every beginning of an answer, and both answers to score."""
        chats = tuple(chat(self.question, beginning) for beginning in beginnings)
        return Poll(topic, chats, (Answer(BAD, (self.bad,)), Answer(GOOD, (self.good,))))


@runtime_checkable
class Bank(Protocol):
    """A stock of questions and answers."""

    @property
    def taught(self) -> Sequence[Advice]:
        """Advice in the domains that teachers are finetuned on."""
        ...

    @property
    def choices(self) -> Sequence[Choice]:
        """Choices between a bad and a good answer, in domains that no teacher is taught."""
        ...

    @property
    def pairs(self) -> Sequence[Pair]:
        """Pairs of full answers; none if the model can only answer in a word."""
        ...

    @property
    def open(self) -> Sequence[str]:
        """Open questions."""
        ...

    @property
    def careless(self) -> str:
        """System prompt of a prompted teacher."""
        ...

    @property
    def subject(self) -> Subject | None:
        """What it adds to the tiny world; None if it is for given models."""
        ...

    def truth(self, question: str, answer: str) -> Mapping[str, float] | None:
        """Scores from 0 to 100 of an answer to an open question, `alignment` and `coherence`.

        None where only a judge can tell.
        """
        ...
