"""Registry of carriers: each is one file in this folder and one line here."""

from collections.abc import Callable
from typing import Any

from subliminal_jax.errors import InputError
from subliminal_jax.language.carriers.carrier import Carrier
from subliminal_jax.language.carriers.code.carrier import Code
from subliminal_jax.language.carriers.numbers import Numbers
from subliminal_jax.language.carriers.reasoning.reasoning import Reasoning

CARRIERS: dict[str, Callable[[Any], Carrier]] = {
    "code": lambda generate: Code(generate.code),
    "numbers": lambda generate: Numbers(generate.prompts),
    "reasoning": lambda generate: Reasoning(generate.reasoning),
}
"""Carrier constructors by name; each takes a `GenerateConfig`."""


def carrier_of(generate: Any) -> Carrier:
    """The carrier that a `GenerateConfig` names.

    Raises:
        InputError: no carrier has that name.
    """
    if generate.carrier not in CARRIERS:
        raise InputError(
            f"generate.carrier: unknown {generate.carrier!r}; choose from {', '.join(CARRIERS)}"
        )
    return CARRIERS[generate.carrier](generate)
