"""Settings of the measurement of the theorem."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, cast, get_args

from pydantic import Field

from subliminal_jax.config import Activation, Count, DatasetName, Positive, Seed
from subliminal_jax.errors import InputError

MAX_WIDTH, MAX_DEPTH = 1024, 8


@dataclass(frozen=True, kw_only=True)
class TheoremConfig:
    """Theorem 1, tested on random cases."""

    draws: Annotated[int, Field(ge=1, le=1_000_000)] = 1800
    """Random cases in total, divided evenly among the networks."""
    seed: Seed = 0
    """Every case is a function of the seed and its number."""
    data: DatasetName = "digits"
    """Images of digits: scikit-learn's 8x8 ones, or MNIST."""
    data_dir: Path | None = None
    """Directory of the four MNIST files; else $SUBLIMINAL_DATA_DIR, else tensorflow-datasets."""
    networks: tuple[str, ...] = ("relu-32", "tanh-16x16", "relu-16x16", "gelu-16x16x16")
    """Networks: the activation (relu, tanh, gelu) and the widths of the hidden layers."""
    aux: Count = 3
    """Number of auxiliary logits."""
    batch: Annotated[int, Field(ge=1, le=10_000)] = 32
    """Images that a student sees, and digits in a teacher's loss."""
    small: Positive = 1e-3
    """The teacher's step that counts as small, relative to the norm of its initialisation."""
    steps: tuple[Count, ...] = (1, 100)
    """Beyond the theorem: steps of teacher and student."""
    beyond_draws: Annotated[int, Field(ge=1, le=1_000_000)] = 240
    """Beyond the theorem: cases, each with the first network."""
    sgd_rate: Positive = 0.1
    """Beyond the theorem: learning rate of plain gradient descent."""
    adam_rate: Positive = 1e-3
    """Beyond the theorem: learning rate of Adam."""

    out: Path | None = None
    """Run directory (default: runs/theorem-DIGEST, the digest being the config's)."""
    overwrite: bool = False
    """Discard what an earlier run left in the run directory."""

    def __post_init__(self) -> None:
        for name in ("networks", "steps"):
            if not getattr(self, name):
                raise InputError(f"{name}: give at least one")
        for network in self.networks:
            network_parts(network)
        if 0 < self.draws < len(self.networks):
            raise InputError(
                f"draws={self.draws}: {len(self.networks)} networks need at least one draw each; "
                "give more draws or fewer --networks"
            )


def network_parts(network: str) -> tuple[Activation, tuple[int, ...]]:
    """Return the activation and the widths that a text such as "relu-16x16" names.

    Raises:
        InputError: the text has another form, or an activation or a size is not supported.
    """
    activation, _, rest = network.partition("-")
    words = rest.split("x")
    widths = tuple(int(word) for word in words if word.isascii() and word.isdigit())
    known = get_args(Activation)
    if (
        activation not in known
        or len(widths) < len(words)
        or not all(0 < width <= MAX_WIDTH for width in widths)
        or len(widths) > MAX_DEPTH
    ):
        raise InputError(
            f"networks: {network!r} is not a network; give {', '.join(known)}, a hyphen, and at "
            f"most {MAX_DEPTH} widths from 1 to {MAX_WIDTH} joined by x, such as relu-16x16"
        )
    return cast(Activation, activation), widths
