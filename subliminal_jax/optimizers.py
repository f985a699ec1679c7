"""Optimisers by name, with the defaults of the paper's code."""

from typing import Literal, TypeAlias

import optax

OptimizerName: TypeAlias = Literal["adam", "sgd"]


def make_optimizer(name: OptimizerName, learning_rate: float) -> optax.GradientTransformation:
    """The optimiser `name` at a constant learning rate.

    Adam has betas .9 and .999 and epsilon 1e-8, no decay, no schedule (as the released script).
    """
    return {"adam": optax.adam, "sgd": optax.sgd}[name](learning_rate)
