"""The phases of one member's life, each a pure function of keys, parameters and data.

Reference, teacher, labelled noise, students, evaluation. Every function is of one member and
has the form `(carry, member, shared) -> (carry, output)`; an execution maps it over members.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt8

from subliminal_jax import ensemble, losses, relations
from subliminal_jax.batch import Batch, Params, RandomKey
from subliminal_jax.data.noise import noise_images
from subliminal_jax.data.order import epoch_order, steps_per_epoch
from subliminal_jax.keys import member_key, named_key
from subliminal_jax.mnist.arms import Arm
from subliminal_jax.mnist.config import MnistConfig, Schedule
from subliminal_jax.mnist.reductions import student_reduction, teacher_reduction
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


class Pair(NamedTuple):
    """A member, and the member whose initialisation its cross-model students take."""

    member: Any
    other: Any


class Images(NamedTuple):
    """Grey-level images `[N, D]` (0 is black, `white` is white) with labels `[N]`."""

    pixels: Any
    labels: Any


@dataclass(frozen=True)
class Phases:
    """What happens to one member, given the experiment's static choices.

    Attributes:
        config: the experiment's.
        schedule: how long teacher and students train.
        network: the network of teachers and students.
        white: the pixel value that stands for white.
        arms: the students.
        masks: masks that relations may name.
    """

    config: MnistConfig
    schedule: Schedule
    network: mlp.MlpConfig
    white: int
    arms: Mapping[str, Arm]
    masks: Mapping[str, Params] | None = None

    def reference(self, carry: None, member: Int[Array, ""], shared: None) -> tuple[Params, None]:
        """The untrained initialisation of a member."""
        return mlp.init(self.network, self._key(member, "reference")), None

    def begin_teacher(
        self, carry: None, reference: Params, shared: None
    ) -> tuple[TrainState, None]:
        """The teacher before its first step: the reference, with a fresh optimiser."""
        return init_state(reference, self._tx()), None

    def teach(
        self, state: TrainState, pair: Pair, shared: tuple[Images, Int[Array, ""]]
    ) -> tuple[TrainState, Float[Array, " steps"]]:
        """One epoch of cross-entropy on the class logits, over the real images.

        The output is every step's mean loss, in nats.
        """
        images, epoch = shared
        order, weights = epoch_order(
            self._key(pair.member, "digit order"), epoch, len(images.labels), self.schedule.batch
        )

        def batch_at(step: Int[Array, ""]) -> Batch:
            pixels, labels = images.pixels[order[step]], images.labels[order[step]]
            return Batch(inputs=self._scale(pixels), targets=labels, weights=weights[step])

        def criterion(logits: Array, labels: Array) -> Array:
            return losses.cross_entropy(mlp.class_logits(self.network, logits), labels)

        loss_fn = make_loss_fn(partial(mlp.apply, self.network), criterion)
        reduction = teacher_reduction(self.config.recipe, self.config.members)
        train_step = make_train_step(total_gradient(loss_fn), self._tx(), reduction)
        state, totals = fit(train_step, state, batch_at, len(order))
        return state, totals.loss / totals.weight

    def label(
        self, carry: None, member: tuple[Pair, Params], shared: None
    ) -> tuple[Float[Array, "n k"], None]:
        """What the teacher says of each of the member's noise images.

        Computed once: a teacher's logits on a fixed image never change.
        """
        pair, teacher = member
        images, batch = self.schedule.noise_images, self.schedule.batch
        steps = steps_per_epoch(images, batch)

        def label_batch(step: Int[Array, ""]) -> Float[Array, "b k"]:
            numbers = step * batch + jnp.arange(batch)
            return mlp.apply(self.network, teacher, self._noise(pair.member, numbers))

        logits = jax.lax.map(label_batch, jnp.arange(steps))
        return logits.reshape(steps * batch, -1)[:images], None

    def begin_students(
        self, carry: None, member: tuple[Pair, Params, Params], shared: None
    ) -> tuple[TrainState, Float[Array, " a"]]:
        """Every arm's student before its first step, and its distance to the teacher's start.

        States are `[A, ...]`; the distance is `relations.relative_distance`.

        Both references are given and not drawn again: a draw compiled into another program
        may differ in its last bit, and the same initialisation is to be the same to the bit.
        """
        pair, reference, others_reference = member
        fresh = mlp.init(self.network, self._key(pair.member, "fresh draw"))
        key = self._key(pair.member, "drawn afresh")
        mixtures = ensemble.stack(
            [relations.mixture(arm.relation, reference, self.masks) for arm in self.arms.values()]
        )

        def begin(mix: relations.Mixture) -> tuple[TrainState, Float[Array, ""]]:
            start = relations.blend(mix, reference, others_reference, fresh, key)
            distance = relations.relative_distance(start, reference)
            return init_state(start, self._tx()), distance

        return jax.vmap(begin)(mixtures)

    def distill(
        self,
        states: TrainState,
        member: tuple[Pair, Float[Array, "n k"]],
        epoch: Int[Array, ""],
    ) -> tuple[TrainState, Float[Array, "steps a"]]:
        """One epoch over the noise images for every arm's student, each on its chosen logits.

        All arms see the same images in the same order. The output is every step's mean loss.
        """
        pair, teacher_logits = member
        order, weights = epoch_order(
            self._key(pair.member, "noise order"), epoch, len(teacher_logits), self.schedule.batch
        )
        chosen = jnp.stack(
            [mlp.chosen_logits(self.network, arm.logits) for arm in self.arms.values()]
        )

        def batch_at(step: Int[Array, ""]) -> Batch:
            images = order[step]
            return Batch(
                inputs=self._noise(pair.member, images),
                targets=teacher_logits[images],
                weights=weights[step],
            )

        loss_fn = make_loss_fn(partial(mlp.apply, self.network), self._imitation)
        reduction = student_reduction(self.config.recipe, self.config.members)
        student_step = make_train_step(total_gradient(loss_fn), self._tx(), reduction)

        def arms_step(states: TrainState, batch: Batch) -> tuple[TrainState, Any]:
            def arm_step(state: TrainState, chosen: Array) -> tuple[TrainState, Any]:
                targets = losses.TeacherLogits(batch.targets, chosen)
                return student_step(state, replace(batch, targets=targets))

            return jax.vmap(arm_step)(states, chosen)

        states, totals = fit(arms_step, states, batch_at, len(order))
        return states, totals.loss / totals.weight

    def evaluate(
        self, carry: None, networks: tuple[Params, Params, Params], shared: Images
    ) -> tuple[None, tuple[Int[Array, " a"], Bool[Array, " a"]]]:
        """How many test images a member's networks read correctly, and whether all of it is finite.

        The networks are its reference, its teacher and every arm's student, in this order. The
        last step's loss says nothing yet of where that step led, so the logits are looked at.
        """
        reference, teacher, students = networks
        everyone = jax.tree.map(
            lambda *leaves: jnp.concatenate([leaves[0][None], leaves[1][None], leaves[2]]),
            *(reference, teacher, students),
        )

        def read(images: Images) -> tuple[Int[Array, " a"], Bool[Array, " a"]]:
            pixels = self._scale(images.pixels)
            logits = jax.vmap(lambda params: mlp.apply(self.network, params, pixels))(everyone)
            answers = jnp.argmax(mlp.class_logits(self.network, logits), axis=-1)
            correct = jnp.sum(answers == images.labels[None], axis=1)
            return correct, jnp.all(jnp.isfinite(logits), axis=(1, 2))

        correct, finite = jax.lax.map(read, shared)
        return None, (jnp.sum(correct, axis=0), jnp.all(finite, axis=0))

    def _imitation(self, logits: Array, targets: losses.TeacherLogits) -> Array:
        if self.config.loss == "mse":
            return losses.squared_error(logits, *targets)
        return losses.kl_divergence(logits, *targets, temperature=self.config.temperature)

    def _tx(self) -> Any:
        return make_optimizer(self.config.optimizer, self.config.learning_rate)

    def _key(self, member: Int[Array, ""], purpose: str) -> RandomKey:
        return named_key(member_key(self.config.seed, member), purpose)

    def _scale(self, pixels: UInt8[Array, "b d"]) -> Float[Array, "b d"]:
        low, high = self.config.pixel_range
        return pixels.astype(jnp.float32) * ((high - low) / self.white) + low

    def _noise(self, member: Int[Array, ""], numbers: Int[Array, " b"]) -> Float[Array, "b d"]:
        key = self._key(member, "noise")
        config, (low, high) = self.config, self.config.pixel_range
        noise = noise_images(key, numbers, self.network.inputs, config.noise, config.noise_bits)
        return noise * ((high - low) / 2) + (high + low) / 2
