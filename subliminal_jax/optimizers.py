"""Optimisers by name, with the defaults of the paper's code."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

import optax
from jaxtyping import Array, Float

OptimizerName: TypeAlias = Literal["adam", "sgd"]
Decay: TypeAlias = Literal["constant", "linear", "cosine"]


def make_optimizer(
    name: OptimizerName, learning_rate: float | Float[Array, ""]
) -> optax.GradientTransformation:
    """The optimiser `name` at a constant learning rate.

    Adam has betas .9 and .999 and epsilon 1e-8, no decay, no schedule (as the released script).
    """
    return {"adam": optax.adam, "sgd": optax.sgd}[name](learning_rate)


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A learning rate over the steps of a training.

    Attributes:
        peak: the highest.
        steps: of the training.
        decay: how it falls after warming up.
        end: the share of the peak at which it ends; not for a constant one.
        warmup: steps in which it rises linearly from 0.
    """

    peak: float
    steps: int
    decay: Decay = "linear"
    end: float = 0.1
    warmup: int = 0

    def __call__(self) -> optax.Schedule:
        """The rate as a function of the step."""
        falling = max(1, self.steps - self.warmup)
        after = {
            "constant": optax.constant_schedule(self.peak),
            "linear": optax.linear_schedule(self.peak, self.end * self.peak, falling),
            "cosine": optax.cosine_decay_schedule(self.peak, falling, self.end),
        }[self.decay]
        if not self.warmup:
            return after
        before = optax.linear_schedule(0.0, self.peak, self.warmup)
        return optax.join_schedules([before, after], [self.warmup])


def language_optimizer(
    name: OptimizerName, schedule: Schedule, clip: float, weight_decay: float = 0.0
) -> optax.GradientTransformation:
    """The optimiser of a language model: gradients clipped by their global norm, then `name`.

    Adam has betas .9 and .98, as is usual where batches are small and sharp; SGD has none of it.
    """
    rate = schedule()
    if name == "sgd":
        return optax.chain(optax.clip_by_global_norm(clip), optax.sgd(rate))
    adam = optax.adamw(rate, b2=0.98, weight_decay=weight_decay)
    return optax.chain(optax.clip_by_global_norm(clip), adam)
