"""The carriers that a run can choose from: a file in this folder each, and a line here."""

from collections.abc import Callable
from typing import Any

from subliminal_jax.errors import InputError
from subliminal_jax.language.carriers.carrier import Carrier
from subliminal_jax.language.carriers.numbers import Numbers

CARRIERS: dict[str, Callable[[Any], Carrier]] = {
    "numbers": lambda generate: Numbers(generate.prompts),
}
"""From a run's `GenerateConfig` to its carrier, by name."""


def carrier_of(generate: Any) -> Carrier:
    """The carrier that a `GenerateConfig` names.

    Raises:
        InputError: there is none of that name.
    """
    if generate.carrier not in CARRIERS:
        raise InputError(
            f"generate.carrier: there is no {generate.carrier!r}; choose of {', '.join(CARRIERS)}"
        )
    return CARRIERS[generate.carrier](generate)
