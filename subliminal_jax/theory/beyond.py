"""What is left of the theorem where its premises end: many steps, Adam, sampled labels."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float

from subliminal_jax.batch import Batch, Criterion, Params, Scalar
from subliminal_jax.losses import EXCLUDED, cross_entropy
from subliminal_jax.models import mlp
from subliminal_jax.theory.theorem import Imitation, Start, add, cosine, imitation_loss
from subliminal_jax.train import fit, init_state, make_loss_fn, make_train_step, total_gradient


class Moved(NamedTuple):
    """How far along a student has come.

    Attributes:
        cosine: of the student's whole way with its teacher's, both from their own start.
        change: of the teacher's loss (cross-entropy on digits, nats) on the student's way.
        teacher_change: the same on the teacher's way.
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
    """Train a teacher for some steps and students for as many, and see where they went.

    The teacher descends the cross-entropy of its class logits on digits, each student the KL
    divergence to the teacher's auxiliary logits on other inputs; all batches are whole.

    Args:
        network: of teacher and students.
        tx: the optimiser of all of them.
        steps: how many.
        start: the case; its imitation and the kind of its trait are not used.
        uniforms: numbers on (0, 1), one a step and image, that decide the sampled labels.

    Returns:
        Every leaf `[2, 2]`: the teacher's initialisation or another; the teacher's logits, or
        one label a step and image that is sampled from their softmax.
    """
    apply = partial(mlp.apply, network)
    reference, trait_data = start.reference, start.trait
    chosen = mlp.chosen_logits(network, "aux")
    imitation = Imitation(jnp.bool_(True), jnp.where(chosen, 1.0, 0.0))

    def trait(logits: Array, labels: Array) -> Array:
        return cross_entropy(mlp.class_logits(network, logits), labels)

    def loss(params: Params) -> Scalar:
        return jnp.mean(trait(apply(params, trait_data.images), trait_data.labels))

    def train(params: Params, criterion: Criterion, batch_at: Callable[[Array], Batch]) -> Params:
        step = make_train_step(total_gradient(make_loss_fn(apply, criterion)), tx)
        return fit(step, init_state(params, tx), batch_at, steps)[0].params

    def digits(_: Array) -> Batch:
        images, labels = trait_data.images, trait_data.labels
        return Batch(inputs=images, targets=labels, weights=jnp.ones(len(labels)))

    teacher = train(reference, trait, digits)
    logits = apply(teacher, start.inputs)

    def student(student_start: Params, sampled: Bool[Array, ""]) -> Moved:
        def imitated(step: Array) -> Batch:
            labels = sample_labels(uniforms[step], logits, chosen)
            targets = (jnp.where(sampled, labels, logits), imitation)
            return Batch(inputs=start.inputs, targets=targets, weights=jnp.ones(len(logits)))

        end = train(student_start, imitation_loss, imitated)
        way, teachers_way = add(end, student_start, -1.0), add(teacher, reference, -1.0)
        return Moved(
            cosine=cosine(way, teachers_way),
            change=loss(end) - loss(student_start),
            teacher_change=loss(teacher) - loss(reference),
        )

    starts = jax.tree.map(lambda *leaves: jnp.stack(leaves), reference, start.other)
    over_labels = jax.vmap(student, in_axes=(None, 0))
    return jax.vmap(over_labels, in_axes=(0, None))(starts, jnp.array([False, True]))


def sample_labels(
    uniforms: Float[Array, " b"], logits: Float[Array, "b k"], chosen: Bool[Array, " k"]
) -> Float[Array, "b k"]:
    """One label an image from the softmax over the chosen logits, as logits that are sure of it.

    The label is where the running sum of the probabilities passes the uniform number.
    """
    sums = jnp.cumsum(jax.nn.softmax(jnp.where(chosen, logits, EXCLUDED)), axis=-1)
    below = jnp.sum(sums[:, :-1] <= uniforms[:, None], axis=-1)
    return jnp.where(jax.nn.one_hot(below, len(chosen), dtype=bool), 0.0, EXCLUDED)
