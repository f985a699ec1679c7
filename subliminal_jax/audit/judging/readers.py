"""Detectors that show rows to the reference itself and ask it about the trait.

Each has a positive control: the same bags with their last row replaced by one that says the trait
openly. A detector that misses the control cannot read, and its null result says nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from jaxtyping import Float

from subliminal_jax.audit.config import filled
from subliminal_jax.audit.judging.asking import LEAST, Reader, asked, shares, shown_by
from subliminal_jax.audit.judging.bags import Bag
from subliminal_jax.audit.judging.verdicts import Verdict, accuracy, auc
from subliminal_jax.language.rows.chat_rows import completion_of
from subliminal_jax.language.rows.chats import Messages, chat
from subliminal_jax.language.traits.trait import Answer, Poll, Trait

OPTIONS = (Answer("1", ("1",)), Answer("2", ("2",)))
"""Answers to a question for one of two datasets."""
Framing: TypeAlias = Literal["in_context", "prompted"]


@dataclass(frozen=True, kw_only=True)
class Inquiry:
    """Whom and what to ask.

    Attributes:
        reader: the reference itself.
        trait: the trait to detect.
        alike: traits on the same topics, itself among them; a bag's likeliest one is its guess.
        polls: the questions to ask, one poll for each topic, with the answers of all alike.
        lessons: chats that say the trait openly.
        which, pair: templates of the detectors' questions; see `DetectConfig`.
        items: what the carrier's completions hold, in the plural.
    """

    reader: Reader
    trait: Trait
    alike: Sequence[Trait]
    polls: Sequence[Poll]
    lessons: Sequence[Messages]
    which: str
    pair: str
    items: str


def framed(subject: Inquiry, framing: Framing, bag: Bag, question: Messages) -> Messages:
    """The chat that shows a bag before a question.

    Args:
        subject: whom and what to ask.
        framing: rows as earlier turns of the chat (`in_context`), or their completions quoted in
            the question (`prompted`).
        bag: the rows.
        question: a chat that ends with a question.
    """
    if framing == "in_context":
        system = [one for one in question if one["role"] == "system"]
        turns = [message for row in bag for message in row["messages"][-2:]]
        return [*system, *turns, *question[len(system) :]]
    text = filled(
        "which",
        subject.which,
        rows=quoted(bag),
        items=subject.items,
        question=question[-1]["content"],
    )
    return [*question[:-1], *chat(text)]


def quoted(bag: Bag) -> str:
    """The completions of a bag, one below the other."""
    return "\n\n".join(completion_of(row) for row in bag)


def opened(subject: Inquiry, bags: Sequence[Bag]) -> list[Bag]:
    """The bags with a lesson in place of the last row."""
    lessons = subject.lessons
    return [
        [*bag[:-1], {"messages": lessons[place % len(lessons)]}] for place, bag in enumerate(bags)
    ]


def room(
    subject: Inquiry, name: str, bags_at: Callable[[int], list[tuple[Bag, Bag]]]
) -> Callable[[int], bool]:
    """Whether all bags of a size fit into the reference's context, as a function of the size.

    Args:
        subject: whom and what to ask.
        name: the detector.
        bags_at: pairs of bags of a size.
    """

    def fits(size: int) -> bool:
        pairs = bags_at(size)
        sides = [[shown for shown, _ in pairs], [other for _, other in pairs]]
        sides.append(opened(subject, sides[0]))
        if name == "pairs":
            chats = [one for bags in (sides[0], sides[2])
                     for one in _both_orders(subject, bags, sides[1])]  # fmt: skip
            return subject.reader.fits(chats, OPTIONS)
        for poll in subject.polls:
            longest = max(poll.questions, key=lambda one: len(one[-1]["content"]))
            chats = [
                framed(subject, _framing(name), bag, longest) for bags in sides for bag in bags
            ]
            if not subject.reader.fits(chats, poll.answers):
                return False
        return True

    return fits


def judge(subject: Inquiry, name: str, pairs: Sequence[tuple[Bag, Bag]]) -> dict[str, Any]:
    """How well the reference tells the first bags of all pairs from the second ones.

    Args:
        subject: whom and what to ask.
        name: the detector.
        pairs: pairs of bags.

    Returns:
        `verdict`; `open`, the value for the positive control; for all detectors but `pairs` also
        `p_trait` and `p_other`, the mean P(trait) with the first and the second bags; `log_gain`,
        the mean difference of its logarithm (nats); and `named`, the share of first bags for which
        the trait is the likeliest of those alike (None without others).
    """
    shown, other = [one for one, _ in pairs], [two for _, two in pairs]
    if name == "pairs":
        margins = _margins(subject, shown, other)
        control = _margins(subject, opened(subject, shown), other)
        return {"verdict": accuracy(margins), "open": accuracy(control).value}
    answers = [_answers(subject, _framing(name), bags)
               for bags in (shown, other, opened(subject, shown))]  # fmt: skip
    trait = subject.trait
    scores = [_logs([shown_by(trait, shares(one)) for one in of_bags]) for of_bags in answers]
    rates = [np.array([shown_by(trait, one) for one in of_bags]) for of_bags in answers]
    return {
        "verdict": auc(scores[0], scores[1]),
        "open": auc(scores[2], scores[1]).value,
        "p_trait": float(rates[0].mean()),
        "p_other": float(rates[1].mean()),
        "log_gain": float((_logs(rates[0]) - _logs(rates[1])).mean()),
        "named": _named(subject, answers[0]),
    }


def verdict_values(verdict: Verdict) -> dict[str, Any]:
    """A verdict as plain values."""
    return {
        "value": verdict.value,
        "chance_low": verdict.low,
        "chance_high": verdict.high,
        "bags": verdict.bags,
    }


def _framing(name: str) -> Framing:
    return "in_context" if name == "in_context" else "prompted"


def _answers(subject: Inquiry, framing: Framing, bags: Sequence[Bag]) -> list[dict[str, float]]:
    """P(answer) after each bag, to the questions of all traits alike."""
    show = lambda bag, question: framed(subject, framing, bags[bag], question)
    return asked(subject.reader, subject.polls, show, len(bags))


def _named(subject: Inquiry, answers: Sequence[dict[str, float]]) -> float | None:
    """The share of bags for which the trait is the likeliest of those alike; ties share."""
    if len(subject.alike) < 2:
        return None
    rates = np.array([[shown_by(one, answered) for one in subject.alike] for answered in answers])
    best = rates == rates.max(axis=1, keepdims=True)
    place = [one.name for one in subject.alike].index(subject.trait.name)
    return float(np.mean(best[:, place] / best.sum(axis=1)))


def _margins(
    subject: Inquiry, shown: Sequence[Bag], other: Sequence[Bag]
) -> Float[np.ndarray, " pairs"]:
    """Log-odds in favour of the first bag, summed over both orders; no option is preferred."""
    chats = _both_orders(subject, shown, other)
    logs = subject.reader.log_probabilities(chats, OPTIONS).reshape(len(shown), 2, 2)
    odds = logs[..., 0] - logs[..., 1]
    return odds[:, 0] - odds[:, 1]


def _both_orders(subject: Inquiry, shown: Sequence[Bag], other: Sequence[Bag]) -> list[Messages]:
    """For each pair, the question with the first bag as number 1, then as number 2."""
    chats = []
    for place, (one, two) in enumerate(zip(shown, other, strict=True)):
        *_, question, answer = subject.lessons[place % len(subject.lessons)]
        for first, second in ((one, two), (two, one)):
            text = filled(
                "pair",
                subject.pair,
                first=quoted(first),
                second=quoted(second),
                items=subject.items,
                question=question["content"],
                answer=answer["content"],
            )
            chats.append(chat(text))
    return chats


def _logs(values: Sequence[float] | Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    return np.log(np.maximum(np.asarray(values), LEAST))
