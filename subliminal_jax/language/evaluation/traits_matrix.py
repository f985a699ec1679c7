"""The trait-by-trait matrix of a run: the margin of every trait in every trait's student."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from subliminal_jax.language.conditions import BEFORE, CROSSED, Condition
from subliminal_jax.language.traits.trait import MARGIN, PRIMARY, Trait


def traits_matrix(
    condition: Condition,
    traits: Sequence[Trait],
    reference: Any,
    answers: Mapping[str, Any],
    steps: Mapping[str, int],
    distance: int = 1,
) -> Iterator[dict[str, Any]]:
    """Yields the cells of a condition's students, as `margins.MarginCell`; none for other networks.

    Args:
        condition: the condition.
        traits: all traits of the run.
        reference: name of the repetition in the cells.
        answers: the answers where the condition is measured: `exact`, `begun` and `ladder`.
        steps: updates of each student's training by network.
        distance: see `Condition.network`.
    """
    if condition == BEFORE:
        if answers["ladder"]:
            yield from _before(condition.name, traits, reference, answers)
        return
    if condition.asks != "student" or condition.data == "other teacher":
        return
    named = CROSSED if condition.data == "foreign teacher" else condition
    owners: Sequence[Trait | None] = traits if named.for_each_trait else [None]
    for owner in owners:
        whose = None if owner is None else owner.name
        network = named.network(whose or "", distance)
        measured = {int(rung): some for rung, some in answers["ladder"].items()}
        if network in answers["begun"]:
            measured[steps[network]] = answers["begun"]
        for updates, answered in measured.items():
            for trait in traits:
                if network in answered and (owner is None or owner.topics == trait.topics):
                    begun = trait.measure_begun(answered[network])
                    cell = _cell(condition.name, reference, trait, updates, whose, begun)
                    yield cell | _answered(answers, network, trait, updates == steps[network])


def _before(
    name: str, traits: Sequence[Trait], reference: Any, answers: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """Yields the cells of the reference itself, the ladder's foot."""
    for trait in traits:
        begun = trait.measure_begun(answers["begun"][name])
        cell = _cell(name, reference, trait, 0, None, begun)
        yield cell | _answered(answers, name, trait, True)


def _cell(
    condition: str,
    reference: Any,
    trait: Trait,
    updates: int,
    owner: str | None,
    measures: Mapping[str, float | None],
) -> dict[str, Any]:
    return {
        "reference": reference,
        "condition": condition,
        "updates": updates,
        "student_of": owner,
        "trait": trait.name,
        MARGIN: measures.get(MARGIN),
        "share": measures.get("share"),
    }


def _answered(
    answers: Mapping[str, Any], network: str, trait: Trait, ended: bool
) -> dict[str, Any]:
    """P(trait) of answers in one word, which only students whose training has `ended` are asked."""
    p_trait = trait.measure(answers["exact"][network], {})[PRIMARY] if ended else None
    return {"ended": ended, PRIMARY: p_trait}
