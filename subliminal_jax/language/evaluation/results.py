"""Summary and finding from the units, one for each reference, trait and condition.

Every interval and test counts references: values are averaged over a reference's traits first.
Questions and samples within one trained network never add to `n`.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from subliminal_jax.language.conditions import CONDITIONS, CROSSED, SOFT, STUDENT, USUAL
from subliminal_jax.language.traits.trait import PRIMARY, is_share
from subliminal_jax.report.results import (
    briefly,
    difference_values,
    mean_values,
    read_interval,
    worth_printing,
)

COMPARED = tuple(name for name, one in CONDITIONS.items() if one.control)
NULLS = {name: one.null for name, one in CONDITIONS.items() if one.null}
JUDGED = tuple(name for name in NULLS if CONDITIONS[name].trained)
NUMBERS = {2: "two"}


def summarise(
    units: Sequence[Mapping[str, Any]],
    traits: Sequence[str],
    primary: str = PRIMARY,
    asked: Sequence[str] = USUAL,
) -> dict[str, Any]:
    """Summarise every condition, over all traits and by trait, and the student minus each control.

    Args:
        units: `reference`, `trait`, `condition` and the measures of each unit.
        traits: names of the traits.
        primary: name of the measure by which students are compared with controls.
        asked: names of the conditions that the config asks for.

    Returns:
        `primary`, as given.
        `conditions`: a mean and interval for each condition, trait (or `all`) and measure.
        `student_minus`, `soft_minus`: the paired differences of the primary measure by control, of
            students with the configured and with soft targets.
        `above_controls`: in how many references the student is above every null control.
        `missing`: the usual conditions and those asked for that have no unit.
    """
    measures = list(dict.fromkeys(key for one in units for key in one if key not in IDENTITY))
    conditions = [name for name in CONDITIONS if any(one["condition"] == name for one in units)]
    table = {
        condition: {
            "all": {key: _interval(units, condition, traits, key) for key in measures},
            **{
                trait: {key: _interval(units, condition, [trait], key) for key in measures}
                for trait in traits
            },
        }
        for condition in conditions
    }
    minus, soft = (
        {control: _minus(units, one, control, traits, primary) for control in COMPARED}
        for one in (STUDENT.name, SOFT.name)
    )
    wanted = {*USUAL, *asked} - set(conditions)
    return {
        "primary": primary,
        "conditions": table,
        "student_minus": _against(minus),
        "soft_minus": _against(soft),
        "above_controls": _above({name: minus[name] for name in NULLS}),
        "missing": [name for name in CONDITIONS if name in wanted],
    }


def matrix(units: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return P(trait) by the references of teacher and student; on the diagonal they are the same.

    Args:
        units: as for `summarise`.

    Returns:
        `references`, the seeds; and `p_trait`, a row for each teacher's reference and a column for
        each student's, the mean over traits, None without a student or its measure.
    """
    cells: dict[tuple[int, int], list[float]] = {}
    for one in units:
        if one["condition"] in (STUDENT.name, CROSSED.name):
            cell = cells.setdefault((one["reference"], one["student_of"]), [])
            cell += [] if one[PRIMARY] is None else [one[PRIMARY]]
    seeds = sorted({seed for cell in cells for seed in cell})
    mean = lambda cell: float(np.mean(cells[cell])) if cells.get(cell) else None
    values = [[mean((teacher, student)) for student in seeds] for teacher in seeds]
    return {"references": seeds, PRIMARY: values}


IDENTITY = frozenset({"reference", "trait", "condition", "rows", "pass_rate", "student_of"})
"""What a unit holds beside its trait's measures."""


ByReference: TypeAlias = Mapping[int, Mapping[str, float]]
"""Values by reference and trait."""


def by_reference(
    units: Iterable[Mapping[str, Any]],
    condition: str,
    key: str,
    traits: Sequence[str] | None = None,
) -> ByReference:
    """Return a condition's measure, the mean over the references of its students.

    Args:
        units: as for `summarise`.
        condition: name of the condition.
        key: name of the measure.
        traits: names of the traits; None for all.
    """
    several: dict[int, dict[str, list[float]]] = {}
    for one in units:
        chosen = traits is None or one["trait"] in traits
        if one["condition"] == condition and chosen and one.get(key) is not None:
            by_trait = several.setdefault(one["reference"], {})
            by_trait.setdefault(one["trait"], []).append(one[key])
    return {
        reference: {trait: float(np.mean(values)) for trait, values in by_trait.items()}
        for reference, by_trait in several.items()
    }


def differences(first: ByReference, second: ByReference) -> ByReference:
    """Return `first - second`, of the references and traits that have both."""
    pairs = {
        reference: {trait: value - second[reference][trait] for trait, value in by_trait.items()
                    if trait in second.get(reference, {})}
        for reference, by_trait in first.items()
    }  # fmt: skip
    return {reference: by_trait for reference, by_trait in pairs.items() if by_trait}


