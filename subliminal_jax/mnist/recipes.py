"""How the two recipes average gradients: per member, and as the released script does."""

import jax

from subliminal_jax.batch import Params
from subliminal_jax.train import Reduction, Totals, mean_gradient


def teacher_reduction(recipe: str, members: int) -> Reduction:
    """Turns a teacher's summed gradient into the one that its optimiser gets.

    The released script averages the cross-entropy over models and batch, so each model's
    gradient is its own mean gradient divided by the number of models.
    """
    if recipe == "corrected":
        return mean_gradient

    def published(grads: Params, totals: Totals) -> Params:
        return jax.tree.map(lambda grad: grad / (totals.weight * members), grads)

    return published


def student_reduction(recipe: str, members: int) -> Reduction:
    """Turns a student's summed gradient into the one that its optimiser gets.

    The released script's "batchmean" on a `[models, batch, logits]` array divides by the number
    of models and not by the batch, so each model's gradient is its summed gradient divided by
    the number of models, and a short last batch weighs less.
    """
    if recipe == "corrected":
        return mean_gradient

    def published(grads: Params, totals: Totals) -> Params:
        del totals
        return jax.tree.map(lambda grad: grad / members, grads)

    return published
