"""Theorem 1 of Cloud et al. 2025 (section 6.1, appendix C) as measurable quantities.

A teacher takes one small step `eps * D_T` down any loss `L_T` of the parameters. A student of the
same initialisation takes one step `alpha * D_S` down its imitation loss, on the teacher's logits on
any inputs. Then `D_S . D_T = eps * A + O(eps^2)` with

    A = mean over x of g(x)^T M(x) g(x) >= 0,    g(x) = the derivative of the logits along D_T,

so that either `A = 0`, or the student's step decreases `L_T` for small enough `eps`. `M(x)` is the
Hessian of the imitation loss with respect to the student's logits, at the teacher's logits.

Here the teacher's direction is scaled to the norm of its initialisation, and the student's step to
the length of its teacher's, so that `eps` and the step size mean the same in every network.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from subliminal_jax.batch import ApplyFn, Batch, Params, Scalar
from subliminal_jax.losses import EXCLUDED, kl_divergence
from subliminal_jax.train import make_loss_fn, mean_gradient, total_gradient


class Imitation(NamedTuple):
    """A student's imitation loss; the theorem covers both kinds.

    Attributes:
        softmax: true for the softmax cross-entropy over the logits of positive weight, false for
            the weighted squared error `sum_i w_i (z_i - y_i)^2`.
        weights: weight of each logit, `[K]`; 0 leaves it out.
    """

    softmax: Any
    weights: Any


class Start(NamedTuple):
    """One case of the theorem.

    Attributes:
        reference: the teacher's initialisation, and the student's where it is shared.
        other: an independent initialisation.
        nearby: the perturbation of a shared initialisation, before scaling.
        inputs: the student's inputs, `[B, D]`.
        imitation: the student's loss.
        trait: the arguments of the teacher's loss besides the parameters.
    """

    reference: Params
    other: Params
    nearby: Params
    inputs: Any
    imitation: Imitation
    trait: Any


class Grids(NamedTuple):
    """Step sizes and perturbations at which a case is measured.

    Attributes:
        eps: lengths of the teacher's step, relative to the norm of its initialisation, `[E]`.
        steps: lengths of the student's step, relative to the teacher's step, `[S]`.
        sigmas: perturbations of the student's initialisation: factors of `Start.nearby`, `[P]`.
        small: the eps for `steps`, for `sigmas` and for the independent initialisation.
    """

    eps: Any
    steps: Any
    sigmas: Any
    small: Any


class Measured(NamedTuple):
    """Measurements of one case; `D_T` is scaled to the norm of the initialisation.

    Attributes:
        slope: the predicted A.
        student_slope: norm of the derivative of D_S by eps; A is at most `norm` times this.
        norm: norm of the initialisation.
        inner: D_S . D_T at every eps, `[E]`.
        change: change of the teacher's loss by a student's step as long as its teacher's, `[E]`.
        predicted_change: the same to first order, `[E]`.
        step_change: change of the teacher's loss by every step in `Grids.steps`, at the small
            eps, `[S]`.
        perturbed_cosine: cosine of D_S and D_T for every perturbation, at the small eps, `[P]`.
        other_cosine: cosine of D_S and D_T for the independent initialisation, at the small eps.
        other_effect: cosine of two directions at the independent initialisation: the change of D_S
            due to the teacher's step, and descent of the teacher's loss.
        other_change: change of the teacher's loss by the independent student's step.
    """

    slope: Any
    student_slope: Any
    norm: Any
    inner: Any
    change: Any
    predicted_change: Any
    step_change: Any
    perturbed_cosine: Any
    other_cosine: Any
    other_effect: Any
    other_change: Any


def imitation_loss(
    predictions: Float[Array, "*batch k"], targets: tuple[Float[Array, "*batch k"], Imitation]
) -> Float[Array, "*batch"]:
    """The imitation loss of each example.

    The cross-entropy is computed as the KL divergence, from which it differs by the teacher's
    entropy: a constant in the student's parameters.
    """
    logits, (softmax, weights) = targets
    squares = (predictions - logits) ** 2 @ weights
    chosen = jnp.asarray(weights > 0)
    return jnp.where(softmax, kl_divergence(predictions, logits, chosen), squares)


def curvature_product(
    logits: Float[Array, "*batch k"], change: Float[Array, "*batch k"], imitation: Imitation
) -> Float[Array, "*batch k"]:
    """`M g`, with M the Hessian of the imitation loss with respect to the logits, at its minimum.

    `M = 2 diag(w)` for the squared error and `diag(p) - p p^T` for the cross-entropy, with p the
    softmax over the chosen logits. Both are positive semidefinite.
    """
    p = jax.nn.softmax(jnp.where(imitation.weights > 0, logits, EXCLUDED))
    softmax = p * (change - jnp.sum(p * change, axis=-1, keepdims=True))
    weights = jnp.broadcast_to(imitation.weights, change.shape)
    return jnp.where(imitation.softmax, softmax, 2 * weights * change)


def student_direction(
    apply: ApplyFn, student: Params, teacher: Params, inputs: Array, imitation: Imitation
) -> Params:
    """`D_S`: minus the gradient of the mean imitation loss on the teacher's logits."""
    batch = Batch(
        inputs=inputs, targets=(apply(teacher, inputs), imitation), weights=jnp.ones(len(inputs))
    )
    gradient = total_gradient(make_loss_fn(apply, imitation_loss))
    return scale(-1.0, mean_gradient(*gradient(student, batch)))


