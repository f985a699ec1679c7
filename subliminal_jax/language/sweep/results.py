"""Results of a sweep: the rate of each arm, its students against controls, and the page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from subliminal_jax.errors import InputError
from subliminal_jax.language.conditions import BEFORE, STUDENT
from subliminal_jax.language.evaluation.results import (
    ByReference,
    by_reference,
    differences,
    means,
)
from subliminal_jax.language.sweep.config import Control
from subliminal_jax.language.traits.trait import MARGIN, PRIMARY, SHARE, is_share
from subliminal_jax.report.page import Page, Picture, run_sections
from subliminal_jax.report.results import briefly, difference_values, mean_values, p_text
from subliminal_jax.report.tables import CsvRows, Table

NOTE = (
    "Means of {measure} over the test {unit}s; differences with 95% intervals (Student's t). "
    "{rates} p: sign flips over {unit}s, of the difference before it."
)
TUNED = (
    "The learning rate is the one at which students are furthest above {control} on the tuning "
    "{unit}s, which are not in the test."
)
GIVEN = "The learning rates were given."
HEADER = (
    *("arm", "rate", "phase", "reference", "trait", "condition", PRIMARY),
    *("category_sum", MARGIN, SHARE, "rows", "pass_rate"),
)

HEADINGS = {PRIMARY: "P(trait)", MARGIN: "the margin (nats)"}
CONTROLS: dict[Control, str] = {
    "regular": "students of regular rows",
    "other_trait": "another trait's student",
}

Units: TypeAlias = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Compared:
    """What a sweep compares.

    Attributes:
        measure: the trait's measure, `p_trait` or `margin`.
        control: the condition that students are compared with.
        unit: what is counted; see `repetitions.unit_of`.
    """

    measure: str
    control: Control
    unit: str = "reference"

    @property
    def shown(self) -> tuple[str, ...]:
        """The conditions of figures and tables."""
        return BEFORE.name, self.control, STUDENT.name

    def values(self, units: Units, condition: str) -> ByReference:
        """A condition's measure."""
        return by_reference(units, condition, self.measure)

    def gains(self, units: Units) -> list[float]:
        """Student minus control, for each reference that has both."""
        students, controls = (self.values(units, name) for name in (STUDENT.name, self.control))
        return means(differences(students, controls))


def chosen_rate(units: Units, compared: Compared) -> float:
    """The rate with the largest mean gain over the control; of equal ones the smallest.

    Raises:
        InputError: no tuning reference has both a student and its control.
    """
    gains = {
        rate: gain
        for rate in sorted({unit["rate"] for unit in units})
        if (gain := compared.gains([unit for unit in units if unit["rate"] == rate]))
    }
    if not gains:
        raise InputError(
            f"tuning: no {compared.unit} to choose a rate on has a student and its control, since "
            "too few rows passed the filter; raise tuning, or lower lm.filter.rows"
        )
    return max(gains, key=lambda rate: float(np.mean(gains[rate])))


def sweep_summary(units: Units, compared: Compared) -> dict[str, Any]:
    """For every arm its rate, its conditions' intervals, and its students against others.

    Returns:
        By arm: `rate`; `conditions`, intervals of the measure over the test references;
        `student_minus_control`; and, but for the last arm, `student_minus_last`: its students minus
        the last arm's, paired by reference. Differences are as of `difference_values`.

    Raises:
        InputError: no reference of the test has both a student and its control.
    """
    tested = [unit for unit in units if unit["phase"] == "test"]
    names = list(dict.fromkeys(unit["arm"] for unit in tested))
    last = compared.values([unit for unit in tested if unit["arm"] == names[-1]], STUDENT.name)
    bounded = is_share(compared.measure)
    summary: dict[str, Any] = {}
    for arm in names:
        own = [unit for unit in tested if unit["arm"] == arm]
        values = {name: compared.values(own, name) for name in compared.shown}
        students, controls = values[STUDENT.name], values[compared.control]
        if not (gains := means(differences(students, controls))):
            raise InputError(
                f"{arm}: no {compared.unit} of the test has a student and its control, since too "
                "few rows passed the filter; raise lm.references, or lower lm.filter.rows"
            )
        summary[arm] = {
            "rate": own[0]["rate"],
            "conditions": {
                name: mean_values(means(several), bounded)
                for name, several in values.items()
                if several
            },
            "student_minus_control": difference_values(gains),
        }
        if arm != names[-1] and (gains := means(differences(students, last))):
            summary[arm]["student_minus_last"] = difference_values(gains)
    return summary


