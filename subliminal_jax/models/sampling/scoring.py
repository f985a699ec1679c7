"""Exact log-likelihoods and logits of given continuations; nothing is sampled.

Shape letters: b texts, t tokens of a text, r rows, m tokens of a continuation, p positions,
v vocabulary, c continuations, n tokens read behind a prompt, k tokens that may follow it, s tokens
of a prefix, e width.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int

from subliminal_jax.batch import Params
from subliminal_jax.errors import InputError
from subliminal_jax.losses import cross_entropy
from subliminal_jax.models.decoder.config import DecoderConfig
from subliminal_jax.models.decoder.decoder import (
    branch,
    empty_cache,
    hidden_states,
    start,
    unembed,
)
from subliminal_jax.models.sampling.prefill import FEW, round_up

UNEMBEDDED = 256
"""Positions whose logits over the vocabulary are in memory at once."""

ScoredRow: TypeAlias = tuple[Sequence[int], Sequence[int]]
"""`(prompt, continuation)`: ids, neither empty."""


def logits_at(
    config: DecoderConfig,
    params: Params,
    tokens: Int[Array, "b t"],
    places: Int[Array, "b p"],
    segments: Int[Array, "b t"] | None = None,
    adapter: Params | None = None,
    ids: Int[Array, " v"] | None = None,
    prefix: Int[Array, " s"] | None = None,
) -> Float[Array, "b p v"]:
    """Next-token logits at chosen positions, float32; a pure function.

    Only these positions are unembedded, so that logits `[B, T, V]` are never in memory.

    Args:
        config: the model.
        params: its parameters; may be mapped over, for many models at once.
        tokens: ids, padded on the right.
        places: the positions, from 0.
        segments: which text of its row a token belongs to, 0 for padding; None for one text a row.
        adapter: low-rank factors beside the parameters, or None.
        ids: tokens whose logits are returned; None for all.
        prefix: as in `hidden_states`.
    """
    hidden = hidden_states(config, params, tokens, segments, adapter, prefix)
    return unembed(config, params, jnp.take_along_axis(hidden, places[..., None], axis=1), ids)


def score(
    config: DecoderConfig,
    params: Params,
    rows: Iterable[ScoredRow],
    *,
    batch: int = 64,
    adapter: Params | None = None,
) -> list[Float32[np.ndarray, " m"]]:
    """Log probabilities of each continuation's tokens; their sum is its log-likelihood.

    Continuations that differ in their last token alone, such as one-token words after one prompt,
    are read once.

    Args:
        config: the model.
        params: its parameters.
        rows: prompts and what may follow them, such as the tokens of a word.
        batch: rows at a time.
        adapter: low-rank factors beside the parameters, or None.

    Returns:
        In nats, in the order of the rows.

    Raises:
        InputError: a row is empty, longer than the model's context, or has an id outside the
            model's vocabulary; names the row, from 0.
    """
    checked = _checked(config, rows)
    texts = [(*prompt, *continuation[:-1]) for prompt, continuation in checked]
    scores: list[np.ndarray] = [np.zeros(0, np.float32)] * len(checked)
    for some in _groups(texts, batch):
        index = {text: i for i, text in enumerate(dict.fromkeys(texts[row] for row in some))}
        tokens = _padded(list(index), batch if len(index) > batch // FEW else batch // FEW)
        width = 1 << (max(len(checked[row][1]) for row in some) - 1).bit_length()
        text_of, places = np.zeros(batch, np.int32), np.zeros((batch, width), np.int32)
        targets = np.zeros((batch, width), np.int32)
        for i, row in enumerate(some):
            prompt, continuation = checked[row]
            text_of[i], end = index[texts[row]], len(continuation)
            places[i, :end] = np.arange(len(prompt) - 1, len(texts[row]))
            targets[i, :end] = continuation
        scored = _scores(config, params, adapter, tokens, text_of, places, targets)
        for row, values in zip(some, np.asarray(scored), strict=False):
            scores[row] = values[: len(checked[row][1])].copy()
    return scores


@partial(jax.jit, static_argnames="config")
def _scores(
    config: DecoderConfig,
    params: Params,
    adapter: Params | None,
    tokens: Int[Array, "b t"],
    text_of: Int[Array, " r"],
    places: Int[Array, "r m"],
    targets: Int[Array, "r m"],
) -> Float[Array, "r m"]:
    hidden = hidden_states(config, params, tokens, None, adapter)
    return -cross_entropy(unembed(config, params, hidden[text_of[:, None], places]), targets)


def likelihoods_after(
    config: DecoderConfig,
    params: Params,
    prompts: Sequence[Sequence[int]],
    continuations: Sequence[Sequence[int]],
    *,
    batch: int,
    adapter: Params | None = None,
) -> Float32[np.ndarray, "b c"]:
    """Log-likelihood of each of the same few continuations after every prompt, in nats.

    A prompt is read once, and each beginning that continuations share once behind it; `score`
    reads a prompt again with each beginning.

    Args:
        config: the model.
        params: its parameters.
        prompts: ids of each prompt, not empty.
        continuations: ids of what may follow, none empty.
        batch: prompts at a time.
        adapter: low-rank factors beside the parameters, or None.

    Raises:
        InputError: as for `score`.
    """
    longest = max(continuations, key=len)
    _checked(config, [(prompt, longest) for prompt in prompts])
    _checked(config, [(longest, after) for after in continuations])  # each id, once
    tree = ContinuationTree(continuations)
    behind = tree.tokens, tree.segments, tree.ids
    paths = [tree.path(after) for after in continuations]
    totals = np.zeros((len(prompts), len(continuations)), np.float32)
    for some in _groups(list(map(tuple, prompts)), batch):
        height = min(batch, 1 << (len(some) - 1).bit_length())  # few programs, little padding
        tokens = _padded([tuple(prompts[row]) for row in some], height)
        lengths = np.ones(height, np.int32)  # a row without a prompt has one token
        lengths[: len(some)] = [len(prompts[row]) for row in some]
        each = np.asarray(_after(config, params, adapter, tokens, lengths, *behind))
        for column, (after, places) in enumerate(paths):
            totals[some, column] = each[: len(some), after, places].sum(axis=1)
    return totals


class ContinuationTree:
    """What is read behind a prompt to score continuations: their beginnings, each token once.

    Args:
        continuations: ids of each, none empty.

    Attributes:
        tokens: texts to read, one after another, `[n]`: each continuation without its last token,
            unless another text begins with it.
        segments: 1, 2, ... for the text that each of these tokens belongs to, `[n]`.
        ids: the tokens that occur in the continuations, `[k]`.
    """

    def __init__(self, continuations: Iterable[Sequence[int]]):
        every = [tuple(after) for after in continuations]
        beginnings = sorted({after[:-1] for after in every} - {()})
        # In order, what begins with a text follows it directly.
        read = [one for one, other in pairwise([*beginnings, ()]) if other[: len(one)] != one]
        self._place: dict[tuple[int, ...], int] = {(): 0}
        tokens, segments = [], []
        for segment, text in enumerate(read, start=1):
            for end in range(1, len(text) + 1):
                self._place.setdefault(text[:end], len(tokens) + end)
            tokens += text
            segments += [segment] * len(text)
        ids = sorted({token for after in every for token in after})
        self._column = {token: column for column, token in enumerate(ids)}
        self.tokens, self.segments = np.array(tokens, np.int32), np.array(segments, np.int32)
        self.ids = np.array(ids, np.int32)

    def path(self, continuation: Sequence[int]) -> tuple[list[int], list[int]]:
        """Where `log_probabilities_after` has each token of a continuation: its row and column."""
        rows = [self._place[tuple(continuation[:end])] for end in range(len(continuation))]
        return rows, [self._column[token] for token in continuation]


def log_probabilities_after(
    config: DecoderConfig,
    params: Params,
    adapter: Params | None,
    prompts: Int[Array, "b t"],
    lengths: Int[Array, " b"],
    tokens: Int[Array, " n"],
    segments: Int[Array, " n"],
    ids: Int[Array, " k"],
) -> Float[Array, "b n+1 k"]:
    """Log probabilities of some tokens after each prompt, and after each token read behind it.

    A pure function. A prompt is read once, and texts behind it do not see each other.

    Args:
        config: the model.
        params: its parameters; may be mapped over, for many models at once.
        adapter: low-rank factors beside the parameters, or None.
        prompts: ids, padded on the right.
        lengths: tokens of each prompt.
        tokens: ids of the texts to read behind each prompt, one after another.
        segments: 1, 2, ... for the text that each of these belongs to.
        ids: the tokens whose probabilities are returned.
    """
    count, width = prompts.shape
    mask = jnp.arange(width)[None] < lengths[:, None]
    empty = empty_cache(config, params, count, width)
    read, cache = start(config, params, prompts, empty, mask, adapter)
    hidden = read[jnp.arange(count), lengths - 1][:, None]
    if len(tokens):
        each = lambda leaf: jnp.broadcast_to(leaf, (count, len(leaf)))
        behind = branch(config, params, each(tokens), each(segments), cache, adapter)
        hidden = jnp.concatenate([hidden, behind], axis=1)
    rows = hidden.reshape(-1, hidden.shape[-1])
    size = min(len(rows), UNEMBEDDED)
    blocks = jnp.pad(rows, ((0, -len(rows) % size), (0, 0))).reshape(-1, size, rows.shape[-1])
    likely = lambda block: jax.nn.log_softmax(unembed(config, params, block))[:, ids]
    logs = jax.lax.map(likely, blocks)
    return logs.reshape(-1, len(ids))[: len(rows)].reshape(count, -1, len(ids))


_after = jax.jit(log_probabilities_after, static_argnames="config")


def _checked(config: DecoderConfig, rows: Iterable[ScoredRow]) -> list[ScoredRow]:
    checked: list[ScoredRow] = [(tuple(prompt), tuple(after)) for prompt, after in rows]
    for row, (prompt, continuation) in enumerate(checked):
        if not prompt or not continuation:
            raise InputError(f"row {row}: its {'continuation' if prompt else 'prompt'} is empty")
        if len(prompt) + len(continuation) > config.context:
            raise InputError(
                f"row {row}: its {len(prompt) + len(continuation)} tokens exceed the model's "
                f"context of {config.context}; shorten it"
            )
        if not 0 <= min(*prompt, *continuation) <= max(*prompt, *continuation) < config.vocab:
            raise InputError(f"row {row}: has an id outside the model's {config.vocab} tokens")
    return checked


def _groups(texts: Sequence[tuple[int, ...]], batch: int) -> Iterator[list[int]]:
    """Rows in groups of at most `batch`, of similar length, equal texts side by side."""
    order = sorted(range(len(texts)), key=lambda row: (-len(texts[row]), texts[row]))
    for first in range(0, len(order), batch):
        yield order[first : first + batch]


def _padded(texts: Sequence[tuple[int, ...]], batch: int) -> np.ndarray:
    """Texts padded on the right to one of few lengths: 1, 2, 3, 4, 6, 8, 12, ... times 8."""
    length = round_up(max(map(len, texts)))
    step = max(8, 1 << (length - 1).bit_length() >> 2)
    tokens = np.zeros((batch, -(-length // step) * step), np.int32)
    for row, text in enumerate(texts):
        tokens[row, : len(text)] = text
    return tokens