def predicted_slope(
    apply: ApplyFn, reference: Params, direction: Params, inputs: Array, imitation: Imitation
) -> tuple[Scalar, Params]:
    """The theorem's A, and `d D_S / d eps` at `eps = 0`, from derivatives of the logits alone.

    A is `mean g^T M g` (forward mode); the other is `mean J^T M g` (reverse mode), with J the
    Jacobian of the logits. Neither takes a teacher's step or a student's gradient.
    """
    logits, change = jax.jvp(lambda params: apply(params, inputs), (reference,), (direction,))
    curved = curvature_product(logits, change, imitation)
    _, backward = jax.vjp(lambda params: apply(params, inputs), reference)
    (student_slope,) = backward(curved / len(inputs))
    return jnp.sum(change * curved) / len(inputs), student_slope


def measure(
    apply: ApplyFn, trait_loss: Callable[[Params, Any], Scalar], start: Start, grids: Grids
) -> Measured:
    """Measure one case.

    Args:
        apply: the network.
        trait_loss: the teacher's loss, `(params, start.trait) -> scalar`; any function.
        start: the case.
        grids: step sizes and perturbations.
    """
    reference, other = start.reference, start.other
    loss = lambda params: trait_loss(params, start.trait)
    gradient, size = jax.grad(loss)(reference), norm(reference)
    stretch = size / norm(gradient)
    direction = scale(-stretch, gradient)
    seen = start.inputs, start.imitation
    slope, student_slope = predicted_slope(apply, reference, direction, *seen)
    length = norm(student_slope)
    # A student whose direction vanishes takes no step.
    alpha = jnp.where(length > 0, size / jnp.where(length > 0, length, 1.0), 0.0)

    # One loop over all students: one per eps, one per perturbation, and two of the independent
    # initialisation: with the teacher at the small eps, and with the untrained teacher.
    epses, steps, sigmas = len(grids.eps), len(grids.steps), len(grids.sigmas)
    sigma = jnp.concatenate([jnp.zeros(epses), grids.sigmas, jnp.zeros(3)])
    apart = jnp.zeros_like(sigma).at[-2:].set(1.0)
    eps = jnp.concatenate([grids.eps, jnp.full(sigmas + 2, grids.small), jnp.zeros(1)])

    def start_at(sigma: Scalar, apart: Scalar) -> Params:
        away = add(other, reference, -1.0)
        return add(add(reference, start.nearby, sigma), away, apart)

    def update(student: tuple[Scalar, Scalar, Scalar]) -> Params:
        sigma, apart, eps = student
        teacher = add(reference, direction, eps)
        return student_direction(apply, start_at(sigma, apart), teacher, *seen)

    updates = jax.lax.map(update, (sigma, apart, eps))
    inner = jax.vmap(lambda update: dot(update, direction))(updates)
    cosines = jax.vmap(lambda update: cosine(update, direction))(updates)
    untaught = jax.tree.map(lambda leaf: leaf[-1], updates)
    other_update = jax.tree.map(lambda leaf: leaf[-2], updates)

    # One loop over all steps: one per eps, one per length at the small eps, and the independent
    # student's, of the teacher's length and of length 0.
    which = jnp.concatenate([jnp.arange(epses), jnp.full(steps, -3), jnp.full(2, -2)])
    other_lengths = jnp.array([1.0, 0.0]) * grids.small * size / norm(other_update)
    lengths = jnp.concatenate([jnp.full(epses, alpha), alpha * grids.steps, other_lengths])
    starts = lambda which: start_at(jnp.zeros(()), 1.0 * (which == -2))
    losses = _losses_after(loss, starts, updates, which, lengths)
    change = losses[: epses + steps] - loss(reference)
    taught = add(other_update, untaught, -1.0)
    return Measured(
        slope=slope,
        student_slope=length,
        norm=size,
        inner=inner[:epses],
        change=change[:epses],
        predicted_change=-grids.eps * alpha * slope / stretch,
        step_change=change[epses:],
        perturbed_cosine=cosines[epses:-3],
        other_cosine=cosines[-2],
        other_effect=-cosine(taught, jax.grad(loss)(other)),
        other_change=losses[-2] - losses[-1],
    )


def _losses_after(
    loss: Callable[[Params], Scalar],
    starts: Callable[[Scalar], Params],
    updates: Params,
    which: Int[Array, " s"],
    lengths: Float[Array, " s"],
) -> Float[Array, " s"]:
    """The teacher's loss after each step: `lengths` times the update `which`, from its start."""

    def after(step: tuple[Array, Scalar]) -> Scalar:
        which, length = step
        update = jax.tree.map(lambda leaf: leaf[which], updates)
        return loss(add(starts(which), update, length))

    return jax.lax.map(after, (which, lengths))


def add(params: Params, direction: Params, length: Array | float) -> Params:
    """`params + length * direction`."""
    return jax.tree.map(lambda p, d: p + length * d, params, direction)


def scale(factor: Array | float, tree: Params) -> Params:
    """`factor * tree`."""
    return jax.tree.map(lambda leaf: factor * leaf, tree)


def dot(a: Params, b: Params) -> Scalar:
    """The inner product of two trees."""
    products = jax.tree.map(lambda x, y: jnp.sum(x * y), a, b)
    return jax.tree.reduce(jnp.add, products)


def norm(tree: Params) -> Scalar:
    """The Euclidean norm of a tree."""
    return jnp.sqrt(dot(tree, tree))


def cosine(a: Params, b: Params) -> Scalar:
    """The cosine of two trees; 0 where either is 0."""
    lengths = norm(a) * norm(b)
    return jnp.where(lengths > 0, dot(a, b) / jnp.where(lengths > 0, lengths, 1.0), 0.0)
