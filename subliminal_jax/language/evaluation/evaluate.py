"""How a trait is measured: exact probabilities of answers, and sampled answers.

The exact probability of an answer is that of a completion that begins with one of its spellings, in
lower case or capitalised, of any number of tokens. It has no sampling noise.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from subliminal_jax import ensemble
from subliminal_jax.data.tokens import pad_rows
from subliminal_jax.execution.program import Program
from subliminal_jax.execution.protocol import Execution
from subliminal_jax.language.carriers.carrier import Carrier
from subliminal_jax.language.evaluation.completions import said_to
from subliminal_jax.language.reference import Reference
from subliminal_jax.language.rows.chats import Chat, chat
from subliminal_jax.language.training.answers import AnswerTable, answer_table, filled
from subliminal_jax.language.training.answers import answers as answers_of
from subliminal_jax.language.training.trainable import Network
from subliminal_jax.language.traits.trait import Answer, Poll, Trait
from subliminal_jax.models.sampling.scoring import log_probabilities
from subliminal_jax.models.sampling.settings import Sampling

PASS, LENGTH = 64, 256
"""Rows that are scored together, where none has more tokens than `LENGTH`."""


@dataclass(frozen=True)
class Scoring:
    """Polls as rows of tokens.

    Attributes:
        table: a row for each question and spelling, `[passes, rows, T]`.
        words: `topic/answer`.
        word: which of them a row is a spelling of; -1 for padding, `[passes, rows]`.
        share: 1 / questions of the row's poll, `[passes, rows]`.
    """

    table: AnswerTable
    words: tuple[str, ...]
    word: Any
    share: Any


def scoring(reference: Reference, polls: Sequence[Poll]) -> Scoring:
    """Rows that score how likely each answer is to each question.

    Args:
        reference: whose tokenizer.
        polls: of different topics.

    Raises:
        InputError: a question, with all that precedes it, is too long for the model.
    """
    rows, word, share, words = [], [], [], []
    for poll in polls:
        for answer in poll.answers:
            words.append(f"{poll.topic}/{answer.name}")
            for messages in poll.questions:
                for row in _spellings(reference, messages, answer):
                    reference.check_fits(row, messages[-1]["content"])
                    rows.append(row)
                    word.append(len(words) - 1)
                    share.append(1.0 / len(poll.questions))
    table = answer_table(pad_rows(rows))
    at_once = rows_at_once(table.reading.tokens.shape[1])
    padding = -len(rows) % at_once

    def passes(leaf: Any, value: int = 0) -> np.ndarray:
        leaf = np.asarray(leaf)
        padded = np.pad(leaf, ((0, padding), *[(0, 0)] * (leaf.ndim - 1)), constant_values=value)
        return padded.reshape(-1, at_once, *leaf.shape[1:])

    shares = passes(np.asarray(share, np.float32))
    return Scoring(jax.tree.map(passes, table), tuple(words), passes(word, -1), shares)


def rows_at_once(length: int) -> int:
    """How many rows of so many tokens are scored together: attention has the square of them."""
    return min(PASS, max(1, PASS * LENGTH**2 // length**2))


def _spellings(reference: Reference, messages: Chat, answer: Answer) -> list[tuple[Any, Any]]:
    """An answer's spellings as token rows, without those that begin with another of them."""
    found: dict[tuple[int, ...], tuple[int, ...]] = {}
    for spelling in answer.spellings:
        for text in (spelling, spelling.capitalize()):
            answered = [*messages, {"role": "assistant", "content": text}]
            prompt, completion = reference.chat.example(answered)
            found[completion[:-1]] = prompt
    return [
        (prompt, spelling)
        for spelling, prompt in found.items()
        if not any(spelling[: len(other)] == other and spelling != other for other in found)
    ]


def probabilities(
    reference: Reference,
    scored: Scoring,
    networks: Mapping[str, Network],
    execution: Execution,
) -> dict[str, dict[str, float]]:
    """P(answer) of every network, by `topic/answer`: the mean over the topic's questions.

    Networks that differ in their adapters alone, and those of one form, are mapped in one program.
    All hosts must call it.
    """
    alike: dict[Any, dict[str, Network]] = {}
    for name, (params, adapter) in networks.items():
        adapted = params is reference.params and adapter is not None
        shapes = tuple(leaf.shape for leaf in jax.tree.leaves((adapter, params)))
        alike.setdefault((adapted, shapes), {})[name] = (params, adapter)
    found = {}
    for (adapted, _), group in alike.items():
        found |= _probabilities(reference, scored, group, execution, adapted)
    return {name: found[name] for name in networks}


