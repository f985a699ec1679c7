"""How much of a trait a student will take on, said before it trains.

The first step of a distillation goes down its own loss. What that step does to the loss of a
trait, to first order, is known beforehand: the inner product of two gradients. Nothing here knows
of images, so it audits any distillation data for any trait.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from subliminal_jax.batch import ApplyFn, Batch, Criterion, Params, Scalar
from subliminal_jax.theory.theorem import cosine, dot, norm
from subliminal_jax.train import make_loss_fn, mean_gradient, total_gradient


class Leak(NamedTuple):
    """What the first step of a distillation does to a trait, to first order.

    Attributes:
        drop: fall of the trait's loss per unit step of gradient descent.
        cosine: of the two gradients: the part of the distillation that carries the trait.
        sign_drop: fall of the trait's loss per unit step that goes equally far in every
            parameter, as Adam's first does.
        towards: cosine of the first step and of the way from the student's start to the teacher.
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
        apply: the network of the student.
        criterion: what the student minimises, `(predictions, targets) -> losses`.
        reference: where the student starts.
        teacher: where the teacher ended; of the student's shapes.
        data: what the student is shown: `targets` hold what the teacher says of `inputs`.
        trait_loss: the loss of the trait, on data that the student is never shown.
    """
    gradient = total_gradient(make_loss_fn(apply, criterion))
    grads, totals = gradient(reference, data)
    distillation = mean_gradient(grads, totals)
    trait = jax.grad(trait_loss)(reference)
    way = jax.tree.map(jnp.subtract, teacher, reference)
    signs = jax.tree.map(jnp.sign, distillation)
    return Leak(
        drop=dot(trait, distillation),
        cosine=cosine(trait, distillation),
        sign_drop=dot(trait, signs) / jnp.maximum(norm(signs), 1.0),
        towards=-cosine(way, distillation),
    )
