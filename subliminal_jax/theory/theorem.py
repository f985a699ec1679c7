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

from subliminal_jax import ensemble
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


class _Students(NamedTuple):
    """How the students of a case start, `[E + P + 3]`; all are updated in one loop.

    There is one per eps, one per perturbation, and one at each of the places `small`, `other` and
    `untaught`, all at the small eps: of the shared initialisation, of the independent one, and of
    the independent one with the untrained teacher.

    Attributes:
        sigma: the perturbation of the shared initialisation.
        apart: 1 for the independent initialisation, 0 for the shared one.
        eps: the length of the teacher's step.
    """

    sigma: Any
    apart: Any
    eps: Any


class _Places(NamedTuple):
    """Places of the last students; see `_Students`."""

    small: int
    other: int
    untaught: int


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
    slope, student_slope = predicted_slope(
        apply, reference, direction, start.inputs, start.imitation
    )
    length = norm(student_slope)
    # A student whose direction vanishes takes no step.
    alpha = jnp.where(length > 0, size / jnp.where(length > 0, length, 1.0), 0.0)

    students, places = _students(grids)
    updates = _updates(apply, start, direction, students)
    inner = jax.vmap(lambda update: dot(update, direction))(updates)
    cosines = jax.vmap(lambda update: cosine(update, direction))(updates)
    untaught = ensemble.member(updates, places.untaught)
    other_update = ensemble.member(updates, places.other)

    epses, steps = len(grids.eps), len(grids.steps)
    which, lengths = _steps(grids, places, alpha, grids.small * size / norm(other_update))
    starts = lambda which: _start_at(start, jnp.zeros(()), 1.0 * (which == places.other))
    losses = _losses_after(loss, starts, updates, which, lengths)
    change = losses[: epses + steps] - loss(reference)
    other_after, other_before = losses[epses + steps :]
    taught = add(other_update, untaught, -1.0)
    return Measured(
        slope=slope,
        student_slope=length,
        norm=size,
        inner=inner[:epses],
        change=change[:epses],
        predicted_change=-grids.eps * alpha * slope / stretch,
        step_change=change[epses:],
        perturbed_cosine=cosines[epses : places.small],
        other_cosine=cosines[places.other],
        other_effect=-cosine(taught, jax.grad(loss)(other)),
        other_change=other_after - other_before,
    )


def _students(grids: Grids) -> tuple[_Students, _Places]:
    """All students of a case, and the places of the last three."""
    epses, sigmas = len(grids.eps), len(grids.sigmas)
    places = _Places(*(epses + sigmas + last for last in range(3)))
    sigma = jnp.concatenate([jnp.zeros(epses), grids.sigmas, jnp.zeros(3)])
    apart = jnp.zeros_like(sigma).at[places.other :].set(1.0)
    eps = jnp.concatenate([grids.eps, jnp.full(sigmas + 2, grids.small), jnp.zeros(1)])
    return _Students(sigma, apart, eps), places


def _start_at(start: Start, sigma: Scalar, apart: Scalar) -> Params:
    """A student's start: the teacher's, perturbed, or all the way to the independent one."""
    away = add(start.other, start.reference, -1.0)
    return add(add(start.reference, start.nearby, sigma), away, apart)


def _updates(apply: ApplyFn, start: Start, direction: Params, students: _Students) -> Params:
    """The directions of all students, with a leading axis."""

    def update(student: _Students) -> Params:
        teacher = add(start.reference, direction, student.eps)
        own = _start_at(start, student.sigma, student.apart)
        return student_direction(apply, own, teacher, start.inputs, start.imitation)

    return jax.lax.map(update, students)


def _steps(
    grids: Grids, places: _Places, alpha: Scalar, other_length: Scalar
) -> tuple[Int[Array, " s"], Float[Array, " s"]]:
    """All steps of a case: whose update, and how many times it is taken.

    There is one per eps, one per length at the small eps, and two of the independent student: of
    the teacher's length, and of length 0.
    """
    epses, steps = len(grids.eps), len(grids.steps)
    ends = [jnp.full(steps, places.small), jnp.full(2, places.other)]
    which = jnp.concatenate([jnp.arange(epses), *ends])
    other_lengths = jnp.array([1.0, 0.0]) * other_length
    return which, jnp.concatenate([jnp.full(epses, alpha), alpha * grids.steps, other_lengths])


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
        return loss(add(starts(which), ensemble.member(updates, which), length))

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
