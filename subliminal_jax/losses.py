"""Criteria: one loss per example, unreduced, `(predictions, targets)` in that order."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

# Finite, so that an excluded logit is 0 after the exponential and never 0 * inf = nan.
EXCLUDED = -1e30


def cross_entropy(
    predictions: Float[Array, "*batch k"], labels: Int[Array, "*batch"]
) -> Float[Array, "*batch"]:
    """Cross-entropy `-log softmax(predictions)[label]`, in nats."""
    log_probabilities = jax.nn.log_softmax(predictions)
    return -jnp.take_along_axis(log_probabilities, labels[..., None], axis=-1)[..., 0]


def kl_divergence(
    predictions: Float[Array, "*batch k"],
    targets: Float[Array, "*batch k"],
    chosen: Bool[Array, " k"],
    temperature: float | Float[Array, ""] = 1.0,
) -> Float[Array, "*batch"]:
    """KL divergence of the teacher from the student over the chosen logits, in nats.

    `sum_i p_i (log p_i - log q_i)`, with `p = softmax(targets / temperature)` and
    `q = softmax(predictions / temperature)` both taken over the chosen logits alone: the others
    enter neither softmax and get no gradient (Cloud et al. 2025, section 6.2).
    """
    log_p = jax.nn.log_softmax(jnp.where(chosen, targets / temperature, EXCLUDED))
    log_q = jax.nn.log_softmax(jnp.where(chosen, predictions / temperature, EXCLUDED))
    return jnp.sum(jnp.where(chosen, jnp.exp(log_p) * (log_p - log_q), 0.0), axis=-1)


def squared_error(
    predictions: Float[Array, "*batch k"],
    targets: Float[Array, "*batch k"],
    chosen: Bool[Array, " k"],
) -> Float[Array, "*batch"]:
    """Mean squared difference over the chosen logits."""
    squares = jnp.where(chosen, (predictions - targets) ** 2, 0.0)
    return jnp.sum(squares, axis=-1) / jnp.sum(chosen)
