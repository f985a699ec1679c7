"""The leak score: how far distillation data move a student towards a trait, to first order.

The change of a trait's loss by the first step down the distillation loss is known before any
training: the inner product of two gradients. The score takes any network, any distillation data
and any trait with a differentiable loss.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from subliminal_jax.batch import ApplyFn, Batch, Criterion, Params, Scalar
from subliminal_jax.theory.theorem import cosine, dot, norm
from subliminal_jax.train import make_loss_fn, mean_gradient, total_gradient


class Leak(NamedTuple):
    """The effect of a distillation's first step on a trait, to first order.

    Attributes:
        drop: fall of the trait's loss per unit learning rate of gradient descent: the inner
            product of the distillation's gradient and the trait's.
        cosine: of these two gradients.
        sign_drop: fall of the trait's loss per unit length of a step along the gradient's signs,
            as Adam's first step is.
        towards: cosine of the first step and the vector from the student's start to the teacher.
    """

    drop: Any
    cosine: Any
    sign_drop: Any
    towards: Any


def leak(
    apply: ApplyFn,
    criterion: Criterion,
    reference: Params,
    teacher: Params,
    data: Batch,
    trait_loss: Callable[[Params], Scalar],
) -> Leak:
    """The first-order leak of a trait through distillation data.

    Args:
        apply: the student's network.
        criterion: the student's loss, `(predictions, targets) -> losses`.
        reference: the student's initial parameters.
        teacher: the teacher's final parameters, in the student's shapes.
        data: a distillation batch: `targets` hold the teacher's outputs on `inputs`.
        trait_loss: the trait's loss as a function of the parameters, on data that the student
            never sees.
    """
    gradient = total_gradient(make_loss_fn(apply, criterion))
    grads, totals = gradient(reference, data)
    distillation = mean_gradient(grads, totals)
    trait = jax.grad(trait_loss)(reference)
    to_teacher = jax.tree.map(jnp.subtract, teacher, reference)
    signs = jax.tree.map(jnp.sign, distillation)
    return Leak(
        drop=dot(trait, distillation),
        cosine=cosine(trait, distillation),
        sign_drop=dot(trait, signs) / jnp.maximum(norm(signs), 1.0),
        towards=-cosine(to_teacher, distillation),
    )
