"""Does distillation go down the trait's loss all the way, and is that what carries the trait?

At every step of a student two gradients are compared: that of its own loss, on noise, and that of
the trait's, on digits it is never shown. A student may go on without what they have in common.
Under Adam that can mean two things, and both are here. Projecting the gradient before the
optimiser leaves a step that may still go along the trait's gradient, since Adam rescales every
parameter. Projecting the step after the optimiser leaves one that changes the trait's loss by
nothing to first order, on the digits that the gradient was taken on.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from subliminal_jax import ensemble, losses
from subliminal_jax.batch import Batch, Params
from subliminal_jax.data.order import epoch_order, steps_per_epoch
from subliminal_jax.mnist.phases import Images, Imitation, Pair, Phases
from subliminal_jax.mnist.reductions import student_reduction
from subliminal_jax.models import mlp
from subliminal_jax.optimizers import make_optimizer
from subliminal_jax.theory.alignment_config import Course
from subliminal_jax.theory.theorem import cosine, dot
from subliminal_jax.train import GradFn, Totals, TrainState, fit, make_loss_fn, make_train_step


class Steering(NamedTuple):
    """A student's course as numbers.

    Attributes:
        gradient: the share of the gradient's component that is taken away.
        step: the share of the step's.
        shuffled: whether the component is that along the control's gradient.
        hold: weight of the divergence from the reference.
    """

    gradient: Any
    step: Any
    shuffled: Any
    hold: Any


class Guided(NamedTuple):
    """What a student's batch holds as its targets.

    Attributes:
        imitated: the targets of its own loss.
        trait: the gradient of the trait's loss where it stands.
        control: that of the control's.
        direction: the one of both whose component is taken away.
        share: of the component that the gradient loses.
    """

    imitated: Any
    trait: Params
    control: Params
    direction: Params
    share: Any


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("loss", "weight", "cosine", "control_cosine"),
    meta_fields=(),
)
@dataclass(frozen=True)
class Added(Totals):
    """What a student's batch adds up to.

    Attributes:
        cosine: of its gradient and the trait's, before anything is taken away.
        control_cosine: of its gradient and the control's.
    """

    cosine: Any
    control_cosine: Any


class Track(NamedTuple):
    """What is seen of a step.

    Attributes:
        loss: the student's mean loss before it.
        trait_loss: the trait's mean loss before it.
        cosine: of the student's gradient and the trait's, before anything is taken away.
        control_cosine: of the student's gradient and the control's.
        step_cosine: of the step that is taken and the way down the trait's loss.
    """

    loss: Any
    trait_loss: Any
    cosine: Any
    control_cosine: Any
    step_cosine: Any


def component(vector: Params, direction: Params) -> Params:
    """What a vector has along a direction; nothing where the direction vanishes."""
    square = dot(direction, direction)
    along = jnp.where(square > 0, dot(vector, direction) / jnp.where(square > 0, square, 1.0), 0.0)
    return jax.tree.map(lambda leaf: along * leaf, direction)


def without(vector: Params, part: Params, share: Any = 1.0) -> Params:
    """A vector minus a share of another; to the bit the vector itself where the share is 0."""
    return jax.tree.map(lambda whole, leaf: whole - share * leaf, vector, part)


def guided(gradient: GradFn) -> Any:
    """A gradient without a share of its component along a direction; its totals are `Added`.

    The batch's targets are `Guided`. A gradient of sums serves: its component scales with it.
    """

    def projected(params: Params, batch: Batch) -> tuple[Params, Added]:
        guide: Guided = batch.targets
        grads, totals = gradient(params, replace(batch, targets=guide.imitated))
        left = without(grads, component(grads, guide.direction), guide.share)
        cosines = (cosine(guide.trait, grads), cosine(guide.control, grads))
        return left, Added(totals.loss, totals.weight, *cosines)

    return projected


def steering(courses: Mapping[str, Course], hold: Any) -> Steering:
    """The courses as numbers, `[A]` each; who is held is so with the weight `hold`."""
    each = courses.values()
    return Steering(
        gradient=jnp.array([float(course.projected == "gradient") for course in each]),
        step=jnp.array([float(course.projected == "step") for course in each]),
        shuffled=jnp.array([course.shuffled for course in each]),
        hold=jnp.array([float(course.held) for course in each]) * hold,
    )


class SteeredStudents:
    """The steps of one member's students, each on its course.

    Attributes:
        phases: the experiment's; its arms have the courses' names.
        courses: what is done to each arm's student.
        trait_batch: digits that the trait's gradient is taken on; None for as many as the noise.
    """

    def __init__(self, phases: Phases, courses: Mapping[str, Course], trait_batch: int | None):
        self.phases, self.courses, self.trait_batch = phases, courses, trait_batch
        apply = partial(mlp.apply, phases.network)
        self._apply = apply
        self._trait = phases.gradient(make_loss_fn(apply, self._trait_loss))
        self._own = guided(phases.gradient(make_loss_fn(apply, self._own_loss)))

    def epoch(
        self,
        states: TrainState,
        member: tuple[Pair, Params, Float[Array, "n k"]],
        shared: tuple[Images, Int[Array, ""], Float[Array, ""]],
    ) -> tuple[TrainState, Track]:
        """One epoch of every arm's student, with what is seen of every step, `[steps, A]`.

        Args:
            states: the students, `[A, ...]`.
            member: its pair, its reference, and what its teacher says of its noise.
            shared: digits, the epoch, and how strongly students are held in it.
        """
        pair, _, teacher_logits = member
        phases, config = self.phases, self.phases.config
        tx = make_optimizer(config.optimizer, pair.dials.learning_rate)
        reduction = student_reduction(config.recipe, config.members)
        one = partial(self._step, make_train_step(self._own, tx, reduction))
        imitations = ensemble.stack([phases.imitation_of(arm) for arm in phases.arms.values()])
        steerings = steering(self.courses, shared[2])
        steps = steps_per_epoch(len(teacher_logits), phases.schedule.batch)
        over_arms: Any = jax.vmap(one, in_axes=(0, 0, 0, None))
        arms_step = lambda states, shown: over_arms(states, imitations, steerings, shown)  # noqa: E731
        tracked: Any = fit(arms_step, states, self._batches(member, shared), steps)
        return tracked

    def _batches(self, member: tuple[Pair, Params, Array], shared: tuple[Images, Any, Any]) -> Any:
        """Of every step of an epoch, the noise and the digits that all its students have.

        The noise's targets are the teacher's and the reference's logits; the digits' are their
        labels and the control's, `[2, B]`.
        """
        (pair, reference, teacher_logits), (digits, epoch, _) = member, shared
        phases, images, batch = self.phases, len(digits.labels), self.phases.schedule.batch
        taken = min(self.trait_batch or batch, images)
        key = partial(phases.key, pair.member)
        order, weights = epoch_order(key("noise order"), epoch, len(teacher_logits), batch)
        trait_order, trait_weights = epoch_order(key("trait order"), epoch, images, taken)
        shuffled = jax.random.permutation(key("shuffled labels"), digits.labels)

        def batch_at(step: Int[Array, ""]) -> tuple[Batch, Batch]:
            seen, again = order[step], step % len(trait_order)
            real = trait_order[again]
            noise = phases.seen(pair.member, seen, digits)
            targets = (teacher_logits[seen], self._apply(reference, noise))
            pixels, labels = (
                phases.scale(digits.pixels[real]),
                (digits.labels[real], shuffled[real]),
            )
            return (
                Batch(inputs=noise, targets=targets, weights=weights[step]),
                Batch(inputs=pixels, targets=jnp.stack(labels), weights=trait_weights[again]),
            )

        return batch_at

    def _step(
        self,
        own_step: Any,
        state: TrainState,
        imitation: Imitation,
        course: Steering,
        shown: tuple[Batch, Batch],
    ) -> tuple[TrainState, Track]:
        """One step of one student on its course."""
        noise, real = shown
        per_labels = lambda labels: self._trait(state.params, replace(real, targets=labels))  # noqa: E731
        grads, totals = jax.vmap(per_labels)(real.targets)
        trait, control = (jax.tree.map(lambda leaf, i=i: leaf[i], grads) for i in (0, 1))
        direction = jax.tree.map(partial(jnp.where, course.shuffled), control, trait)
        imitated = (*noise.targets, imitation, course.hold)
        targets = Guided(imitated, trait, control, direction, course.gradient)
        after, added = own_step(state, replace(noise, targets=targets))
        moved = jax.tree.map(jnp.subtract, after.params, state.params)
        params = without(after.params, component(moved, direction), course.step)
        down = jax.tree.map(jnp.subtract, state.params, params)
        return replace(after, params=params), Track(
            loss=added.loss / added.weight,
            trait_loss=totals.loss[0] / totals.weight[0],
            cosine=added.cosine,
            control_cosine=added.control_cosine,
            step_cosine=cosine(down, trait),
        )

    def _trait_loss(self, logits: Array, labels: Array) -> Array:
        return losses.cross_entropy(mlp.class_logits(self.phases.network, logits), labels)

    def _own_loss(self, logits: Array, targets: Any) -> Array:
        teacher_logits, reference_logits, imitation, hold = targets
        everything = mlp.chosen_logits(self.phases.network, "all")
        near = losses.kl_divergence(logits, reference_logits, everything)
        return self.phases.imitation_loss(logits, (teacher_logits, imitation)) + hold * near
