"""Batches of a table that lies in a host's memory: a pure function of key, step and rows."""

from collections.abc import Callable
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from subliminal_jax.batch import Batch, RandomKey
from subliminal_jax.data.order import epoch_order, steps_per_epoch


def table_batches(
    table: Batch, key: RandomKey, batch: int
) -> Callable[[Int[np.ndarray, " steps"], Int[np.ndarray, " rows"]], Batch]:
    """What a training asks for: some examples of some steps' global batches.

    Every epoch shows every example once, in a fresh order. Its short last batch is filled up with
    examples of weight 0. Each host takes the rows it is asked for and nothing else.

    Args:
        table: NumPy leaves, `[N, ...]`.
        key: for the orders.
        batch: examples in a global batch.
    """
    examples = len(table.weights)
    per_epoch = steps_per_epoch(examples, batch)

    @lru_cache(maxsize=2)
    def order_of(epoch: int) -> tuple[np.ndarray, np.ndarray]:
        order, counts = epoch_order(key, jnp.int32(epoch), examples, batch)
        return np.asarray(order), np.asarray(counts)

    def batches(steps: Int[np.ndarray, " steps"], rows: Int[np.ndarray, " rows"]) -> Batch:
        chosen, counts = [], []
        for epoch, place in zip(*np.divmod(steps, per_epoch), strict=True):
            order, count = order_of(epoch.item())
            chosen.append(order[place][rows])
            counts.append(count[place][rows])
        taken = jax.tree.map(lambda leaf: np.asarray(leaf)[np.stack(chosen)], table)
        weights, filled = taken.weights, np.stack(counts)
        filled = filled.reshape(*filled.shape, *(1,) * (weights.ndim - filled.ndim))
        return Batch(inputs=taken.inputs, targets=taken.targets, weights=weights * filled)

    return batches
