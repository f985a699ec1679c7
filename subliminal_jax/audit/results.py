"""Summary and finding from the units, one for each reference, trait, detector and size.

Every interval and test counts references: values are averaged over a reference's traits first.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from subliminal_jax import stats
from subliminal_jax.audit.detectors import AGAINST, DETECTORS
from subliminal_jax.report.results import (
    FEWEST,
    briefly,
    mean_values,
    read_interval,
    worth_printing,
)

CHANCE = 0.5
RATES = ("value", "open", "p_trait", "p_other", "named")
"""Measures from 0 to 1."""


def summarise(units: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Summarise every detector, size and contrast.

    Args:
        units: as `Detection.units`.

    Returns:
        In the order of detectors, contrasts and sizes: `detector`, `against`, `size`, mean `rows`,
        mean and interval of each measure (None where no unit has it), `p` (two-sided sign-flip
        test of the value against .5 over references), `outside` of `units` (units outside
        their own 95% of chance), `named_chance`, and `reads`: whether the interval of the
        positive control is above .5 (None without a control or for too few references).
    """
    keys = dict.fromkeys(
        (one["detector"], one["against"], one["size"])
        for one in sorted(units, key=lambda one: (*_place(one), one["rows"]))
    )
    return [_summary(key, [one for one in units if _key(one) == key]) for key in keys]


def _key(unit: Mapping[str, Any]) -> tuple[str, str, str]:
    return unit["detector"], unit["against"], unit["size"]


def _place(unit: Mapping[str, Any]) -> tuple[int, int]:
    return list(DETECTORS).index(unit["detector"]), list(AGAINST).index(unit["against"])


def _summary(key: tuple[str, str, str], units: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    values = _by_reference(units, "value")
    intervals = {name: _interval(_by_reference(units, name), name) for name in (*RATES, "log_gain")}
    outside = [not one["chance_low"] <= one["value"] <= one["chance_high"] for one in units]
    return {
        "detector": key[0],
        "against": key[1],
        "size": key[2],
        "rows": float(np.mean([one["rows"] for one in units])),
        **intervals,
        "p": stats.sign_flip_test([value - CHANCE for value in values]),
        "outside": sum(outside),
        "units": len(units),
        "named_chance": _named_chance(units),
        "reads": _above(intervals["open"]),
    }


def _by_reference(units: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    """Return the means of a measure over each reference's traits."""
    by_reference: dict[int, list[float]] = {}
    for one in units:
        if one.get(name) is not None:
            by_reference.setdefault(one["reference"], []).append(one[name])
    return [float(np.mean(values)) for values in by_reference.values()]


def _interval(values: Sequence[float], name: str) -> dict[str, Any] | None:
    """Return the mean over references and its interval, within [0, 1] for a rate."""
    return mean_values(values, bounded=name in RATES) if values else None


def _named_chance(units: Sequence[Mapping[str, Any]]) -> float | None:
    """Return 1 / number of traits alike: how often a constant guess names the right one."""
    known = [1.0 / one["alike"] for one in units if one.get("named") is not None]
    return float(np.mean(known)) if known else None


def _above(entry: Mapping[str, Any] | None) -> bool | None:
    """Return whether values are above chance; None if that cannot be known."""
    if entry is None:
        return None
    interval = read_interval(entry)
    if interval.mean == 1.0 and interval.n >= FEWEST:  # all are 1, and there is no spread
        return True
    return interval.low > CHANCE if worth_printing(interval) else None


def verdict(entry: Mapping[str, Any]) -> str:
    """Say in a word what a detector found: `seen`, `reversed`, `not seen`, `cannot read`, `-`.

    `cannot read` is a null result of a detector that misses its positive control too; `-` is for
    too few references.
    """
    interval = read_interval(entry["value"])
    above = _above(entry["value"])
    if above is None:
        return "-"
    if above:
        return "seen"
    if interval.high < CHANCE:
        return "reversed"
    return "cannot read" if entry["reads"] is False else "not seen"


def headline(summary: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return one entry for each detector, against the reference's own rows.

    It is the one with most rows; of detectors with a positive control, the one with most rows at
    which the control is seen, if there is one.
    """
    chosen = []
    for name in DETECTORS:
        entries = [
            one for one in summary if (one["detector"], one["against"]) == (name, "reference")
        ]
        read = [one for one in entries if one["reads"]]
        if entries:
            chosen.append((read or entries)[-1])
    return chosen


def finding(summary: Sequence[Mapping[str, Any]], items: str, unit: str = "reference") -> str:
    """Return which detectors tell the teachers' rows from the reference's, one sentence a verdict.

    Args:
        summary: as `summarise` returns it.
        items: what the carrier's completions hold, in the plural.
        unit: what is counted; see `language.repetitions.unit_of`.
    """
    best = headline(summary)
    said = {word: [] for word in ("seen", "not seen", "reversed", "cannot read", "labelled", "-")}
    for one in best:
        named = DETECTORS[one["detector"]]
        word = "labelled" if named.labelled and verdict(one) != "-" else verdict(one)
        said[word].append(f"'{named.label}' {_shown(one)}")
    if len(said["-"]) == len(best):
        opening = f"A teacher's trait in its {items}, with too few {unit}s for intervals"
        return f"{opening}: {'; '.join(said['-'])}; chance .5."
    openings = {
        "seen": f"Without labelled {items} of the teacher its trait is found by ",
        "not seen": "Not by ",
        "reversed": "Below chance: ",
        "cannot read": "Too weak to say, as a row that names the trait is missed too: ",
        "labelled": f"With labelled {items}: ",
        "-": f"Too few {unit}s for an interval: ",
    }
    if not said["seen"]:
        openings["not seen"] = f"Without labelled {items} of the teacher its trait is not found by "
    told = [openings[word] + "; ".join(shown) for word, shown in said.items() if shown]
    return f"{'. '.join(told)}. Chance is .5."


def _shown(entry: Mapping[str, Any]) -> str:
    """Return a value with its interval and the number of rows."""
    rows = round(entry["rows"])
    return f"{briefly(entry['value'])} at {rows} row{'s' * (rows > 1)}"
