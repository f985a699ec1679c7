"""What a network's last hidden layer holds of the digits, and how alike two networks' are."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from subliminal_jax.batch import Batch, Params
from subliminal_jax.data.order import epoch_order
from subliminal_jax.losses import cross_entropy
from subliminal_jax.mnist.phases import Images, Pair, Phases
from subliminal_jax.models import mlp
from subliminal_jax.optimizers import make_optimizer
from subliminal_jax.train import (
    TrainState,
    fit,
    make_loss_fn,
    make_train_step,
    only,
    total_gradient,
)


def features(
    network: mlp.MlpConfig, params: Params, images: Float[Array, "b d"]
) -> Float[Array, "b h"]:
    """What the last layer reads: the activations before it."""
    width = network.hidden[-1]
    readout = {"kernel": jnp.eye(width), "bias": jnp.zeros(width)}
    through = mlp.MlpConfig(
        inputs=network.inputs,
        hidden=network.hidden,
        classes=width,
        aux=0,
        activation=network.activation,
    )
    return mlp.apply(through, {**params, "logits": readout}, images)


def linear_cka(a: Float[Array, "b h"], b: Float[Array, "b g"]) -> Float[Array, ""]:
    """Linear centred kernel alignment of two sets of features of the same images.

    `|A^T B|^2 / (|A^T A| |B^T B|)` in Frobenius norms of centred columns: 1 for features that are
    the same up to rotation, shift and scale.

    References:
        Kornblith, Norouzi, Lee, Hinton, "Similarity of neural network representations revisited",
        ICML 2019, arXiv 1905.00414.
    """
    a, b = (x - jnp.broadcast_to(jnp.mean(x, axis=0), x.shape) for x in (a, b))
    return jnp.sum((a.T @ b) ** 2) / jnp.linalg.norm(a.T @ a) / jnp.linalg.norm(b.T @ b)


def similarities(
    phases: Phases, carry: None, networks: tuple[Params, Params], shared: Images
) -> tuple[None, Float[Array, " a"]]:
    """Every student's alignment with its teacher on a batch of digits, `[A]`."""
    teacher, students = networks
    pixels = phases.scale(shared.pixels)
    own = features(phases.network, teacher, pixels)
    return None, jax.vmap(
        lambda student: linear_cka(features(phases.network, student, pixels), own)
    )(students)


def probe_epoch(
    phases: Phases,
    rate: float,
    states: TrainState,
    pair: Pair,
    shared: tuple[Images, Int[Array, ""]],
) -> tuple[TrainState, Float[Array, "steps a"]]:
    """One epoch of every network's class head on digits, the layers before it as they are.

    A linear probe of the last hidden layer that begins at the network's own reading. The output is
    every step's mean loss.
    """
    images, epoch = shared
    order, weights = epoch_order(
        phases.key(pair.member, "probe order"), epoch, len(images.labels), phases.schedule.batch
    )

    def batch_at(step: Int[Array, ""]) -> Batch:
        pixels, labels = images.pixels[order[step]], images.labels[order[step]]
        return Batch(inputs=phases.scale(pixels), targets=labels, weights=weights[step])

    def criterion(logits: Array, labels: Array) -> Array:
        return cross_entropy(mlp.class_logits(phases.network, logits), labels)

    gradient = total_gradient(make_loss_fn(partial(mlp.apply, phases.network), criterion))
    head = only(gradient, lambda layer: layer == "logits")
    step_fn = make_train_step(head, make_optimizer("adam", rate))
    states, totals = fit(jax.vmap(step_fn, in_axes=(0, None)), states, batch_at, len(order))
    return states, totals.loss / totals.weight
