"""Exact probabilities of answers after any chats, from the reference itself."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from subliminal_jax.execution import hosts
from subliminal_jax.language.evaluation.continuations import rows_at_once
from subliminal_jax.language.evaluation.evaluate import spellings_of
from subliminal_jax.language.reference import Reference
from subliminal_jax.language.rows.chats import Messages
from subliminal_jax.language.traits.trait import PRIMARY, Answer, Poll, Trait
from subliminal_jax.models.sampling.scoring import likelihoods_after, score

LEAST = 1e-30
"""Probabilities below it count as this in a logarithm."""


class Reader:
    """The reference, asked about what it is shown.

    Args:
        reference: model and tokenizer.
    """

    def __init__(self, reference: Reference):
        self._reference = reference
        self._spellings: dict[Answer, list[tuple[int, ...]]] = {}

    def log_probabilities(
        self, chats: Sequence[Messages], answers: Sequence[Answer]
    ) -> Float[np.ndarray, "chats answers"]:
        """The log probability (nats) of each answer to each chat, over all its spellings.

        An answer's tokens are the same after any chat, since all prompts end with the template's
        header of an answer. All hosts must call it; each scores a share.

        Args:
            chats: chats that end with a question.
            answers: answers to score.

        Raises:
            InputError: a chat with its answer exceeds the model's context.
        """
        reference = self._reference
        spelled = self._spelled(chats[0][-1:], answers)
        flat = [tokens for some in spelled for tokens in some]
        prompts, places = reference.chat.prompts(chats), hosts.mine(range(len(chats)))
        params, adapter = reference.here((reference.params, None))
        scored = likelihoods_after(
            reference.config,
            params,
            [prompts[place] for place in places],
            flat,
            batch=rows_at_once(max(map(len, prompts)) + max(map(len, flat))),
            adapter=adapter,
        )
        values = _gathered(places, scored, (len(chats), len(flat)))
        ends = np.cumsum([len(some) for some in spelled])
        each = np.split(values, ends[:-1], axis=1)
        return np.stack([np.logaddexp.reduce(some, axis=1) for some in each], axis=1)

    def log_likelihoods(self, chats: Sequence[Messages]) -> Float[np.ndarray, " chats"]:
        """The log probability (nats) of each chat's last message, the assistant's.

        All hosts must call it; each scores a share.

        Raises:
            InputError: a chat exceeds the model's context.
        """
        reference, rows = self._reference, list(self._reference.chat.examples(chats))
        places = hosts.mine(range(len(rows)))
        params, adapter = reference.here((reference.params, None))
        longest = max(len(prompt) + len(completion) for prompt, completion in rows)
        scored = score(
            reference.config,
            params,
            [rows[place] for place in places],
            batch=rows_at_once(longest),
            adapter=adapter,
        )
        return _gathered(places, [one.sum() for one in scored], (len(rows),))

    def fits(self, chats: Sequence[Messages], answers: Sequence[Answer]) -> bool:
        """Whether every chat fits into the model's context with each answer."""
        spelled = self._spelled(chats[0][-1:], answers)
        longest = max(map(len, self._reference.chat.prompts(chats)))
        room = self._reference.config.context - longest
        return room >= max(len(one) for some in spelled for one in some)

    @property
    def context(self) -> int:
        """Tokens of the model's context."""
        return self._reference.config.context

    def _spelled(
        self, question: Messages, answers: Sequence[Answer]
    ) -> list[list[tuple[int, ...]]]:
        """The tokens of each answer's spellings, which the tokenizer is asked for once."""
        for answer in answers:
            if answer not in self._spellings:
                rows = spellings_of(self._reference, question, answer)
                self._spellings[answer] = [tokens for _, tokens in rows]
        return [self._spellings[answer] for answer in answers]


def _gathered(
    places: Sequence[int], values: Sequence[Any] | np.ndarray, shape: tuple[int, ...]
) -> np.ndarray:
    """What all hosts have scored, in place; each gives the values of its places."""
    whole = np.zeros(shape)
    mine = [(place, np.asarray(one).tolist()) for place, one in zip(places, values, strict=True)]
    for part in hosts.from_all(mine):
        for place, one in part:
            whole[place] = one
    return whole


def longest_that_fits(fits: Callable[[int], bool], most: int) -> int:
    """The largest number from 1 to `most` that fits, by bisection; 0 if 1 does not."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        if fits(middle):
            low = middle
        else:
            high = middle - 1
    return low


def asked(
    reader: Reader,
    polls: Sequence[Poll],
    framed: Callable[[int, Messages], Messages],
    bags: int,
) -> list[dict[str, float]]:
    """P(answer) by `topic/answer` for each bag: the mean over the topic's questions.

    Args:
        reader: who is asked.
        polls: polls on different topics.
        framed: the chat that shows a bag, by index, before a question.
        bags: number of bags.
    """
    answers: list[dict[str, float]] = [{} for _ in range(bags)]
    for poll in polls:
        chats = [framed(bag, question) for bag in range(bags) for question in poll.questions]
        logs = reader.log_probabilities(chats, poll.answers)
        means = np.exp(logs).reshape(bags, len(poll.questions), -1).mean(axis=1)
        for bag, row in zip(answers, means.tolist(), strict=True):
            names = [f"{poll.topic}/{answer.name}" for answer in poll.answers]
            bag |= dict(zip(names, row, strict=True))
    return answers


def shown_by(trait: Trait, answers: Mapping[str, float]) -> float:
    """The trait's primary measure, from P(answer) by `topic/answer`."""
    return float(trait.measure(answers, {})[PRIMARY] or 0.0)


def shares(answers: Mapping[str, float]) -> dict[str, float]:
    """The probabilities by `topic/answer`, divided by their sum over the topic."""
    totals: dict[str, float] = {}
    for key, value in answers.items():
        topic = key.split("/", 1)[0]
        totals[topic] = totals.get(topic, 0.0) + value
    return {key: value / max(totals[key.split("/", 1)[0]], LEAST) for key, value in answers.items()}
