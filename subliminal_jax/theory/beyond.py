"""The theorem's claim outside its premises: many steps, Adam, sampled labels."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float

from subliminal_jax import ensemble
from subliminal_jax.batch import ApplyFn, Batch, Criterion, Params, Scalar
from subliminal_jax.losses import EXCLUDED, cross_entropy
from subliminal_jax.models import mlp
from subliminal_jax.theory.theorem import Imitation, Start, add, cosine, imitation_loss
from subliminal_jax.train import fit, init_state, make_loss_fn, make_train_step, total_gradient


class Moved(NamedTuple):
    """How a student's training moved it along its teacher's.

    Attributes:
        cosine: of the student's displacement and its teacher's, each from its own start.
        change: of the teacher's loss (cross-entropy on digits, nats) over the student's training.
        teacher_change: of the same loss over the teacher's training.
    """

    cosine: Any
    change: Any
    teacher_change: Any


def follow(
    network: mlp.MlpConfig,
    tx: optax.GradientTransformation,
    steps: int,
    start: Start,
    uniforms: Float[Array, "s b"],
) -> Moved:
    """Train a teacher and its students for equally many steps; measure how they moved.

    The teacher descends the cross-entropy of its class logits on digits, each student the KL
    divergence to the teacher's auxiliary logits on `start.inputs`; training is full-batch.

    Args:
        network: of teacher and students.
        tx: the optimiser of teacher and students.
        steps: number of steps.
        start: the case; its imitation and the kind of its trait are ignored.
        uniforms: one number on [0, 1) per step and image, which decides the sampled label.

    Returns:
        Leaves `[2, 2]`. First axis: the teacher's initialisation, an independent one. Second:
        trained on the teacher's logits, on a label sampled from their softmax at every step.
    """
    apply = partial(mlp.apply, network)
    reference, trait_data = start.reference, start.trait
    chosen = mlp.chosen_logits(network, "aux")
    imitation = Imitation(jnp.bool_(True), jnp.where(chosen, 1.0, 0.0))

    def trait(logits: Array, labels: Array) -> Array:
        return cross_entropy(mlp.class_logits(network, logits), labels)

    def loss(params: Params) -> Scalar:
        return jnp.mean(trait(apply(params, trait_data.images), trait_data.labels))

    def digits(_: Array) -> Batch:
        images, labels = trait_data.images, trait_data.labels
        return Batch(inputs=images, targets=labels, weights=jnp.ones(len(labels)))

    train = partial(_trained, apply, tx, steps)
    teacher = train(reference, trait, digits)
    logits = apply(teacher, start.inputs)

    def student(student_start: Params, sampled: Bool[Array, ""]) -> Moved:
        def imitated(step: Array) -> Batch:
            labels = sample_labels(uniforms[step], logits, chosen)
            targets = (jnp.where(sampled, labels, logits), imitation)
            return Batch(inputs=start.inputs, targets=targets, weights=jnp.ones(len(logits)))

        end = train(student_start, imitation_loss, imitated)
        displacement = add(end, student_start, -1.0)
        teacher_displacement = add(teacher, reference, -1.0)
        return Moved(
            cosine=cosine(displacement, teacher_displacement),
            change=loss(end) - loss(student_start),
            teacher_change=loss(teacher) - loss(reference),
        )

    starts = ensemble.stack([reference, start.other])
    over_labels = jax.vmap(student, in_axes=(None, 0))
    return jax.vmap(over_labels, in_axes=(0, None))(starts, jnp.array([False, True]))


def _trained(
    apply: ApplyFn,
    tx: optax.GradientTransformation,
    steps: int,
    params: Params,
    criterion: Criterion,
    batch_at: Callable[[Array], Batch],
) -> Params:
    step = make_train_step(total_gradient(make_loss_fn(apply, criterion)), tx)
    return fit(step, init_state(params, tx), batch_at, steps)[0].params


def sample_labels(
    uniforms: Float[Array, " b"], logits: Float[Array, "b k"], chosen: Bool[Array, " k"]
) -> Float[Array, "b k"]:
    """Logits with probability 1 on one label per image, sampled from the chosen logits' softmax.

    Inverse transform sampling: the label where the cumulative probability passes the uniform.
    """
    sums = jnp.cumsum(jax.nn.softmax(jnp.where(chosen, logits, EXCLUDED)), axis=-1)
    below = jnp.sum(sums[:, :-1] <= uniforms[:, None], axis=-1)
    return jnp.where(jax.nn.one_hot(below, len(chosen), dtype=bool), 0.0, EXCLUDED)
