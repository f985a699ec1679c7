"""How surely every teacher has its trait, measured before it writes a dataset."""

from collections.abc import Mapping, Sequence

from subliminal_jax.execution.protocol import Execution
from subliminal_jax.language.evaluation import evaluate, told
from subliminal_jax.language.evaluation.begun import begun_probabilities
from subliminal_jax.language.reference import Reference
from subliminal_jax.language.training.trainable import Network
from subliminal_jax.language.traits.trait import (
    Measures,
    Poll,
    Trait,
    merged,
    own_polls,
    teacher_measure,
)


def teacher_rates(
    reference: Reference,
    taught: Sequence[Trait],
    teachers: Mapping[str, Network],
    systems: Mapping[str, str | None],
    begun: Sequence[str],
    execution: Execution,
) -> dict[str, float]:
    """P(trait) of every teacher by name; finetuned ones are asked in one program.

    Args:
        reference: reference of all teachers.
        taught: their traits.
        teachers: their networks by name.
        systems: their system prompts by name; None for finetuned ones, which have none.
        begun: beginnings of answers; with any, a teacher's rate is its trait's share of its
            category behind them.
        execution: devices to compute on.
    """
    asked: list[tuple[Mapping[str, Network], Sequence[Poll]]] = []
    together = [one for one in taught if systems[one.name] is None]
    if together:
        networks = {one.name: teachers[one.name] for one in together}
        asked.append((networks, merged(poll for one in together for poll in _polls(one, begun))))
    for one in taught:
        if (system := systems[one.name]) is not None:
            polls = [told.with_system(poll, system) for poll in _polls(one, begun)]
            asked.append(({one.name: teachers[one.name]}, polls))
    rates: dict[str, Measures] = {}
    for networks, polls in asked:
        mine = [one for one in taught if one.name in networks]
        if begun:
            words = begun_probabilities(reference, polls, networks, execution)
            rates |= {one.name: one.measure_begun(words[one.name]) for one in mine}
        else:
            scored = evaluate.scoring(reference, polls)
            exact = evaluate.probabilities(reference, scored, networks, execution)
            rates |= {one.name: one.measure(exact[one.name], {}) for one in mine}
    rate = teacher_measure(begun)
    return {name: float(values[rate] or 0.0) for name, values in rates.items()}


def _polls(trait: Trait, begun: Sequence[str]) -> Sequence[Poll]:
    return trait.begun(begun) if begun else own_polls(trait)
