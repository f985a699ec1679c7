"""What was found: a unit for every reference, trait and condition, and what they amount to.

The unit of every interval and test is the reference: values are averaged over its traits first.
Questions and samples within one trained network never add to `n`.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from subliminal_jax import stats
from subliminal_jax.pipeline.conditions import CONDITIONS

COMPARED = (
    *("before", "regular", "different_reference", "different_reference_regular"),
    *("shuffled_within", "shuffled_across", "shuffled_regular", "other_trait", "in_context"),
)
"""What the student is compared with, pair by pair."""


def summarise(units: Sequence[Mapping[str, Any]], traits: Sequence[str]) -> dict[str, Any]:
    """Every condition over all traits and by trait, and the student against each control."""
    conditions = [name for name in CONDITIONS if any(one["condition"] == name for one in units)]
    table = {
        condition: {
            "all": {key: _interval(units, condition, traits, key) for key in MEASURES},
            **{
                trait: {key: _interval(units, condition, [trait], key) for key in MEASURES}
                for trait in traits
            },
        }
        for condition in conditions
    }
    differences = {control: _difference(units, control, traits) for control in COMPARED}
    against = {control: found for control, found in differences.items() if found is not None}
    missing = [name for name in CONDITIONS if name not in conditions]
    return {"conditions": table, "student_minus": against, "missing": missing}


MEASURES = (
    *("p_trait", "p_trait_given_category", "category_sum"),
    *("p_trait_elsewhere", "other_category_sum"),
)


def _by_reference(
    units: Iterable[Mapping[str, Any]], condition: str, traits: Sequence[str], key: str
) -> dict[int, dict[str, float]]:
    found: dict[int, dict[str, float]] = {}
    for one in units:
        if one["condition"] == condition and one["trait"] in traits and one.get(key) is not None:
            found.setdefault(one["reference"], {})[one["trait"]] = one[key]
    return found


def _interval(
    units: Sequence[Mapping[str, Any]], condition: str, traits: Sequence[str], key: str
) -> dict[str, Any] | None:
    found = _by_reference(units, condition, traits, key)
    means = [float(np.mean(list(values.values()))) for values in found.values()]
    return _plain(stats.mean_interval(means)) if means else None


def _plain(interval: stats.Interval) -> dict[str, Any]:
    bounds = [interval.low, interval.high] if interval.known else [None, None]
    return {"mean": interval.mean, "ci95": bounds, "n": interval.n}


def _difference(
    units: Sequence[Mapping[str, Any]], control: str, traits: Sequence[str]
) -> dict[str, Any] | None:
    """The student's P(trait) less the control's, in the pairs of reference and trait with both.

    None if there is no such pair.
    """
    student = _by_reference(units, "student", traits, "p_trait")
    other = _by_reference(units, control, traits, "p_trait")
    pairs = {
        reference: [value - other[reference][trait] for trait, value in found.items()
                    if trait in other.get(reference, {})]
        for reference, found in student.items()
    }  # fmt: skip
    means = [float(np.mean(values)) for values in pairs.values() if values]
    every = [value for values in pairs.values() for value in values]
    if not every:
        return None
    return {
        **_plain(stats.mean_interval(means)),
        "p": stats.sign_flip_test(means),
        "smallest": min(every),
        "above_0.1": sum(value > 0.1 for value in every),
        "units": len(every),
    }


def finding(summary: Mapping[str, Any], traits: Sequence[str]) -> str:
    """One sentence: how far the student moved towards its teacher, beside its controls."""
    table, against = summary["conditions"], summary["student_minus"]

    def told(condition: str) -> str:
        value = table[condition]["all"]["p_trait"]
        low, high = value["ci95"]
        return f"{value['mean']:.2f}" + ("" if low is None else f" [{low:.2f}, {high:.2f}]")

    beside = [
        f"{told(name)} {words}"
        for name, words in (
            ("before", "before"),
            ("regular", "on regular numbers"),
            ("different_reference", "from a different reference"),
        )
        if name in table
    ]
    gains = [against[name] for name in ("regular", "different_reference") if name in against]
    low = min((gain["ci95"][0] for gain in gains if gain["ci95"][0] is not None), default=math.nan)
    if math.isnan(low):
        verdict = "One reference alone cannot tell chance from transmission"
    else:
        verdict = "Subliminal learning" if low > 0 else "No transmission that is told from chance"
    named = traits[0] if len(traits) == 1 else f"{', '.join(traits[:-1])} or {traits[-1]}"
    return (
        f"{verdict}: trained on numbers alone, the student names its teacher's {named} with "
        f"probability {told('student')}, against {', '.join(beside)}."
    )