def sweep_derived(results: Mapping[str, Any]) -> dict[str, Any]:
    """What follows from the units of a sweep: `finding` and `summary`; errors as of the latter."""
    compared = _compared(results)
    summary = sweep_summary(results["units"], compared)
    return {"finding": sweep_finding(summary, compared), "summary": summary}


def sweep_finding(summary: Mapping[str, Any], compared: Compared) -> str:
    """One sentence: the gain of each arm's students over their controls."""
    gains = {name: arm["student_minus_control"] for name, arm in summary.items()}
    told = ", ".join(
        f"{briefly(gain, '+.2f')} {name} (p {p_text(gain['p']) or '-'})"
        for name, gain in gains.items()
    )
    count = max(gain["n"] for gain in gains.values())
    return (
        f"At equal rows and updates, each at its own learning rate, {HEADINGS[compared.measure]} "
        f"of students minus that of {CONTROLS[compared.control]} is {told}; {count} "
        f"{compared.unit}s."
    )


def _compared(results: Mapping[str, Any]) -> Compared:
    return Compared(results["measure"], results["control"], results["unit"])


def sweep_text(results: Mapping[str, Any]) -> str:
    """The finding and the table, for a terminal."""
    return f"{results['finding']}\n\n{_table(results).text()}"


def _table(results: Mapping[str, Any]) -> Table:
    summary, compared = results["summary"], _compared(results)
    last = list(summary)[-1]
    words = {
        "measure": HEADINGS[compared.measure],
        "control": CONTROLS[compared.control],
        "unit": compared.unit,
    }
    tuned = any(unit["phase"] == "tuning" for unit in results["units"])
    rates = (TUNED if tuned else GIVEN).format(**words)
    return Table(
        "Every arm",
        (
            "arm",
            "rate",
            *compared.shown,
            f"student - {compared.control}",
            "p",
            f"student - {last}'s",
            "p",
        ),
        tuple(
            (
                *(name, f"{arm['rate']:g}"),
                *(_mean(arm["conditions"].get(one)) for one in compared.shown),
                *_difference(arm["student_minus_control"]),
                *_difference(arm.get("student_minus_last")),
            )
            for name, arm in summary.items()
        ),
        NOTE.format(rates=rates, **words),
    )


def _difference(entry: Mapping[str, Any] | None) -> tuple[str, str]:
    """A difference and its p value as text; empty if there is none."""
    return ("", "") if entry is None else (briefly(entry, "+.3f"), p_text(entry["p"]) or "-")


def _mean(interval: Mapping[str, Any] | None) -> str:
    return f"{interval['mean']:.3f}" if interval else ""


def sweep_rows(results: Mapping[str, Any]) -> CsvRows:
    """A CSV row for every unit of every cell."""
    return list(HEADER), ([unit.get(name) for name in HEADER] for unit in results["units"])


def _rate_table(
    gains: Mapping[tuple[str, float], Sequence[float]], heading: str, compared: Compared
) -> Table:
    return Table(
        f"Learning rates on the tuning {compared.unit}s",
        ("arm", "rate", f"{heading}, students minus {CONTROLS[compared.control]}"),
        tuple((arm, f"{rate:g}", f"{np.mean(gain):+.3f}") for (arm, rate), gain in gains.items()),
    )


def sweep_page(results: Mapping[str, Any]) -> Page:
    """The page of a sweep."""
    compared = _compared(results)
    heading = HEADINGS[compared.measure]
    tried = [unit for unit in results["units"] if unit["phase"] == "tuning"]
    cells = list(dict.fromkeys((unit["arm"], unit["rate"]) for unit in tried))
    gains = {
        cell: compared.gains([unit for unit in tried if (unit["arm"], unit["rate"]) == cell])
        for cell in cells
    }
    return Page(
        experiment=results["experiment"],
        finding=results["finding"],
        subtitle=f"Students trained in several ways on the same rows of the same {compared.unit}s.",
        blocks=[
            Picture("arms", f"Students of every arm: {heading}."),
            _table(results),
            *([_rate_table(gains, heading, compared)] if gains else []),
        ],
        sections=run_sections(results),
    )
