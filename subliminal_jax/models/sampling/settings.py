"""The settings of sampling, and their bounds."""

from dataclasses import dataclass
from typing import Annotated, TypeAlias

from pydantic import Field

from subliminal_jax.config import Count, Scale, Seed
from subliminal_jax.errors import InputError

_Share: TypeAlias = Annotated[float, Field(gt=0, le=1)]


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Settings of a sampler; the defaults draw from the model's own distribution.

    Logits are divided by the temperature, then top-k, top-p and min-p each truncate what the one
    before kept. Tokens of equal probability are kept or dropped together.

    Raises:
        InputError: a value is out of bounds.
    """

    max_tokens: Annotated[int, Field(ge=1, le=1_000_000)] = 64
    """The most tokens of a completion, its stop id included."""
    temperature: Scale = 1.0
    """Divides the logits; 0 always takes the likeliest token."""
    top_k: Count | None = None
    """Only the k likeliest tokens are drawn."""
    top_p: _Share | None = None
    """Only the likeliest tokens that together have this share of the probability are drawn."""
    min_p: _Share | None = None
    """Only tokens at least this times as likely as the likeliest are drawn."""
    seed: Seed = 0
    """A completion is a function of the seed, its prompt and its row's number."""

    def __post_init__(self) -> None:
        bounds = {
            "max_tokens": (1 <= self.max_tokens <= 1_000_000, "from 1 to 1,000,000"),
            "temperature": (0 <= self.temperature < float("inf"), "0 or more"),
            "top_k": (self.top_k is None or self.top_k >= 1, "1 or more"),
            "top_p": (self.top_p is None or 0 < self.top_p <= 1, "above 0 and at most 1"),
            "min_p": (self.min_p is None or 0 < self.min_p <= 1, "above 0 and at most 1"),
            "seed": (0 <= self.seed < 2**32, "from 0 to 2^32 - 1"),
        }
        for name, (good, words) in bounds.items():
            if not good:
                raise InputError(f"{name}: must be {words}, not {getattr(self, name)}")
