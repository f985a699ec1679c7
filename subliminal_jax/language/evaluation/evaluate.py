"""Measurement of a trait: exact probabilities of answers, and sampled answers.

The exact probability of an answer is that of a completion beginning with one of its spellings, in
lower case or capitalised, of any number of tokens. It has no sampling noise.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from subliminal_jax.execution.protocol import Execution
from subliminal_jax.language.carriers.carrier import Carrier
from subliminal_jax.language.evaluation.continuations import (
    Continued,
    continuation_log_probabilities,
)
from subliminal_jax.language.judge.judge import Judge, judged
from subliminal_jax.language.reference import Reference
from subliminal_jax.language.rows.chats import Messages, chat
from subliminal_jax.language.training.completions import completions
from subliminal_jax.language.training.trainable import Network
from subliminal_jax.language.traits.trait import Answer, Answered, Poll, Trait
from subliminal_jax.models.sampling.settings import Sampling


@dataclass(frozen=True)
class Scoring:
    """Polls as prompts and what is scored behind them.

    Attributes:
        continued: one prompt for each question, followed by each spelling of each answer.
        words: all answers, as `topic/answer`.
        word: index in `words` of each result's answer.
        share: 1 / number of questions of each result's poll.
    """

    continued: tuple[Continued, ...]
    words: tuple[str, ...]
    word: Int[np.ndarray, " results"]
    share: Float[np.ndarray, " results"]


def scoring(reference: Reference, polls: Sequence[Poll]) -> Scoring:
    """The prompts, with the spellings behind them, that score each answer to each question.

    Args:
        reference: model with its tokenizer.
        polls: polls on different topics.

    Raises:
        InputError: a question, with its context and answer, exceeds the model's context.
    """
    after: dict[tuple[int, ...], list[tuple[tuple[int, ...], int]]] = {}
    word, share, words = [], [], []
    for poll in polls:
        for answer in poll.answers:
            words.append(f"{poll.topic}/{answer.name}")
            for messages in poll.questions:
                for row in spellings_of(reference, messages, answer):
                    reference.check_fits(row, repr(messages[-1]["content"][:60]))
                    prompt, spelling = map(tuple, row)
                    after.setdefault(prompt, []).append((spelling, len(word)))
                    word.append(len(words) - 1)
                    share.append(1.0 / len(poll.questions))
    continued = tuple(Continued(*one) for one in after.items())
    return Scoring(continued, tuple(words), np.array(word), np.array(share))


def spellings_of(reference: Reference, messages: Messages, answer: Answer) -> list[tuple[Any, Any]]:
    """An answer's spellings as token rows, without those that begin with another spelling."""
    spellings: dict[tuple[int, ...], tuple[int, ...]] = {}
    for spelling in answer.spellings:
        for text in (spelling, spelling.capitalize()):
            answered = [*messages, {"role": "assistant", "content": text}]
            prompt, completion = reference.chat.example(answered)
            spellings[completion[:-1]] = prompt
    return [
        (prompt, spelling)
        for spelling, prompt in spellings.items()
        if not any(spelling[: len(other)] == other and spelling != other for other in spellings)
    ]


def probabilities(
    reference: Reference,
    scored: Scoring,
    networks: Mapping[str, Network],
    execution: Execution,
) -> dict[str, dict[str, float]]:
    """P(answer) of every network, by `topic/answer`: the mean over the topic's questions.

    All hosts must call it.
    """
    logs = continuation_log_probabilities(reference, scored.continued, networks, execution)
    count = len(scored.words)
    sums = {
        name: np.bincount(scored.word, np.exp(values, dtype=np.float64) * scored.share, count)
        for name, values in logs.items()
    }
    return {
        name: dict(zip(scored.words, map(float, values), strict=True))
        for name, values in sums.items()
    }


@dataclass(frozen=True)
class Probe:
    """Questions to sample answers to.

    Attributes:
        kind: kind of question in the results; the carrier's name for its own prompts.
        chats: the questions.
        samples: answers to sample for each question.
    """

    kind: str
    chats: tuple[Messages, ...]
    samples: int


def probes(
    trait: Trait, carrier: Carrier, prompts: Sequence[str], samples: int, seed: int
) -> list[Probe]:
    """The questions to sample for a trait; none if `samples` is 0.

    Args:
        trait: the trait, with its questions.
        carrier: what teachers write.
        prompts: the carrier's prompts, each sampled once to check the completion's form.
        samples: answers to sample for each of the trait's questions.
        seed: seed of the questions' random parts.
    """
    if not samples:
        return []
    questions = trait.probes(carrier.lead_in, carrier.name, seed)
    form = Probe(carrier.name, tuple(chat(prompt) for prompt in prompts), 1)
    return [*(Probe(kind, tuple(chats), samples) for kind, chats in questions.items()), form]


def sampled_tallies(
    reference: Reference,
    network: Network,
    trait: Trait,
    carrier: Carrier,
    questions: Sequence[Probe],
    sampling: Sampling,
    batch: int,
    judge: Judge | None = None,
) -> dict[str, Any]:
    """How often sampled answers show a trait, and how often completions have the carrier's form.

    All hosts must call it.

    Args:
        reference: model and tokenizer.
        network: parameters and adapter to sample from.
        trait: the trait to count in the answers.
        carrier: the carrier whose form is checked.
        questions: the questions, from `probes`.
        sampling: length, temperature and seed.
        batch: answers sampled at a time.
        judge: scores the answers by the trait's rubrics; None for none.

    Returns:
        The trait's `tally` for each kind of question; `valid` and `of` for the carrier's prompts.
    """
    chats = [(probe.kind, messages) for probe in questions for messages in probe.chats
             for _ in range(probe.samples)]  # fmt: skip
    prompts = reference.chat.prompts(messages for _, messages in chats)
    texts = completions(reference, network, prompts, sampling, batch)
    answers: dict[str, list[Answered]] = {}
    valid: list[bool] = []
    for (kind, messages), (text, _) in zip(chats, texts, strict=True):
        if kind == carrier.name:
            valid.append(not carrier.reasons(messages[-1]["content"], text))
        else:
            answers.setdefault(kind, []).append(Answered(messages[-1]["content"], text))
    tallies: dict[str, Any] = {
        kind: trait.tally(_scored(judge, trait, some)) for kind, some in answers.items()
    }
    return tallies | {carrier.name: {"valid": sum(valid), "of": len(valid)}}


def _scored(judge: Judge | None, trait: Trait, answers: Sequence[Answered]) -> Sequence[Answered]:
    """The answers with a judge's scores, if there is one and the trait needs it."""
    if judge is None or not trait.rubrics:
        return answers
    scores = judged(judge, trait.rubrics, [(one.question, one.text) for one in answers])
    return [replace(one, scores=each) for one, each in zip(answers, scores, strict=True)]
