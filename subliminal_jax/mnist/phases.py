"""The phases of one member's experiment, each a pure function of keys, parameters and data.

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

from subliminal_jax import ensemble, losses
from subliminal_jax.batch import Batch, LossFn, Params, RandomKey
from subliminal_jax.data.epoch_order import epoch_order, steps_per_epoch
from subliminal_jax.data.noise import noise_images
from subliminal_jax.keys import member_key, named_key
from subliminal_jax.mnist import relations
from subliminal_jax.mnist.arms import Arm
from subliminal_jax.mnist.config import Lengths, MnistConfig
from subliminal_jax.mnist.recipes import student_reduction, teacher_reduction
from subliminal_jax.models import mlp
from subliminal_jax.optimizers import make_optimizer
from subliminal_jax.train import (
    GradFn,
    TrainState,
    fit,
    init_state,
    make_loss_fn,
    make_train_step,
    only,
    total_gradient,
)


class Dials(NamedTuple):
    """Settings that change no shape, so that one program serves any mixture of them.

    The fields are the config's fields of these names.
    """

    learning_rate: Any
    weight_scale: Any
    bias_scale: Any

    @classmethod
    def of(cls, config: Any) -> "Dials":
        """The dials of a config, or of anything with these fields."""
        return cls(config.learning_rate, config.weight_scale, config.bias_scale)


class Members(NamedTuple):
    """A block of members as arrays `[M]`, or one of them where functions of one member are mapped.

    Attributes:
        member: index of the member; all its random keys follow from it.
        partner: index of the member whose initialisation its cross-model students get.
        dials: its settings.
    """

    member: Any
    partner: Any
    dials: Dials


class Images(NamedTuple):
    """Grey-level images `[N, D]` (0 is black, `white` is white) with labels `[N]`."""

    pixels: Any
    labels: Any


class ArmLoss(NamedTuple):
    """An arm's imitation loss as arrays, so that arms can be mapped.

    Attributes:
        chosen: the imitated logits, boolean `[K]`.
        squares: whether the loss is the squared error; else the KL divergence.
        temperature: of the KL divergence.
    """

    chosen: Any
    squares: Any
    temperature: Any


@dataclass(frozen=True)
class Phases:
    """The phases of one member, for the experiment's static settings.

    Attributes:
        config: of the experiment.
        schedule: epochs, batch size and number of noise images.
        network: of teachers and students, initialised at scale 1; the dials scale the draws.
        white: the pixel value of white.
        arms: the students.
        masks: masks that relations may name.
    """

    config: MnistConfig
    schedule: Lengths
    network: mlp.MlpConfig
    white: int
    arms: Mapping[str, Arm]
    masks: Mapping[str, Params] | None = None

    @property
    def student_network(self) -> mlp.MlpConfig:
        """The network of the students."""
        depth = self.config.student_depth
        if depth is None:
            return self.network
        return replace(self.network, hidden=(self.config.width,) * depth)

    def reference(
        self, carry: None, who: tuple[Int[Array, ""], Dials], shared: None
    ) -> tuple[Params, None]:
        """The untrained initialisation of a member."""
        member, dials = who
        return self._initialisation(member, dials, "reference"), None

    def begin_teacher(
        self, carry: None, reference: Params, shared: None
    ) -> tuple[TrainState, None]:
        """The teacher before its first step: the reference, with a fresh optimiser."""
        return self._begun(reference), None

    def teach(
        self, state: TrainState, who: Members, shared: tuple[Images, Int[Array, ""]]
    ) -> tuple[TrainState, Float[Array, " steps"]]:
        """One epoch of cross-entropy on the class logits, over the real images.

        The output is every step's mean loss, in nats.
        """
        images, epoch = shared
        order, weights = epoch_order(
            self.key(who.member, "digit order"), epoch, len(images.labels), self.schedule.batch
        )

        def batch_at(step: Int[Array, ""]) -> Batch:
            pixels, labels = images.pixels[order[step]], images.labels[order[step]]
            return Batch(inputs=self.scale(pixels), targets=labels, weights=weights[step])

        def criterion(logits: Array, labels: Array) -> Array:
            return losses.cross_entropy(mlp.class_logits(self.network, logits), labels)

        loss_fn = make_loss_fn(partial(mlp.apply, self.network), criterion)
        reduction = teacher_reduction(self.config.recipe, self.config.members)
        tx = self._optimizer(who.dials.learning_rate)
        train_step = make_train_step(self.gradient(loss_fn), tx, reduction)
        state, totals = fit(train_step, state, batch_at, len(order))
        return state, totals.loss / totals.weight

    def label(
        self, carry: None, member: tuple[Members, Params], shared: Images
    ) -> tuple[Float[Array, "n k"], None]:
        """The teacher's logits on each of the images that the member's students see.

        Computed once: a teacher's logits on a fixed image never change.
        """
        who, teacher = member
        images, batch = self.schedule.noise_images, self.schedule.batch
        steps = steps_per_epoch(images, batch)

        def label_batch(step: Int[Array, ""]) -> Float[Array, "b k"]:
            numbers = step * batch + jnp.arange(batch)
            return mlp.apply(self.network, teacher, self.seen(who.member, numbers, shared))

        logits = jax.lax.map(label_batch, jnp.arange(steps))
        return logits.reshape(steps * batch, -1)[:images], None

    def begin_students(
        self, carry: None, member: tuple[Members, Params, Params], shared: None
    ) -> tuple[TrainState, Float[Array, " a"]]:
        """Every arm's student before its first step, and its distance to the teacher's start.

        States are `[A, ...]`; the distance is `relations.relative_distance`.

        Both references are arguments and not drawn again: a draw compiled into another program
        may differ in its last bit, but equal initialisations must be bitwise equal.
        """
        who, *references = member
        network = self.student_network
        fresh = self._initialisation(who.member, who.dials, "fresh draw", network)
        reference, others_reference = (layers_like(fresh, one) for one in references)
        key = self.key(who.member, "drawn afresh")
        mixtures = ensemble.stack(
            [relations.mixture(arm.relation, reference, self.masks) for arm in self.arms.values()]
        )

        def begin(mix: relations.Mixture) -> tuple[TrainState, Float[Array, ""]]:
            start = relations.blend(mix, reference, others_reference, fresh, key)
            distance = relations.relative_distance(start, reference)
            return self._begun(start), distance

        return jax.vmap(begin)(mixtures)

    def distill(
        self,
        states: TrainState,
        member: tuple[Members, Float[Array, "n k"]],
        shared: tuple[Images, Int[Array, ""]],
    ) -> tuple[TrainState, Float[Array, "steps a"]]:
        """One epoch over the noise images for every arm's student, each on its chosen logits.

        All arms see the same images in the same order. The output is every step's mean loss.
        """
        (who, teacher_logits), (digits, epoch) = member, shared
        order, weights = epoch_order(
            self.key(who.member, "noise order"), epoch, len(teacher_logits), self.schedule.batch
        )
        imitations = ensemble.stack([self.imitation_of(arm) for arm in self.arms.values()])

        def batch_at(step: Int[Array, ""]) -> Batch:
            images = order[step]
            return Batch(
                inputs=self.seen(who.member, images, digits),
                targets=teacher_logits[images],
                weights=weights[step],
            )

        loss_fn = make_loss_fn(partial(mlp.apply, self.student_network), self.imitation_loss)
        reduction = student_reduction(self.config.recipe, self.config.members)
        tx = self._optimizer(who.dials.learning_rate)
        student_step = make_train_step(self.gradient(loss_fn), tx, reduction)

        def arms_step(states: TrainState, batch: Batch) -> tuple[TrainState, Any]:
            def arm_step(state: TrainState, imitation: ArmLoss) -> tuple[TrainState, Any]:
                return student_step(state, replace(batch, targets=(batch.targets, imitation)))

            return jax.vmap(arm_step)(states, imitations)

        states, totals = fit(arms_step, states, batch_at, len(order))
        return states, totals.loss / totals.weight

    def evaluate(
        self, carry: None, networks: tuple[Params, Params, Params], shared: Images
    ) -> tuple[None, tuple[Int[Array, " a"], Bool[Array, " a"]]]:
        """Number of correct test images, and whether all logits are finite, for each network.

        The networks are the member's reference, its teacher and every arm's student, in this
        order. The last step's loss is computed before that step, so only the logits show whether
        the final parameters are finite.
        """
        reference, teacher, students = networks
        pair = ensemble.stack([reference, teacher])

        def read(images: Images) -> tuple[Int[Array, " a"], Bool[Array, " a"]]:
            pixels = self.scale(images.pixels)
            over = lambda network: jax.vmap(lambda params: mlp.apply(network, params, pixels))
            logits = jnp.concatenate(
                [over(self.network)(pair), over(self.student_network)(students)]
            )
            answers = jnp.argmax(mlp.class_logits(self.network, logits), axis=-1)
            correct = jnp.sum(answers == images.labels[None], axis=1)
            return correct, jnp.all(jnp.isfinite(logits), axis=(1, 2))

        correct, finite = jax.lax.map(read, shared)
        return None, (jnp.sum(correct, axis=0), jnp.all(finite, axis=0))

    def imitation_of(self, arm: Arm) -> ArmLoss:
        """An arm's imitation loss as arrays."""
        chosen = mlp.chosen_logits(self.network, arm.logits)
        if arm.aux is not None:
            chosen &= jnp.arange(len(chosen)) < self.network.classes + arm.aux
        loss = arm.loss or self.config.loss
        temperature = self.config.temperature if arm.temperature is None else arm.temperature
        return ArmLoss(chosen, jnp.asarray(loss == "mse"), jnp.asarray(temperature))

    def imitation_loss(self, logits: Array, targets: tuple[Array, ArmLoss]) -> Array:
        """The loss of each image; the targets are the teacher's logits and an `ArmLoss`."""
        teacher_logits, (chosen, squares, temperature) = targets
        divergence = losses.kl_divergence(logits, teacher_logits, chosen, temperature)
        kinds = {arm.loss or self.config.loss for arm in self.arms.values()}
        if kinds == {"kl"}:
            return divergence
        squared = losses.squared_error(logits, teacher_logits, chosen)
        return jnp.where(squares, squared, divergence)

    def gradient(self, loss_fn: LossFn) -> GradFn:
        """The gradient of the summed loss, zero for layers that do not train."""
        gradient = total_gradient(loss_fn)
        if self.config.train_heads:
            return gradient
        return only(gradient, lambda layer: layer != "logits")

    def _initialisation(
        self,
        member: Int[Array, ""],
        dials: Dials,
        purpose: str,
        network: mlp.MlpConfig | None = None,
    ) -> Params:
        unit = mlp.init(network or self.network, self.key(member, purpose))
        scales = {"kernel": dials.weight_scale, "bias": dials.bias_scale}
        return {
            layer: {name: scales[name] * leaf for name, leaf in leaves.items()}
            for layer, leaves in unit.items()
        }

    def _begun(self, params: Params) -> TrainState:
        """The state before the first step, which is the same for every learning rate."""
        any_rate = 1.0
        return init_state(params, self._optimizer(any_rate))

    def _optimizer(self, learning_rate: Any) -> Any:
        return make_optimizer(self.config.optimizer, learning_rate)

    def key(self, member: Int[Array, ""], purpose: str) -> RandomKey:
        """A member's key for one purpose."""
        return named_key(member_key(self.config.seed, member), purpose)

    def scale(self, pixels: UInt8[Array, "b d"]) -> Float[Array, "b d"]:
        """Real images, scaled from `[0, white]` to the config's pixel range."""
        low, high = self.config.pixel_range
        return pixels.astype(jnp.float32) * ((high - low) / self.white) + low

    def seen(
        self, member: Int[Array, ""], numbers: Int[Array, " b"], digits: Images
    ) -> Float[Array, "b d"]:
        """The images with these numbers among those that a member's students see."""
        config, (low, high) = self.config, self.config.pixel_range
        if config.noise == "digits":
            return self.scale(digits.pixels[numbers % len(digits.labels)])
        noise = noise_images(
            self.key(member, "noise"),
            numbers,
            self.network.inputs,
            config.noise,
            config.noise_bits,
            config.blur,
        )
        return noise * ((high - low) / 2) + (high + low) / 2


def layers_like(fresh: Params, params: Params) -> Params:
    """The layers of `fresh`: those of the same name and shape from `params`, the rest its own."""

    def shapes(leaves: Params) -> list[tuple[int, ...]]:
        return [leaf.shape for leaf in jax.tree.leaves(leaves)]

    return {
        layer: params[layer]
        if layer in params and shapes(params[layer]) == shapes(leaves)
        else leaves
        for layer, leaves in fresh.items()
    }
