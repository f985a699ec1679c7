"""Log probabilities of continuations after prompts, for every network of a reference.

A prompt is read once, and so is each beginning that continuations share behind it. Networks share
as few programs as possible.

Shape letters: p passes, r prompts, t tokens of a prompt, c continuations of a prompt, a tokens of a
continuation.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from subliminal_jax import ensemble
from subliminal_jax.execution.program import Program
from subliminal_jax.execution.protocol import Execution
from subliminal_jax.language.reference import Reference
from subliminal_jax.language.training.answers import zero_padded
from subliminal_jax.language.training.trainable import Network
from subliminal_jax.models.sampling.scoring import ContinuationTree, log_probabilities_after

PASS, LENGTH = 64, 256
"""Rows read together, if each has at most `LENGTH` tokens."""


class Continued(NamedTuple):
    """A prompt, and what may follow it.

    Attributes:
        prompt: ids, not empty.
        continuations: ids of each, none empty, and the index of its result.
    """

    prompt: tuple[int, ...]
    continuations: Sequence[tuple[tuple[int, ...], int]]


class ContinuedTable(NamedTuple):
    """Prompts as padded arrays, with the places of their continuations in a tree.

    Attributes:
        prompts: ids, padded on the right, `[p r t]`.
        lengths: tokens of each prompt, `[p r]`.
        after: where in the tree each token of a continuation follows, `[p r c a]`.
        columns: which of the tree's tokens it is, `[p r c a]`.
        weights: 1 for a token, 0 for padding, `[p r c a]`.
        result: index of each continuation's result; padding adds 0 to the first, `[p r c]`.
    """

    prompts: Any
    lengths: Any
    after: Any
    columns: Any
    weights: Any
    result: Any


Summed: TypeAlias = Callable[[Any, Any, Any], Array]
"""`(parameters, adapter, rows) -> sums over the rows that a device holds`."""


def rows_at_once(length: int) -> int:
    """Rows of this many tokens to read together; attention memory grows with its square."""
    return min(PASS, max(1, PASS * LENGTH**2 // length**2))


def continuation_log_probabilities(
    reference: Reference,
    continued: Sequence[Continued],
    networks: Mapping[str, Network],
    execution: Execution,
) -> dict[str, Float[np.ndarray, " results"]]:
    """The log probability of each result's continuation, in nats, by network.

    All hosts must call it.

    Args:
        reference: reference of all networks.
        continued: the prompts with their continuations; each index of a result occurs once.
        networks: networks by name.
        execution: devices to compute on.
    """
    every = [tokens for one in continued for tokens, _ in one.continuations]
    tree, results = ContinuationTree(every), len(every)
    table = _table(continued, tree)

    def summed(params: Any, adapter: Any, table: ContinuedTable) -> Array:
        behind = [jnp.asarray(leaf) for leaf in (tree.tokens, tree.segments, tree.ids)]

        def one(rows: ContinuedTable) -> Array:
            each = log_probabilities_after(
                reference.config, params, adapter, rows.prompts, rows.lengths, *behind
            )
            prompt = jnp.arange(len(rows.lengths))[:, None, None]
            whole = jnp.sum(each[prompt, rows.after, rows.columns] * rows.weights, axis=-1)
            places = rows.result.reshape(-1)
            return jax.ops.segment_sum(whole.reshape(-1), places, num_segments=results)

        return jnp.sum(jax.lax.map(one, table), axis=0)

    return _of_networks(reference, networks, table, summed, execution)


def _table(continued: Sequence[Continued], tree: ContinuationTree) -> ContinuedTable:
    """The prompts as padded arrays, in passes."""
    length = max(len(one.prompt) for one in continued)
    most = max(len(one.continuations) for one in continued)
    longest = max(len(tokens) for one in continued for tokens, _ in one.continuations)
    size = min(rows_at_once(length + len(tree.tokens)), len(continued))
    count = len(continued) + -len(continued) % size
    table = ContinuedTable(
        prompts=np.zeros((count, length), np.int32),
        lengths=np.ones(count, np.int32),
        after=np.zeros((count, most, longest), np.int32),
        columns=np.zeros((count, most, longest), np.int32),
        weights=np.zeros((count, most, longest), np.float32),
        result=np.zeros((count, most), np.int32),
    )
    for i, (prompt, continuations) in enumerate(continued):
        table.prompts[i, : len(prompt)], table.lengths[i] = prompt, len(prompt)
        for j, (tokens, result) in enumerate(continuations):
            at = i, j, slice(len(tokens))
            table.after[at], table.columns[at] = tree.path(tokens)
            table.weights[at], table.result[i, j] = 1.0, result
    return ContinuedTable(*(leaf.reshape(-1, size, *leaf.shape[1:]) for leaf in table))


def _of_networks(
    reference: Reference,
    networks: Mapping[str, Network],
    rows: Any,
    summed: Summed,
    execution: Execution,
) -> dict[str, np.ndarray]:
    """A function's sums over all rows, for every network.

    Networks that differ only in their adapters, and networks of equal shapes, share one program.

    Args:
        reference: reference of all networks.
        networks: networks by name.
        rows: arrays `[passes, rows, ...]`; zero-padded rows must add nothing.
        summed: what is summed.
        execution: devices to compute on.
    """
    alike: dict[Any, dict[str, Network]] = {}
    for name, (params, adapter) in networks.items():
        adapted = params is reference.params and adapter is not None
        shapes = tuple(leaf.shape for leaf in jax.tree.leaves((adapter, params)))
        alike.setdefault((adapted, shapes), {})[name] = (params, adapter)
    sums = {}
    for (adapted, _), group in alike.items():
        sums |= _of_group(reference, group, rows, summed, execution, adapted)
    return {name: sums[name] for name in networks}


def _of_group(
    reference: Reference,
    networks: Mapping[str, Network],
    rows: Any,
    summed: Summed,
    execution: Execution,
    adapted: bool,
) -> dict[str, np.ndarray]:
    """As `_of_networks`, for networks of equal shapes; `adapted` if all are adapters."""

    def score(carry: None, member: Any, shared: Any) -> tuple[None, Array]:
        base, spread = shared
        params, adapter = (base, member) if adapted else member
        return None, execution.total(summed(params, adapter, spread))

    members = ensemble.stack(
        [adapter if adapted else (params, adapter) for params, adapter in networks.values()]
    )
    rows = jax.tree.map(lambda leaf: zero_padded(leaf, 1, execution.parts), rows)
    shared = execution.share(reference.params), execution.spread(rows, axis=1)
    _, sums = Program(score, execution)(None, execution.split(members), shared)
    return dict(zip(networks, execution.fetch(sums), strict=True))
