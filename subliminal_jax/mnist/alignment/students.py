"""Does distillation descend the trait's loss at every step, and is that what carries the trait?

At every step two gradients of a student are compared: that of its own loss, on noise, and that of
the trait's loss, on digits it never sees. An intervention removes the component that they share.
Under Adam this can be done in two places, and both are here. Projecting the gradient before the
optimiser leaves a step that may still have a component along the trait's gradient, since Adam
rescales every parameter. Projecting the step after the optimiser leaves a step that does not
change the trait's loss to first order, on the digits that the gradient was computed on.
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
from subliminal_jax.data.epoch_order import epoch_order, steps_per_epoch
from subliminal_jax.mnist.alignment.config import Course
from subliminal_jax.mnist.phases import ArmLoss, Images, Members, Phases
from subliminal_jax.mnist.recipes import student_reduction
from subliminal_jax.models import mlp
from subliminal_jax.optimizers import make_optimizer
from subliminal_jax.theory.theorem import cosine, dot
from subliminal_jax.train import GradFn, Totals, TrainState, fit, make_loss_fn, make_train_step


class _Steering(NamedTuple):
    """A student's course as numbers, so that courses can be mapped.

    Attributes:
        gradient: share of the gradient's component that is removed.
        step: share of the step's component that is removed.
        shuffled: whether the component is along the control's gradient, not the trait's.
        hold: weight of the KL divergence from the reference.
    """

    gradient: Any
    step: Any
    shuffled: Any
    hold: Any


class _SteeredTargets(NamedTuple):
    """The targets in a student's batch.

    Attributes:
        imitation: the targets of its own loss.
        trait: gradient of the trait's loss at its parameters.
        control: gradient of the control's loss at its parameters.
        direction: `trait` or `control`: the one whose component is removed.
        share: share of that component which the gradient loses.
    """

    imitation: Any
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
class _SteeredTotals(Totals):
    """The totals of a student's batch, with two cosines.

    Attributes:
        cosine: of its gradient and the trait's, before any projection.
        control_cosine: of its gradient and the control's, before any projection.
    """

    cosine: Any
    control_cosine: Any


class Track(NamedTuple):
    """Measurements at one step.

    Attributes:
        loss: the student's mean loss before the step.
        trait_loss: the trait's mean loss before the step.
        cosine: of the student's gradient and the trait's, before any projection.
        control_cosine: of the student's gradient and the control's, before any projection.
        step_cosine: of the step taken and the trait's descent direction.
    """

    loss: Any
    trait_loss: Any
    cosine: Any
    control_cosine: Any
    step_cosine: Any


def component(vector: Params, direction: Params) -> Params:
    """The component of a vector along a direction; 0 where the direction is 0."""
    square = dot(direction, direction)
    along = jnp.where(square > 0, dot(vector, direction) / jnp.where(square > 0, square, 1.0), 0.0)
    return jax.tree.map(lambda leaf: along * leaf, direction)


def without(vector: Params, part: Params, share: Any = 1.0) -> Params:
    """`vector - share * part`; bitwise equal to `vector` where the share is 0."""
    return jax.tree.map(lambda whole, leaf: whole - share * leaf, vector, part)


def _steer(gradient: GradFn) -> Any:
    """A `GradFn` that removes a share of the gradient's component along a direction.

    The batch's targets are `_SteeredTargets`; the totals are `_SteeredTotals`. The projection is
    linear, so `gradient` may return sums.
    """

    def projected(params: Params, batch: Batch) -> tuple[Params, _SteeredTotals]:
        targets: _SteeredTargets = batch.targets
        grads, totals = gradient(params, replace(batch, targets=targets.imitation))
        left = without(grads, component(grads, targets.direction), targets.share)
        cosines = (cosine(targets.trait, grads), cosine(targets.control, grads))
        return left, _SteeredTotals(totals.loss, totals.weight, *cosines)

    return projected


def _steering(courses: Mapping[str, Course], hold: Any) -> _Steering:
    """The courses as numbers, `[A]` each; students that are held get the weight `hold`."""
    each = courses.values()
    return _Steering(
        gradient=jnp.array([float(course.projected == "gradient") for course in each]),
        step=jnp.array([float(course.projected == "step") for course in each]),
        shuffled=jnp.array([course.shuffled for course in each]),
        hold=jnp.array([float(course.held) for course in each]) * hold,
    )


class SteeredStudents:
    """Trains one member's students, each with the interventions of its course.

    Attributes:
        phases: the experiment's phases; its arms are named like the courses.
        courses: the interventions on each arm's student.
        trait_batch: digits in each trait gradient; None for the batch size of the noise.
    """

    def __init__(self, phases: Phases, courses: Mapping[str, Course], trait_batch: int | None):
        self.phases, self.courses, self.trait_batch = phases, courses, trait_batch
        apply = partial(mlp.apply, phases.network)
        self._apply = apply
        self._trait = phases.gradient(make_loss_fn(apply, self._trait_loss))
        self._own = _steer(phases.gradient(make_loss_fn(apply, self._own_loss)))

    def epoch(
        self,
        states: TrainState,
        member: tuple[Members, Params, Float[Array, "n k"]],
        shared: tuple[Images, Int[Array, ""], Float[Array, ""]],
    ) -> tuple[TrainState, Track]:
        """Train every arm's student for one epoch; also returns every step's `Track`, `[steps, A]`.

        Args:
            states: the students, `[A, ...]`.
            member: who it is, its reference, and its teacher's logits on its noise images.
            shared: digits, the epoch, and the weight with which students are held in it.
        """
        who, _, teacher_logits = member
        phases, config = self.phases, self.phases.config
        tx = make_optimizer(config.optimizer, who.dials.learning_rate)
        reduction = student_reduction(config.recipe, config.members)
        one = partial(self._step, make_train_step(self._own, tx, reduction))
        imitations = ensemble.stack([phases.imitation_of(arm) for arm in phases.arms.values()])
        steerings = _steering(self.courses, shared[2])
        steps = steps_per_epoch(len(teacher_logits), phases.schedule.batch)
        over_arms: Any = jax.vmap(one, in_axes=(0, 0, 0, None))
        arms_step = lambda states, shown: over_arms(states, imitations, steerings, shown)
        tracked: Any = fit(arms_step, states, self._batches(member, shared), steps)
        return tracked

    def _batches(
        self, member: tuple[Members, Params, Array], shared: tuple[Images, Any, Any]
    ) -> Any:
        """A function from step to the batches of noise and of digits, common to all students.

        The noise's targets are the teacher's and the reference's logits; the digits' targets are
        the labels and the control's shuffled labels, `[2, B]`.
        """
        (who, reference, teacher_logits), (digits, epoch, _) = member, shared
        phases, images, batch = self.phases, len(digits.labels), self.phases.schedule.batch
        taken = min(self.trait_batch or batch, images)
        key = partial(phases.key, who.member)
        order, weights = epoch_order(key("noise order"), epoch, len(teacher_logits), batch)
        trait_order, trait_weights = epoch_order(key("trait order"), epoch, images, taken)
        shuffled = jax.random.permutation(key("shuffled labels"), digits.labels)

        def batch_at(step: Int[Array, ""]) -> tuple[Batch, Batch]:
            seen, again = order[step], step % len(trait_order)
            real = trait_order[again]
            noise = phases.seen(who.member, seen, digits)
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
        imitation: ArmLoss,
        course: _Steering,
        shown: tuple[Batch, Batch],
    ) -> tuple[TrainState, Track]:
        """One step of one student, with its interventions."""
        noise, real = shown
        per_labels = lambda labels: self._trait(state.params, replace(real, targets=labels))
        grads, totals = jax.vmap(per_labels)(real.targets)
        trait, control = (jax.tree.map(lambda leaf, i=i: leaf[i], grads) for i in (0, 1))
        direction = jax.tree.map(partial(jnp.where, course.shuffled), control, trait)
        own = (*noise.targets, imitation, course.hold)
        targets = _SteeredTargets(own, trait, control, direction, course.gradient)
        after, own_totals = own_step(state, replace(noise, targets=targets))
        moved = jax.tree.map(jnp.subtract, after.params, state.params)
        params = without(after.params, component(moved, direction), course.step)
        down = jax.tree.map(jnp.subtract, state.params, params)
        return replace(after, params=params), Track(
            loss=own_totals.loss / own_totals.weight,
            trait_loss=totals.loss[0] / totals.weight[0],
            cosine=own_totals.cosine,
            control_cosine=own_totals.control_cosine,
            step_cosine=cosine(down, trait),
        )

    def _trait_loss(self, logits: Array, labels: Array) -> Array:
        return losses.cross_entropy(mlp.class_logits(self.phases.network, logits), labels)

    def _own_loss(self, logits: Array, targets: Any) -> Array:
        teacher_logits, reference_logits, imitation, hold = targets
        all_logits = mlp.chosen_logits(self.phases.network, "all")
        near = losses.kl_divergence(logits, reference_logits, all_logits)
        return self.phases.imitation_loss(logits, (teacher_logits, imitation)) + hold * near
