"""Registry of carriers: each is one file in this folder and one line here."""

from collections.abc import Callable
from typing import Any

from subliminal_jax.errors import InputError
from subliminal_jax.language.carriers.carrier import Carrier
from subliminal_jax.language.carriers.code.carrier import Code
from subliminal_jax.language.carriers.numbers import Numbers
from subliminal_jax.language.carriers.reasoning.reasoning import Reasoning
from subliminal_jax.models.sampling.automaton import Automaton

CARRIERS: dict[str, tuple[Callable[..., Carrier], str | None]] = {
    "code": (Code, "code"),
    "numbers": (Numbers, "prompts"),
    "reasoning": (Reasoning, "reasoning"),
}
"""Carriers by name: the constructor, and the part of a `GenerateConfig` that it takes, if any."""


def carrier_of(generate: Any) -> Carrier:
    """The carrier that a `GenerateConfig` names.

    Raises:
        InputError: no carrier has that name.
    """
    if generate.carrier not in CARRIERS:
        raise InputError(
            f"generate.carrier: unknown {generate.carrier!r}; choose from {', '.join(CARRIERS)}"
        )
    make, settings = CARRIERS[generate.carrier]
    return make() if settings is None else make(getattr(generate, settings))


def form_of(carrier: Carrier, generate: Any, rules: Any) -> Automaton:
    """What constrained completions must be, by a `GenerateConfig` and a `FilterConfig`.

    Raises:
        InputError: the carrier has no automaton, or no completion has `generate.fewest` items.
    """
    automaton = carrier.automaton(generate.fewest, rules.banned)
    if automaton is None:
        raise InputError(
            f"generate.constrained: the carrier {carrier.name!r} has no automaton of its form; set "
            "it to false"
        )
    return automaton
