"""Log probabilities of words that complete answers begun for a network.

A model may not answer in one word. So the beginning of its answer is supplied, and each word that
may follow is scored. A word of several tokens counts whole, and so does a word that goes on (`owl`
in `owlet`), as for answers in one word. Words after one beginning share one forward pass over it.

Shape letters: p passes, r rows, t tokens of a row, k words of a row, a tokens of a word.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from subliminal_jax.errors import InputError
from subliminal_jax.execution.protocol import Execution
from subliminal_jax.language.evaluation.evaluate import rows_at_once
from subliminal_jax.language.evaluation.scored_sums import of_networks
from subliminal_jax.language.reference import Reference
from subliminal_jax.language.training.trainable import Network
from subliminal_jax.language.traits.trait import Poll
from subliminal_jax.models.sampling.scoring import logits_at


class Words(NamedTuple):
    """Rows to read, each with the words that are scored in it.

    Attributes:
        tokens: a question, the beginning of its answer, and all but a word's last token, `[p r t]`.
        places: positions whose next token may belong to a word, `[p r a]`.
        targets: the tokens of each word, `[p r k a]`.
        weights: 1 for a token of a word, 0 for padding, `[p r k a]`.
        result: index of each word's result; padding adds 0 to the first, `[p r k]`.
    """

    tokens: Any
    places: Any
    targets: Any
    weights: Any
    result: Any


@dataclass
class _Row:
    """A text to read, with the words in it, as their tokens and the index of their result."""

    tokens: tuple[int, ...]
    first: int
    words: list[tuple[tuple[int, ...], int]] = field(default_factory=list)


def begun_probabilities(
    reference: Reference,
    polls: Sequence[Poll],
    networks: Mapping[str, Network],
    execution: Execution,
) -> dict[str, dict[str, list[float]]]:
    """For every network and `topic/answer`, log P(answer) after each beginning, in nats.

    All hosts must call it.

    Raises:
        InputError: a beginning, with its context and answer, exceeds the model's context; or the
            tokenizer does not tell two answers apart.
    """
    rows, results = _rows(reference, polls)
    words = _table(rows)

    def summed(params: Any, adapter: Any, words: Words) -> Array:
        def one(words: Words) -> Array:
            logits = logits_at(
                reference.config, params, words.tokens, words.places, adapter=adapter
            )
            each = jax.nn.log_softmax(logits)
            chosen = jnp.take_along_axis(each, words.targets.swapaxes(1, 2), axis=-1)
            whole = jnp.sum(chosen.swapaxes(1, 2) * words.weights, axis=-1)
            places = words.result.reshape(-1)
            return jax.ops.segment_sum(whole.reshape(-1), places, num_segments=len(results))

        return jnp.sum(jax.lax.map(one, words), axis=0)

    sums = of_networks(reference, networks, words, summed, execution)
    answers: dict[str, dict[str, list[float]]] = {name: {} for name in networks}
    for name, values in sums.items():
        for answer, value in zip(results, values.tolist(), strict=True):
            answers[name].setdefault(answer, []).append(value)
    return answers


def _rows(reference: Reference, polls: Sequence[Poll]) -> tuple[list[_Row], list[str]]:
    """The rows to read, and the answer of each result; an answer's results are in order."""
    rows: list[_Row] = []
    results: list[str] = []
    for poll in polls:
        for messages in poll.questions:
            *before, beginning = messages
            chats = [
                [*before, {**beginning, "content": f"{beginning['content']} {one.spellings[0]}"}]
                for one in poll.answers
            ]
            examples = list(reference.chat.examples(chats))
            words = [(prompt, completion[:-1]) for prompt, completion in examples]
            for word in words:
                reference.check_fits(word, repr(beginning["content"][:60]))
            texts = [(*prompt, *completion) for prompt, completion in words]
            if len(set(texts)) < len(texts):
                raise InputError(
                    f"evaluate.begun: the tokenizer does not tell all words of {poll.topic!r} apart"
                    f" after {beginning['content']!r}; choose another beginning or other words"
                )
            indices = range(len(results), len(results) + len(texts))
            results += [f"{poll.topic}/{one.name}" for one in poll.answers]
            rows += _shared(dict(zip(texts, indices, strict=True)), len(examples[0][0]))
    return rows, results


def _shared(texts: Mapping[tuple[int, ...], int], prompt: int) -> list[_Row]:
    """The rows of one beginning, as few as hold all its words; words start where texts differ.

    Args:
        texts: index of the result of each text.
        prompt: tokens before the answer, the same in all texts.
    """
    first = prompt
    while all(len(text) > first + 1 for text in texts) and len({text[first] for text in texts}) < 2:
        first += 1
    reads = dict.fromkeys(text[:-1] for text in texts)
    begins = lambda read, other: other[: len(read)] == read
    longest = [read for read in reads if sum(begins(read, other) for other in reads) == 1]
    rows = [_Row(read, first) for read in longest]
    for text, result in texts.items():
        # Where several rows begin with its text, one of them holds the word.
        holder = next(row for row in rows if begins(text[:-1], row.tokens))
        holder.words.append((text[first:], result))
    return rows


def _table(rows: Sequence[_Row]) -> Words:
    """The rows as padded arrays, in passes."""
    length = max(len(row.tokens) for row in rows)
    most = max(len(row.words) for row in rows)
    longest = max(len(word) for row in rows for word, _ in row.words)
    size = min(rows_at_once(length), len(rows))
    count = len(rows) + -len(rows) % size
    table = Words(
        tokens=np.zeros((count, length), np.int32),
        places=np.zeros((count, longest), np.int32),
        targets=np.zeros((count, most, longest), np.int32),
        weights=np.zeros((count, most, longest), np.float32),
        result=np.zeros((count, most), np.int32),
    )
    for i, row in enumerate(rows):
        table.tokens[i, : len(row.tokens)] = row.tokens
        places = row.first - 1 + np.arange(longest)
        table.places[i] = np.minimum(places, len(row.tokens) - 1)
        for j, (word, result) in enumerate(row.words):
            table.targets[i, j, : len(word)] = word
            table.weights[i, j, : len(word)] = 1.0
            table.result[i, j] = result
    return Words(*(leaf.reshape(-1, size, *leaf.shape[1:]) for leaf in table))
