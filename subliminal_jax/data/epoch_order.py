"""The order of the examples in an epoch: a pure function of key and epoch."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from subliminal_jax.batch import RandomKey


def steps_per_epoch(examples: int, batch: int) -> int:
    """Steps that read every example once; the last one may be short."""
    return -(-examples // batch)


def epoch_order(
    key: RandomKey, epoch: Int[Array, ""], examples: int, batch: int
) -> tuple[Int[Array, "s b"], Float[Array, "s b"]]:
    """The examples of each step of an epoch: every example once, in a fresh order each epoch.

    Returns:
        Indices and weights, `[steps, batch]`. A short last step is padded with examples of
        weight 0.
    """
    steps = steps_per_epoch(examples, batch)
    order = jax.random.permutation(jax.random.fold_in(key, epoch), examples)
    padded = jnp.pad(order, (0, steps * batch - examples), mode="wrap")
    weights = jnp.arange(steps * batch) < examples
    return padded.reshape(steps, batch), weights.astype(jnp.float32).reshape(steps, batch)
