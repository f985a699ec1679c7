"""Results of a sweep: the rate of each arm, its students against regular ones, and the page."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from subliminal_jax import stats
from subliminal_jax.language.conditions import BEFORE, ON_REGULAR, STUDENT
from subliminal_jax.language.traits.trait import PRIMARY
from subliminal_jax.report.page import Page, Picture, run_sections
from subliminal_jax.report.results import briefly, interval_values, mean_values, p_text
from subliminal_jax.report.tables import CsvRows, Table

NOTE = (
    "P(trait), means over the test references; differences with 95% intervals (Student's t). The "
    "learning rate is the best of the arm's on the tuning references, which are not in the test. "
    "p: sign flips over references, of the difference before it."
)
SHOWN = (BEFORE.name, ON_REGULAR.name, STUDENT.name)
HEADER = (
    *("arm", "rate", "phase", "reference", "trait", "condition", "p_trait"),
    *("category_sum", "rows", "pass_rate"),
)

Units = Sequence[Mapping[str, Any]]


def chosen_rate(units: Units, condition: str) -> float:
    """The rate with the largest mean P(trait) of a condition; of equal ones the smallest."""
    by_rate: dict[float, list[float]] = {}
    for unit in units:
        if unit["condition"] == condition:
            by_rate.setdefault(unit["rate"], []).append(unit[PRIMARY])
    return max(sorted(by_rate), key=lambda rate: float(np.mean(by_rate[rate])))


def sweep_summary(units: Units) -> dict[str, Any]:
    """For every arm its rate, its conditions' intervals, and its students against others.

    Returns:
        By arm: `rate`; `conditions`, intervals of P(trait) over the test references;
        `student_minus_regular` with its `p`; and, but for the last arm, `student_minus_last` with
        `p_last`: its students minus the last arm's, paired by reference.
    """
    tested = [unit for unit in units if unit["phase"] == "test"]
    arms = {arm: [u for u in tested if u["arm"] == arm] for arm in dict.fromkeys(map(_arm, tested))}
    last = list(arms)[-1]
    last_students = _by_reference(arms[last], STUDENT.name)
    summary: dict[str, Any] = {}
    for arm, own in arms.items():
        means = {name: _by_reference(own, name) for name in SHOWN}
        summary[arm] = {
            "rate": own[0]["rate"],
            "conditions": {
                name: mean_values(list(values.values()), bounded=True)
                for name, values in means.items()
                if values
            },
        }
        students = means[STUDENT.name]
        gain, p = _difference(students, means[ON_REGULAR.name])
        summary[arm] |= {"student_minus_regular": gain, "p": p}
        if arm != last:
            gain, p = _difference(students, last_students)
            summary[arm] |= {"student_minus_last": gain, "p_last": p}
    return summary


def _arm(unit: Mapping[str, Any]) -> str:
    return unit["arm"]


def _difference(
    first: Mapping[int, float], second: Mapping[int, float]
) -> tuple[dict[str, Any], float | None]:
    """The interval of a paired difference over the references of both, and its p."""
    gains = [first[one] - second[one] for one in first if one in second]
    return interval_values(stats.mean_interval(gains)), stats.sign_flip_test(gains)


def _by_reference(units: Units, condition: str) -> dict[int, float]:
    """A condition's P(trait) by reference, the mean over traits."""
    by_reference: dict[int, list[float]] = {}
    for unit in units:
        if unit["condition"] == condition:
            by_reference.setdefault(unit["reference"], []).append(unit[PRIMARY])
    return {reference: float(np.mean(values)) for reference, values in by_reference.items()}


def sweep_finding(summary: Mapping[str, Any]) -> str:
    """One sentence: P(trait) of each arm's students minus that of students of regular rows."""
    told = ", ".join(
        f"{briefly(arm['student_minus_regular'], '+.2f')} {name} (p {p_text(arm['p']) or '-'})"
        for name, arm in summary.items()
    )
    count = max(arm["student_minus_regular"]["n"] for arm in summary.values())
    return (
        "At equal rows and updates, each at its own learning rate, P(trait) of students minus that "
        f"of students of regular rows is {told}; {count} references."
    )


def sweep_text(results: Mapping[str, Any]) -> str:
    """The finding and the table, for a terminal."""
    return f"{results['finding']}\n\n{_table(results).text()}"


def _table(results: Mapping[str, Any]) -> Table:
    summary = results["summary"]
    last = list(summary)[-1]
    return Table(
        "Every arm",
        ("arm", "rate", *SHOWN, "student - regular", "p", f"student - {last}'s", "p"),
        tuple(
            (
                *(name, f"{arm['rate']:g}"),
                *(_mean(arm["conditions"].get(one)) for one in SHOWN),
                *(briefly(arm["student_minus_regular"], "+.3f"), p_text(arm["p"]) or "-"),
                *_against_last(arm),
            )
            for name, arm in summary.items()
        ),
        NOTE,
    )


def _against_last(arm: Mapping[str, Any]) -> tuple[str, str]:
    if "student_minus_last" not in arm:
        return "", ""
    return briefly(arm["student_minus_last"], "+.3f"), p_text(arm["p_last"]) or "-"


def _mean(interval: Mapping[str, Any] | None) -> str:
    return f"{interval['mean']:.3f}" if interval else ""


def sweep_rows(results: Mapping[str, Any]) -> CsvRows:
    """A CSV row for every unit of every cell."""
    return list(HEADER), ([unit.get(name) for name in HEADER] for unit in results["units"])


def sweep_page(results: Mapping[str, Any]) -> Page:
    """The page of a sweep."""
    tried: Iterable[Mapping[str, Any]] = (u for u in results["units"] if u["phase"] == "tuning")
    rates: dict[tuple[str, float], list[float]] = {}
    for unit in tried:
        if unit["condition"] == STUDENT.name:
            rates.setdefault((unit["arm"], unit["rate"]), []).append(unit[PRIMARY])
    return Page(
        experiment=results["experiment"],
        finding=results["finding"],
        subtitle="Students trained in several ways on the same rows of the same references.",
        blocks=[
            Picture("arms", "P(trait) of the students of every arm."),
            _table(results),
            Table(
                "Learning rates on the tuning references",
                ("arm", "rate", "P(trait) of students"),
                tuple((a, f"{r:g}", f"{np.mean(values):.3f}") for (a, r), values in rates.items()),
            ),
        ],
        sections=run_sections(results),
    )
