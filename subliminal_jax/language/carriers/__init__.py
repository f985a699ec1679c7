"""Registry of carriers: each is one file in this folder and one line here."""

from collections.abc import Callable
from typing import Any

from subliminal_jax.errors import InputError
from subliminal_jax.language.carriers.carrier import Carrier
from subliminal_jax.language.carriers.code.carrier import Code
from subliminal_jax.language.carriers.numbers import Numbers
from subliminal_jax.language.carriers.reasoning.reasoning import Reasoning
from subliminal_jax.models.sampling.automaton import Automaton

CARRIERS: dict[str, Callable[[Any], Carrier]] = {
    "code": lambda generate: Code(generate.code),
    "numbers": lambda generate: Numbers(generate.prompts),
    "reasoning": lambda generate: Reasoning(generate.reasoning),
}
"""Carrier constructors by name; each takes a `GenerateConfig`."""

SETTINGS = {"code": "code", "numbers": "prompts", "reasoning": "reasoning"}
"""Part of a `GenerateConfig` that affects one carrier's results alone, by the carrier's name."""


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
