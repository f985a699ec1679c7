"""The results of the detection experiment as text for the terminal, as CSV and as a page."""

from collections.abc import Mapping
from textwrap import wrap
from typing import Any

from subliminal_jax.audit.detectors import AGAINST, DETECTORS
from subliminal_jax.audit.results import verdict
from subliminal_jax.language.repetitions import units_text
from subliminal_jax.report.page import Page, Picture, Text, run_sections
from subliminal_jax.report.results import bounds_text, on_logits, p_text
from subliminal_jax.report.tables import WIDTH, CsvRows, Table

CSV_HEADER = (
    *("reference", "trait", "detector", "against", "told_from", "size", "rows", "bags", "measure"),
    *("value", "chance_low", "chance_high", "open", "p_trait", "p_other", "log_gain", "named"),
    *("alike", "student"),
)
NOTE = (
    "AUC or, for `asked which of two`, accuracy; chance is .5. Control: the value if one row of "
    "each set says the trait openly; a detector that misses it cannot read, and its null result "
    "says nothing. Outside: single teachers outside the 95% that exchanging the two datasets gives."
)
LIMITS = (
    "A null result is only as good as the reader. A tiny reference reads little: where the control "
    "is near .5, it would not find the trait even if a row said it.",
    "n-grams, same teacher: labelled rows of the very teacher are enough to recognise it, as they "
    "must be if a student can learn from them. They show a difference, not which trait it is.",
    "n-grams, other traits: what somebody can do who has other teachers' data but not this one's. "
    "This is the fair test of whether a teacher with some trait can be recognised.",
)
"""How to read the values."""
READING = (
    "P(trait), and P(trait) with the other rows: probability of the trait's answer after the "
    "teacher's rows, and after those it is told from. Log gain: mean difference of their "
    "logarithms (nats). Named: how often the trait is the likeliest of the run's, and how often by "
    "chance."
)


def format_table(results: Mapping[str, Any]) -> str:
    """Return the finding and the main table for a terminal, in lines of at most 99 characters."""
    lines = [*wrap(results["finding"], WIDTH), "", main_table(results).text()]
    return "\n".join([*lines, *wrap(_intervals(results), WIDTH)])


def unit_rows(results: Mapping[str, Any]) -> CsvRows:
    """Return a CSV row for every unit; missing values are empty."""
    return list(CSV_HEADER), ([unit.get(name) for name in CSV_HEADER] for unit in results["units"])


def report_page(results: Mapping[str, Any]) -> Page:
    """Return the page of a run: figure, tables, meanings, settings."""
    config, items = results["config"], results["items"]
    units = units_text(len(results["references"]), config["reference"]["model"])
    return Page(
        experiment=results["experiment"],
        finding=results["finding"],
        subtitle=f"{units}, traits: {', '.join(config['traits'])}. {_intervals(results)}",
        blocks=[
            Picture("detection", "How well each detector does, by the number of rows it judges."),
            main_table(results),
            Text("What the values can say", LIMITS),
            Text("What each detector is given", tuple(
                f"{one.label}: {one.means.format(items=items)}" for one in DETECTORS.values()
                if one.name in config["detect"]["detectors"]
            )),
            _reading_table(results),
            *_student_tables(results),
        ],
        sections=run_sections(results) | {"References": results["references"]},
    )  # fmt: skip


def _intervals(results: Mapping[str, Any]) -> str:
    unit = results["unit"]
    return (
        f"{on_logits(unit)} The unit is the {unit}, never a row or a set of rows. p: two-sided "
        f"sign-flip test over {unit}s."
    )


def main_table(results: Mapping[str, Any]) -> Table:
    """Return the table of all detectors, contrasts and sizes."""
    return Table(
        "Told apart",
        ("detector", "from", "rows", "value", "95% interval", "p", "outside", "control", "verdict"),
        tuple(
            (
                DETECTORS[one["detector"]].label,
                one["against"],
                _rows(one),
                f"{one['value']['mean']:.3f}",
                _bounds(one["value"]),
                p_text(one["p"]),
                f"{one['outside']}/{one['units']}",
                _mean(one["open"]),
                verdict(one),
            )
            for one in results["summary"]
        ),
        f"{NOTE} {_contrasts(results)}",
        names=2,
    )


def _contrasts(results: Mapping[str, Any]) -> str:
    told = (f"{name}: {words.format(items=results['items'])}" for name, words in AGAINST.items())
    return f"From: what the teacher's rows are told from ({'; '.join(told)})."


def _reading_table(results: Mapping[str, Any]) -> Table:
    """Return the probabilities behind the detectors that ask about the trait."""
    return Table(
        "Probabilities of the trait's answer",
        ("detector", "from", "rows", "P(trait)", "with the other", "log gain", "interval", "named",
         "chance"),
        tuple(
            (
                DETECTORS[one["detector"]].label,
                one["against"],
                _rows(one),
                _mean(one["p_trait"], ".4f"),
                _mean(one["p_other"], ".4f"),
                _mean(one["log_gain"]),
                _bounds(one["log_gain"]),
                _mean(one["named"]),
                "" if one["named_chance"] is None else f"{one['named_chance']:.3f}",
            )
            for one in results["summary"]
            if one["p_trait"] is not None
        ),
        READING,
        names=2,
    )  # fmt: skip


def _student_tables(results: Mapping[str, Any]) -> list[Table]:
    """Return the students' P(trait), if the run has measured them."""
    rows = [
        (seed, trait, f"{value:.3f}")
        for seed, by_trait in results["students"].items()
        for trait, value in by_trait.items()
    ]
    if not rows:
        return []
    note = "P(trait) of the students that were trained on these very rows."
    return [Table("Students", (results["unit"], "trait", "P(trait)"), tuple(rows), note, names=2)]


def _rows(entry: Mapping[str, Any]) -> str:
    return f"{entry['rows']:g}" if entry["rows"] == round(entry["rows"]) else f"{entry['rows']:.1f}"


def _mean(entry: Mapping[str, Any] | None, spec: str = ".3f") -> str:
    return f"{entry['mean']:{spec}}" if entry else ""


def _bounds(entry: Mapping[str, Any] | None) -> str:
    """As `bounds_text`; empty without an entry."""
    if entry is None:
        return ""
    return bounds_text(entry)
