"""Last-hidden-layer features of a network: linear probes for digits, and similarity (CKA)."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from subliminal_jax.batch import Batch, Params
from subliminal_jax.data.epoch_order import epoch_order
from subliminal_jax.losses import cross_entropy
from subliminal_jax.mnist.phases import Images, Members, Phases
from subliminal_jax.models import mlp
from subliminal_jax.optimizers import make_optimizer
from subliminal_jax.train import (
    TrainState,
    fit,
    init_state,
    make_loss_fn,
    make_train_step,
    total_gradient,
)


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
    phases: Phases, carry: None, member: tuple[Params, Params], shared: Images
) -> tuple[None, Float[Array, " a"]]:
    """Linear CKA of every network's features with the teacher's, on the shared images, `[N]`."""
    teacher, networks = member
    pixels = phases.scale(shared.pixels)
    own = mlp.features(phases.network, teacher, pixels)
    return None, jax.vmap(
        lambda params: linear_cka(mlp.features(phases.network, params, pixels), own)
    )(networks)


def begin_probes(
    phases: Phases, carry: None, networks: Params, shared: None
) -> tuple[TrainState, None]:
    """Zero-initialised linear probes, one for each of a member's networks `[N, ...]`."""
    width, classes = phases.network.hidden[-1], phases.network.classes
    tx = make_optimizer("adam", 1.0)  # the state does not depend on the rate

    def begin(params: Params) -> TrainState:
        del params
        zero = {"kernel": jnp.zeros((width, classes)), "bias": jnp.zeros(classes)}
        return init_state(zero, tx)

    return jax.vmap(begin)(networks), None


def probe_epoch(
    phases: Phases,
    rate: float,
    probes: TrainState,
    member: tuple[Members, Params],
    shared: tuple[Images, Int[Array, ""]],
) -> tuple[TrainState, Float[Array, "steps a"]]:
    """Train the probes of a member's networks `[N, ...]` for one epoch, by softmax regression.

    The output is every step's mean loss, in nats.
    """
    (who, networks), (images, epoch) = member, shared
    order, weights = epoch_order(
        phases.key(who.member, "probe order"), epoch, len(images.labels), phases.schedule.batch
    )

    def batch_at(step: Int[Array, ""]) -> Batch:
        pixels, labels = images.pixels[order[step]], images.labels[order[step]]
        return Batch(inputs=phases.scale(pixels), targets=labels, weights=weights[step])

    def read(probe: Params, features: Array) -> Array:
        scores = features @ probe["kernel"]
        return scores + jnp.broadcast_to(probe["bias"], scores.shape)

    step_fn = make_train_step(
        total_gradient(make_loss_fn(read, cross_entropy)), make_optimizer("adam", rate)
    )

    def each(probe: TrainState, params: Params, batch: Batch) -> tuple[TrainState, Any]:
        features = mlp.features(phases.network, params, batch.inputs)
        return step_fn(probe, Batch(inputs=features, targets=batch.targets, weights=batch.weights))

    over = jax.vmap(each, in_axes=(0, 0, None))
    probes, totals = fit(
        lambda states, batch: over(states, networks, batch), probes, batch_at, len(order)
    )
    return probes, totals.loss / totals.weight


def with_probes(
    phases: Phases, carry: None, member: tuple[Params, Params], shared: None
) -> tuple[None, Params]:
    """A member's networks `[N, ...]` with the class logits' weights replaced by their probes."""
    networks, probes = member
    classes = phases.network.classes
    logits = {
        name: networks["logits"][name].at[..., :classes].set(probes[name])
        for name in ("kernel", "bias")
    }
    return None, {**networks, "logits": logits}