def means(values: ByReference) -> list[float]:
    """Return the mean over traits of every reference."""
    return [float(np.mean(list(by_trait.values()))) for by_trait in values.values()]


def _interval(
    units: Sequence[Mapping[str, Any]], condition: str, traits: Sequence[str], key: str
) -> dict[str, Any] | None:
    """Return the mean over references and its interval, within [0, 1] for a probability."""
    values = means(by_reference(units, condition, key, traits))
    return mean_values(values, bounded=is_share(key)) if values else None


def _minus(
    units: Sequence[Mapping[str, Any]],
    student: str,
    control: str,
    traits: Sequence[str],
    primary: str,
) -> ByReference:
    """Return the primary measure of one condition's students minus that of a control."""
    mine, other = (by_reference(units, one, primary, traits) for one in (student, control))
    return differences(mine, other)


def _against(minus: Mapping[str, ByReference]) -> dict[str, Any]:
    """Compare students with every control that has values."""
    return {control: _compared(values) for control, values in minus.items() if values}


def _compared(minus: ByReference) -> dict[str, Any]:
    """Summarise the differences from one control."""
    every = [value for by_trait in minus.values() for value in by_trait.values()]
    return {
        **difference_values(means(minus)),
        "smallest": min(every),
        "above_0.1": sum(value > 0.1 for value in every),
        "units": len(every),
    }


def _above(minus: Mapping[str, ByReference]) -> dict[str, Any]:
    """Count the references in which the student is above every null control there.

    Args:
        minus: student minus control, by control.

    Returns:
        `references`; in how many of them the student is `above` every control; and the `smallest`
        difference. Values are means over a reference's traits.
    """
    smallest: dict[int, float] = {}
    for values in minus.values():
        for reference, mean in zip(values, means(values), strict=True):
            smallest[reference] = min(mean, smallest.get(reference, mean))
    return {
        "references": len(smallest),
        "above": sum(value > 0 for value in smallest.values()),
        "smallest": min(smallest.values(), default=None),
    }


def finding(
    summary: Mapping[str, Any],
    traits: Sequence[str],
    items: str,
    verb: str = "names",
    unit: str = "reference",
) -> str:
    """Return one sentence: how often the student names the trait, compared with its controls.

    Fewer units than `report.results.FEWEST` are described by counts, more by intervals of the
    differences.

    Args:
        summary: as `summarise` returns it.
        traits: names of the traits.
        items: what the carrier's completions hold, in the plural.
        verb: what the student does with the trait; see `Trait.verb`.
        unit: what is counted; see `repetitions.unit_of`.
    """
    table, against = summary["conditions"], summary["student_minus"]

    def told(condition: str) -> str:
        interval = table[condition]["all"][PRIMARY]
        return "undefined" if interval is None else briefly(interval)

    shown = {name: words.format(items=items) for name, words in NULLS.items() if name in table}
    beside = ", ".join(f"{told(name)} {words}" for name, words in shown.items())
    named = traits[0] if len(traits) == 1 else f"{', '.join(traits[:-1])} or {traits[-1]}"
    gains = {name: read_interval(against[name]) for name in JUDGED if name in against}
    sure = {name: gain.low > 0 for name, gain in gains.items() if worth_printing(gain)}
    verdict = _verdict({shown[name]: above for name, above in sure.items()})
    opening = verdict or _seen(summary["above_controls"], unit)
    return (
        f"{opening}: trained on {items} alone, the student {verb} its teacher's {named} with "
        f"probability {told(STUDENT.name)}, against {beside}."
    )


def _verdict(above: Mapping[str, bool]) -> str | None:
    """Return the verdict of the intervals; None without any.

    Args:
        above: whether the interval of the student minus a control is above 0, by what the control
            was trained on.
    """
    if not above:
        return None
    if all(above.values()):
        return "Subliminal learning"
    if not any(above.values()):
        return "No transmission distinguishable from chance"
    rest = " or ".join(words for words, sure in above.items() if not sure)
    count = f"{sum(above.values())} of {len(above)} controls"
    return f"Above {count}, but not distinguishable from students {rest}"


def _seen(counts: Mapping[str, Any], unit: str) -> str:
    """Return the finding if there are too few units for an interval."""
    count, above = counts["references"], counts["above"]
    if not count:
        return f"Undefined: no {unit} has the measure of a student and of a null control"
    if above == count:
        gap = f"by at least {counts['smallest']:.2f}"
    else:
        gap = f"the smallest difference is {counts['smallest']:.2f}"
    few = f"one {unit} is" if count == 1 else f"{NUMBERS.get(count, count)} {unit}s are"
    return (
        f"Student above every null control in {above} of {count} {unit}{'s' * (count > 1)}, "
        f"{gap}; {few} too few for an interval"
    )
