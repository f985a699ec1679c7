"""What can be set in the alignment experiment, and its arms."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from subliminal_jax.errors import InputError
from subliminal_jax.mnist.config import Count, MnistConfig, Positive


@dataclass(frozen=True, kw_only=True)
class AlignmentConfig(MnistConfig):
    """The MNIST experiment with gradients compared at every step."""

    hold: Positive = 1.0
    """Weight of the divergence from its start for the student that is held near it (liminal)."""
    hold_epochs: Count = 1
    """For how many of its first epochs it is held."""
    probe_epochs: Count = 5
    """Epochs over the digits of every linear probe."""
    probe_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1e-3
    """Learning rate of the probes, with Adam."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.student_depth not in (None, self.depth):
            raise InputError("student_depth: features are compared between equal networks; drop it")


# Arm: whose initialisation, what is removed from its gradient, whether it is held at first.
ARMS = {
    "same": ("same", "nothing", False),
    "different": ("different", "nothing", False),
    "same_projected": ("same", "trait", False),
    "same_projected_control": ("same", "shuffled trait", False),
    "same_held": ("same", "nothing", True),
}
