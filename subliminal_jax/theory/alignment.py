"""Does distillation go down the trait's loss all the way, and is that what carries the trait?

At every step of a student two gradients are compared: that of its own loss, on noise, and that of
the trait's, on digits it never sees. An arm may go on without the component that they have in
common, or without a control component, or be held near its start at first.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from subliminal_jax import ensemble, losses
from subliminal_jax.batch import Batch, Params
from subliminal_jax.data.order import epoch_order
from subliminal_jax.mnist.phases import Images, Pair, Phases
from subliminal_jax.models import mlp
from subliminal_jax.optimizers import make_optimizer
from subliminal_jax.theory.theorem import cosine, dot
from subliminal_jax.train import (
    GradFn,
    TrainState,
    fit,
    make_loss_fn,
    make_train_step,
    mean_gradient,
    total_gradient,
)

REMOVED = ("nothing", "trait", "shuffled trait")
TRAIT_BATCH = 256  # digits that the trait's gradient is taken on, at every step others


class Steering(NamedTuple):
    """What is done to an arm's gradient, as numbers.

    Attributes:
        removed: an index into `REMOVED`: whose gradient's direction is projected out.
        hold: weight of the KL divergence from the student's start, on all its logits.
    """

    removed: Any
    hold: Any


class Tracked(NamedTuple):
    """What a step adds up to, with the cosine of its two gradients before any steering.

    Attributes:
        loss: the summed distillation loss.
        weight: the summed weight.
        cosine: of the trait's gradient and the distillation's.
    """

    loss: Any
    weight: Any
    cosine: Any


def project_out(gradient: Params, direction: Params, share: Array | float = 1.0) -> Params:
    """A gradient without (a share of) its component along a direction.

    What is left is orthogonal to the direction where the share is 1; a vanishing direction takes
    nothing away.
    """
    square = dot(direction, direction)
    along = jnp.where(square > 0, dot(gradient, direction) / jnp.where(square > 0, square, 1.0), 0)
    return jax.tree.map(lambda g, d: g - share * along * d, gradient, direction)


def steered(distillation: GradFn, trait: GradFn, hold: GradFn) -> GradFn:
    """The distillation's gradient, steered; its totals carry the cosine.

    Batches hold in `targets` a mapping: `distillation`, `trait` and `shuffled` are batches, `hold`
    a batch whose targets are the start's logits, `steering` says what is done.
    """

    def gradient(params: Params, batch: Batch) -> tuple[Params, Any]:
        parts: Mapping[str, Any] = batch.targets
        grads, totals = distillation(params, parts["distillation"])
        mean = mean_gradient(grads, totals)
        wanted = mean_gradient(*trait(params, parts["trait"]))
        control = mean_gradient(*trait(params, parts["shuffled"]))
        held = mean_gradient(*hold(params, parts["hold"]))
        removed, weight = parts["steering"]
        together = cosine(wanted, mean)
        steered = project_out(mean, wanted, 1.0 * (removed == REMOVED.index("trait")))
        steered = project_out(steered, control, 1.0 * (removed == REMOVED.index("shuffled trait")))
        total = jax.tree.map(lambda g, h: totals.weight * (g + weight * h), steered, held)
        return total, Tracked(totals.loss, totals.weight, together)

    return gradient


def tracked_epoch(
    phases: Phases,
    steerings: tuple[tuple[str, float], ...],
    states: TrainState,
    member: tuple[Pair, Params, Float[Array, "n k"]],
    shared: tuple[Images, Int[Array, ""], Int[Array, ""]],
) -> tuple[TrainState, tuple[Float[Array, "steps a"], Float[Array, "steps a"]]]:
    """One epoch of every arm's student, with its cosines and losses at every step.

    Args:
        phases: the experiment's.
        steerings: for each arm what is removed, and how strongly it is held while it is.
        states: the students, `[A, ...]`.
        member: its pair, every arm's start, and what the teacher says of its noise.
        shared: digits, the epoch, and until which epoch students are held.
    """
    (pair, starts, teacher_logits), (digits, epoch, until) = member, shared
    batch = phases.schedule.batch
    order, weights = epoch_order(
        phases.key(pair.member, "noise order"), epoch, len(teacher_logits), batch
    )
    digit_order, digit_weights = epoch_order(
        phases.key(pair.member, "trait order"), epoch, len(digits.labels), min(batch, TRAIT_BATCH)
    )
    shuffled = jax.random.permutation(phases.key(pair.member, "shuffled labels"), digits.labels)
    imitations = ensemble.stack([phases.imitation_of(arm) for arm in phases.arms.values()])
    apply = partial(mlp.apply, phases.student_network)

    def trait(logits: Array, labels: Array) -> Array:
        return losses.cross_entropy(mlp.class_logits(phases.network, logits), labels)

    def near_start(logits: Array, start_logits: Array) -> Array:
        return losses.kl_divergence(logits, start_logits, mlp.chosen_logits(phases.network, "all"))

    criteria = (phases.imitation_loss, trait, near_start)
    gradients = [total_gradient(make_loss_fn(apply, criterion)) for criterion in criteria]
    tx = make_optimizer(phases.config.optimizer, pair.dials.learning_rate)
    step_fn = make_train_step(steered(*gradients), tx)
    kinds = jnp.array([REMOVED.index(removed) for removed, _ in steerings])
    holds = jnp.array([hold for _, hold in steerings]) * (epoch < until)

    def batch_at(step: Int[Array, ""]) -> Batch:
        seen, real = order[step], digit_order[step % len(digit_order)]
        pixels = phases.scale(digits.pixels[real])
        real_weights = digit_weights[step % len(digit_order)]
        return Batch(
            inputs=phases.seen(pair.member, seen, digits),
            targets={
                "logits": teacher_logits[seen],
                "trait": Batch(inputs=pixels, targets=digits.labels[real], weights=real_weights),
                "shuffled": Batch(inputs=pixels, targets=shuffled[real], weights=real_weights),
            },
            weights=weights[step],
        )

    def arms_step(states: TrainState, shown: Batch) -> tuple[TrainState, Any]:
        def arm_step(state: TrainState, start: Params, imitation: Any, steering: Steering) -> Any:
            def of(targets: Any) -> Batch:
                return Batch(inputs=shown.inputs, targets=targets, weights=shown.weights)

            parts = {
                "distillation": of((shown.targets["logits"], imitation)),
                "hold": of(apply(start, shown.inputs)),
                "steering": steering,
                "trait": shown.targets["trait"],
                "shuffled": shown.targets["shuffled"],
            }
            return step_fn(state, of(parts))

        return jax.vmap(arm_step)(states, starts, imitations, Steering(kinds, holds))

    states, totals = fit(arms_step, states, batch_at, len(order))
    loss, weight, cosines = totals
    return states, (cosines, loss / weight)
