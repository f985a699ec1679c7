"""The settings of sampling, and their bounds."""

from dataclasses import dataclass

from subliminal_jax.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Settings of a sampler; the defaults draw from the model's own distribution.

    Raises:
        InputError: a value is out of bounds.
    """

    max_tokens: int = 64
    """The most tokens of a completion, its stop id included."""
    temperature: float = 1.0
    """Divides the logits; 0 always takes the likeliest token."""
    seed: int = 0
    """A completion is a function of the seed, its prompt and its row's number."""

    def __post_init__(self) -> None:
        bounds = {
            "max_tokens": (1 <= self.max_tokens <= 1_000_000, "from 1 to 1,000,000"),
            "temperature": (0 <= self.temperature < float("inf"), "0 or more"),
            "seed": (0 <= self.seed < 2**32, "from 0 to 2^32 - 1"),
        }
        for name, (good, words) in bounds.items():
            if not good:
                raise InputError(f"{name}: must be {words}, not {getattr(self, name)}")
