"""Batches of a table in host memory, for trainings in tests: a function of key, step and rows."""

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
    """The function that `loop.Training` calls: some rows of some steps' global batches.

    Every epoch reads every example once, in a fresh order; its short last batch is padded with
    examples of weight 0. Each host reads only the rows that it needs.

    Args:
        table: NumPy leaves, `[N, ...]`.
        key: for the order of each epoch.
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
