"""Optimisers by name, and learning-rate schedules."""

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

    Adam has betas .9 and .999, epsilon 1e-8 and no weight decay, as in the released script.
    """
    return {"adam": optax.adam, "sgd": optax.sgd}[name](learning_rate)


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A learning-rate schedule.

    Attributes:
        peak: the highest learning rate.
        steps: number of training steps.
        decay: form of the decay after the warmup.
        end: final learning rate as a share of the peak; ignored without decay.
        warmup: steps of linear warmup from 0.
    """

    peak: float
    steps: int
    decay: Decay = "linear"
    end: float = 0.1
    warmup: int = 0

    def __call__(self) -> optax.Schedule:
        """The learning rate as a function of the step."""
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
    name: OptimizerName, schedule: Schedule, clip: float | None, weight_decay: float = 0.0
) -> optax.GradientTransformation:
    """The optimiser of a language model: gradients clipped by their global norm, if by any.

    Adam has betas .9 and .98, which is usual for small, noisy batches, and decoupled weight decay.
    SGD has no momentum and ignores `weight_decay`.
    """
    clipped = optax.identity() if clip is None else optax.clip_by_global_norm(clip)
    if name == "sgd":
        return optax.chain(clipped, optax.sgd(schedule()))
    return optax.chain(clipped, optax.adamw(schedule(), b2=0.98, weight_decay=weight_decay))
