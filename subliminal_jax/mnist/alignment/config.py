"""Settings and arms of the alignment experiment."""

from dataclasses import dataclass
from typing import Literal

from subliminal_jax.config import Count, Positive
from subliminal_jax.errors import InputError
from subliminal_jax.mnist.config import MnistConfig


@dataclass(frozen=True, kw_only=True)
class AlignmentConfig(MnistConfig):
    """The MNIST experiment with gradients compared at every step."""

    trait_batch: Count | None = None
    """Digits of the trait's gradient, different ones at every step (default: the batch's size)."""
    hold: Positive = 1.0
    """Weight of the KL divergence from the reference, over all logits on the noise, for the student
    that is held near it (liminal training)."""
    hold_epochs: Count = 1
    """Number of first epochs in which it is held."""
    probe_epochs: Count = 4
    """Epochs over the digits of every linear probe."""
    probe_rate: Positive = 0.03
    """Learning rate of the probes, with Adam."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.student_depth not in (None, self.depth):
            raise InputError("student_depth: features are compared between equal networks; drop it")


@dataclass(frozen=True, kw_only=True)
class Course:
    """How a student's training is changed; by default not at all.

    Attributes:
        start: initialisation: the teacher's, or another member's.
        projected: what loses its component along the trait's gradient: the gradient that the
            optimiser sees, or the step that it takes.
        shuffled: whether the trait's gradient is a control's, of the same digits under shuffled
            labels.
        held: whether the student is held near the reference in its first epochs.
    """

    start: Literal["same", "different"] = "same"
    projected: Literal["gradient", "step"] | None = None
    shuffled: bool = False
    held: bool = False


COURSES = {
    "same": Course(),
    "different": Course(start="different"),
    "gradient_projected": Course(projected="gradient"),
    "step_projected": Course(projected="step"),
    "control_projected": Course(projected="step", shuffled=True),
    "held": Course(held=True),
}
