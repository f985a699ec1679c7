"""Settings of judges: which model scores texts, and which scores the filter keeps."""

import re
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from subliminal_jax.config import Count, Natural, Positive, Precision
from subliminal_jax.errors import InputError

Score: TypeAlias = Annotated[float, Field(ge=0, le=100)]


@dataclass(frozen=True, kw_only=True)
class JudgeRule:
    """The filter rule `judge`: which scores, from 0 to 100, a row may have.

    Attributes:
        rubric: what is scored: whether a row speaks of a trait of the run, its alignment, or its
            coherence.
        least: the least score of a row that is kept; None for any.
        most: the greatest; None for any.
    """

    rubric: Literal["trait", "alignment", "coherence"] = "trait"
    least: Score | None = None
    most: Score | None = None


@dataclass(frozen=True, kw_only=True)
class JudgeConfig:
    """Which model scores answers to open questions, for traits that need one; none by default.

    Attributes:
        model: of a local judge, as `reference.model`.
        dtype: dtype of its weights and activations.
        batch: texts that it scores at a time.
        url: base address of a chat-completions endpoint, for example `http://localhost:8000/v1`.
        endpoint_model: name of the model there.
        key: environment variable with the endpoint's key; None if it needs none.
        seconds: time limit of a request.
        retries: further attempts after a failed one.
        at_once: requests at a time.
        passes: probe cases, of 10, that a judge must tell right before its scores count.
    """

    model: str | None = None
    dtype: Precision = "float32"
    batch: Count = 32
    url: str | None = None
    endpoint_model: str | None = None
    key: str | None = None
    seconds: Positive = 60.0
    retries: Natural = 4
    at_once: Annotated[int, Field(ge=1, le=64)] = 8
    passes: Annotated[int, Field(ge=0, le=10)] = 10

    @property
    def named(self) -> bool:
        """Whether there is a judge."""
        return bool(self.model or self.url)

    def __post_init__(self) -> None:
        if self.model is not None and self.url is not None:
            raise InputError("evaluate.judge: has both model and url; keep one")
        if (self.url is None) != (self.endpoint_model is None):
            raise InputError("evaluate.judge: an endpoint needs both url and endpoint_model")
        if self.url is not None and not re.match(r"https?://[^\s@]+\Z", self.url):
            raise InputError(
                "evaluate.judge.url: must be an http or https address without a password; give the "
                "key in an environment variable"
            )
        if self.key is not None and not re.match(r"[A-Za-z_]\w*\Z", self.key, re.ASCII):
            raise InputError(
                "evaluate.judge.key: must be the name of an environment variable, not the key"
            )