def _probabilities(
    reference: Reference,
    scored: Scoring,
    networks: Mapping[str, Network],
    execution: Execution,
    adapted: bool,
) -> dict[str, dict[str, float]]:
    """As `probabilities`, of networks of one form; `adapted` if they share the reference."""
    config, count = reference.config, len(scored.words)

    def score(carry: None, member: Any, shared: Any) -> tuple[None, Array]:
        base, rows = shared
        params, adapter = (base, member) if adapted else member

        def one(rows: tuple[AnswerTable, Array, Array]) -> Array:
            table, word, share = rows
            logits = answers_of(config, params, table.reading, adapter)
            each = log_probabilities(logits, table.targets)
            likelihood = jnp.exp(jnp.sum(each * table.weights, axis=1)) * share
            return jax.nn.one_hot(word, count).T @ likelihood

        return None, execution.total(jnp.sum(jax.lax.map(one, rows), axis=0))

    members = ensemble.stack(
        [adapter if adapted else (params, adapter) for params, adapter in networks.values()]
    )
    rows = (scored.table, scored.word, scored.share)
    rows = jax.tree.map(lambda leaf: filled(leaf, 1, execution.parts), rows)
    shared = execution.share(reference.params), execution.spread(rows, axis=1)
    _, found = Program(score, execution)(None, execution.split(members), shared)
    return {
        name: dict(zip(scored.words, map(float, row), strict=True))
        for name, row in zip(networks, execution.fetch(found), strict=True)
    }


@dataclass(frozen=True)
class Probe:
    """What is sampled from a network.

    Attributes:
        kind: of question, as in the results; the carrier's name for its own prompts.
        chats: the questions.
        samples: of each.
    """

    kind: str
    chats: tuple[Chat, ...]
    samples: int


def probes(
    trait: Trait, carrier: Carrier, prompts: Sequence[str], samples: int, seed: int
) -> list[Probe]:
    """What is sampled for a trait.

    Args:
        trait: whose questions.
        carrier: what teachers write.
        prompts: of the carrier, on which the completions' form is checked, each once.
        samples: of each question; with 0 nothing is sampled.
        seed: of the draws.
    """
    if not samples:
        return []
    asked = trait.probes(carrier.lead_in, carrier.name, seed)
    form = Probe(carrier.name, tuple(chat(prompt) for prompt in prompts), 1)
    return [*(Probe(kind, tuple(chats), samples) for kind, chats in asked.items()), form]


def sampled(
    reference: Reference,
    network: Network,
    trait: Trait,
    carrier: Carrier,
    asked: Sequence[Probe],
    sampling: Sampling,
    batch: int,
) -> dict[str, Any]:
    """How often sampled answers show a trait, and how often completions have the carrier's form.

    All hosts must call it.

    Args:
        reference: who is asked, with `network`.
        network: parameters and adapter.
        trait: what is counted.
        carrier: whose form is checked.
        asked: as `probes`.
        sampling: how answers are drawn.
        batch: answers that are sampled together.

    Returns:
        For each kind of question the trait's `tally`; for the carrier's prompts `valid` and `of`.
    """
    chats = [(probe.kind, messages) for probe in asked for messages in probe.chats
             for _ in range(probe.samples)]  # fmt: skip
    prompts = reference.chat.prompts(messages for _, messages in chats)
    texts = said_to(reference, network, prompts, sampling, batch)
    answers: dict[str, list[str]] = {}
    for (kind, _), (text, _) in zip(chats, texts, strict=True):
        answers.setdefault(kind, []).append(text)
    valid = [not carrier.reasons(text) for text in answers.pop(carrier.name, [])]
    found: dict[str, Any] = {kind: trait.tally(texts) for kind, texts in answers.items()}
    return found | {carrier.name: {"valid": sum(valid), "of": len(valid)}}
