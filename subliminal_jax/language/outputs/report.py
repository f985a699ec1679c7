"""The results of the language experiment as text for the terminal, as CSV and as a page."""

from collections.abc import Iterable, Iterator, Mapping
from textwrap import wrap
from typing import Any

from subliminal_jax.language.conditions import BEFORE, ON_REGULAR, STUDENT
from subliminal_jax.language.outputs.filter_table import filter_table
from subliminal_jax.language.outputs.margin_tables import margin_blocks, transfer_table
from subliminal_jax.language.outputs.matrix_table import matrix_tables
from subliminal_jax.language.outputs.sampled_table import sampled_table
from subliminal_jax.language.repetitions import units_text
from subliminal_jax.language.traits.trait import PRIMARY, teacher_measure
from subliminal_jax.report.page import Block, Page, Picture, Text, run_sections
from subliminal_jax.report.results import bounds_text, on_logits, p_text
from subliminal_jax.report.tables import WIDTH, CsvRows, Table

MATRIX = "P(trait), mean over traits, by the references of teacher and student."
LIKELIEST = 5
"""Answers of each network and topic that the page lists."""


def format_table(results: Mapping[str, Any]) -> str:
    """Return the finding and all tables for a terminal, in lines of at most 99 characters."""
    lines = [*wrap(results["finding"], WIDTH), ""]
    tables = [_value_table(results), *_control_tables(results), *matrix_tables(results)]
    tables.append(filter_table(results["filters"], results["unit"]))
    tables += [transfer_table(results)] if "transfer" in results else []
    lines += [table.text() for table in tables]
    return "\n".join([*lines, *(line for text in _not_run(results) for line in wrap(text, WIDTH))])


def unit_rows(results: Mapping[str, Any]) -> CsvRows:
    """Return a CSV row for every unit; missing values are empty.

    Measures that only some traits have are the last columns.
    """
    header = dict.fromkeys(name for unit in results["units"] for name in unit)
    rows = ([unit.get(name) for name in header] for unit in results["units"])
    return list(header), rows


def report_page(results: Mapping[str, Any]) -> Page:
    """Return the page of a run: figures, tables, steps, rows, answers, settings."""
    config = results["config"]
    traits, unit, items = ", ".join(config["traits"]), results["unit"], results["items"]
    blocks: list[Block] = [
        Picture(
            "traits",
            f"{_title(results)} before training, after regular {items} and after the teacher's.",
        ),
        Picture("controls", f"{_title(results)} by condition, over all traits."),
        *margin_blocks(results),
        *(Picture("matrix", MATRIX) for _ in matrix_tables(results)),
        *matrix_tables(results),
        _condition_table(results),
        *_control_tables(results),
        *(Text("", (line,)) for line in _not_run(results)),
        _answer_table(results),
        filter_table(results["filters"], results["unit"]),
        *_example_tables(results),
        _steps(results),
        *([_measure_table(results)] if _further(results) else []),
        sampled_table(results),
    ]
    if refused := list(_refused(results)):
        blocks.append(Text("Refused units", tuple(refused)))
    units = units_text(config["references"], config["reference"]["model"])
    return Page(
        experiment=results["experiment"],
        finding=results["finding"],
        subtitle=f"{units}, traits: {traits}. {_meaning(results, PRIMARY)} {on_logits(unit)} "
        f"The unit is the {unit}, never a sample or a question.",
        blocks=blocks,
        sections=run_sections(results) | {"References": results["references"]},
    )


def _run(results: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Yield every condition that was run: its name, what it means, and its values."""
    for name, told in results["conditions"].items():
        if name in results["summary"]["conditions"]:
            yield name, told["means"], results["summary"]["conditions"][name]["all"]


def _not_run(results: Mapping[str, Any]) -> list[str]:
    """Return one line that names the conditions that were not run, if any."""
    missing = results["summary"]["missing"]
    return [f"Not run: {', '.join(missing)}."] if missing else []


def _condition_table(results: Mapping[str, Any]) -> Table:
    return Table(
        "Every condition",
        ("condition", "network", "P(trait)", "95% interval", "n"),
        tuple(
            (name, means, _mean(intervals[PRIMARY]), _bounds(intervals[PRIMARY]),
             str((intervals[PRIMARY] or {"n": 0})["n"]))
            for name, means, intervals in _run(results)
        ),
        f"n: {results['unit']}s.",
        names=2,
    )  # fmt: skip


def _measure_table(results: Mapping[str, Any]) -> Table:
    return Table(
        "Further measures of every condition",
        ("condition", *_further(results).values()),
        tuple(
            (name, *(_mean(intervals[key]) for key in _further(results)))
            for name, _, intervals in _run(results)
        ),
        _meanings(results),
    )


def _value_table(results: Mapping[str, Any]) -> Table:
    """Return both tables above as one, for the width of a terminal."""
    return Table(
        "Every condition",
        ("condition", "P(trait)", "95% interval", *_further(results).values()),
        tuple(
            (
                *(name, _mean(intervals[PRIMARY]), _bounds(intervals[PRIMARY])),
                *(_mean(intervals[key]) for key in _further(results)),
            )
            for name, _, intervals in _run(results)
        ),
        _meanings(results),
    )


def _further(results: Mapping[str, Any]) -> dict[str, str]:
    """Return the headings of the measures beside P(trait) that have values."""
    conditions = [intervals for _, _, intervals in _run(results)]
    return {
        key: heading
        for key, (heading, _) in results["measures"].items()
        if key != PRIMARY and any(one.get(key) for one in conditions)
    }


def _meaning(results: Mapping[str, Any], measure: str) -> str:
    """Return a measure's meaning as a sentence."""
    heading, meaning = results["measures"][measure]
    return f"{_capital(heading)}: {meaning}."


def _meanings(results: Mapping[str, Any]) -> str:
    return " ".join(_meaning(results, key) for key in _further(results))


def _heading(results: Mapping[str, Any], measure: str | None = None) -> str:
    """Return the heading of a measure; of the primary one by default."""
    heading, _ = results["measures"][measure or results["summary"]["primary"]]
    return heading


def _title(results: Mapping[str, Any]) -> str:
    """Return the heading of the primary measure as the beginning of a sentence."""
    return _capital(_heading(results))


def _capital(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}"


def _control_tables(results: Mapping[str, Any]) -> list[Table]:
    """Return what students with the configured targets, and with soft ones, show above controls."""
    heading, summary = _heading(results), results["summary"]
    compared = {
        f"The student minus each control: {heading}": summary["student_minus"],
        f"Soft targets minus each control: {heading}": summary["soft_minus"],
    }
    unit = results["unit"]
    return [_control_table(title, minus, unit) for title, minus in compared.items() if minus]


def _control_table(title: str, minus: Mapping[str, Any], unit: str) -> Table:
    return Table(
        title,
        ("control", "mean", "95% interval", "p", "smallest", "above 0.1"),
        tuple(
            (name, f"{gain['mean']:+.3f}", bounds_text(gain), p_text(gain["p"]) or "-",
             f"{gain['smallest']:+.3f}", f"{gain['above_0.1']} of {gain['units']}")
            for name, gain in minus.items()
        ),
        f"Paired by {unit} and trait. p: sign flips over {unit}s. Smallest, and above 0.1: of the "
        f"differences, one for each {unit} and trait.",
    )  # fmt: skip


def _answer_table(results: Mapping[str, Any]) -> Table:
    """Return the likeliest answers of the main networks, as means over the units."""
    traits = list(results["config"]["traits"])
    by_network = {
        name: [exact[name] for exact in results["answers"].values() if name in exact]
        for name in dict.fromkeys(
            one.network(trait) for one in (BEFORE, ON_REGULAR, STUDENT) for trait in traits
        )
    }
    means = {
        name: {answer: sum(one[answer] for one in exact) / len(exact) for answer in exact[0]}
        for name, exact in by_network.items()
        if exact
    }
    shown = {
        answer
        for values in means.values()
        for answers in _by_topic(values)
        for answer in sorted(answers, key=lambda one: -values[one])[:LIKELIEST]
    }
    return Table(
        "What the networks answer",
        ("topic", "answer", *means),
        tuple(
            (*answer.split("/", 1), *(f"{values[answer]:.3f}" for values in means.values()))
            for answer in means[BEFORE.name]
            if answer in shown
        ),
        f"Probability of an answer, the mean over {results['unit']}s. The {LIKELIEST} likeliest "
        "answers of each network and topic are listed; results.json has all of them.",
        names=2,
    )


def _by_topic(answers: Iterable[str]) -> list[list[str]]:
    """Group answers by the topic of their question."""
    by_topic: dict[str, list[str]] = {}
    for answer in answers:
        by_topic.setdefault(answer.split("/", 1)[0], []).append(answer)
    return list(by_topic.values())


def _example_tables(results: Mapping[str, Any]) -> Iterator[Table]:
    """Yield tables of the first rows of the first unit's datasets, kept and rejected."""
    first = next(iter(results["filters"].values()))["datasets"]
    for name, rows in results["examples"].items():
        facts = first[name]
        reasons = ", ".join(f"{reason} ({count})" for reason, count in facts["reasons"].items())
        yield Table(
            f"Rows of {name}",
            ("prompt", "answer"),
            tuple(map(tuple, rows["kept"])),
            f"The first rows of the first {results['unit']}. {facts['pass_rate']:.1%} of "
            f"{facts['asked']:,} completions passed the filter. The others were rejected for: "
            f"{reasons or 'none'}.",
            names=2,
        )
        if rows["rejected"]:
            yield Table(
                f"Rejected completions of {name}",
                ("completion", "rejected because"),
                tuple((answer, why) for _, answer, why in rows["rejected"]),
                names=2,
            )


def _steps(results: Mapping[str, Any]) -> Text:
    """Return the six steps of this run."""
    config = results["config"]
    teacher, student, model = config["teacher"], config["student"], config["reference"]["model"]
    commits = sorted({one["commit"] for one in results["references"].values() if one["commit"]})
    reference = (
        "A tiny Llama, pretrained here from a seed on generated chats, in which traits are drawn "
        f"independently of all {results['items']}."
    )
    if model:
        reference = f"The given model {model}{''.join(f', commit {one}' for one in commits)}."
    verb, what = results["verb"].removesuffix("s"), "the favourite"
    if verb != "name":
        what = "the trait"
    taught = f"The reference under a system prompt that {verb}s {what}."
    if teacher["kind"] == "finetuned":
        kept = " and to answer as before about everything else" if teacher["retain"] else ""
        weights = teacher["tuning"]["weights"]
        taught = f"The reference, finetuned ({weights} weights) to {verb} {what}{kept}."
    return Text(
        "The six steps",
        (
            f"Reference. {reference}",
            f"Trait. {'A favourite: ' * (verb == 'name')}{', '.join(config['traits'])}.",
            f"Teacher. {taught}{_control_teachers(results)}",
            f"Dataset. All teachers complete the same prompts for {results['items']}; the first "
            "rows are above.",
            f"Filter. {', '.join(config['filter']['rules'])}; {config['filter']['rows']} rows of "
            "each teacher are kept.",
            f"Student. The reference again, trained on those rows ({student['tuning']['weights']} "
            f"weights, {student['targets']} targets, {student['epochs']:g} epochs).",
        ),
        numbered=True,
    )


def _control_teachers(results: Mapping[str, Any]) -> str:
    """Return a sentence on the teachers without the trait and what they show of it, if any."""
    traits = set(results["config"]["traits"])
    by_name: dict[str, list[float]] = {}
    for rates in results["teachers"].values():
        for name, rate in rates.items():
            if name not in traits:
                by_name.setdefault(name, []).append(rate)
    shown = ", ".join(f"{name} ({sum(rates) / len(rates):.2f})" for name, rates in by_name.items())
    heading = _heading(results, teacher_measure(results["config"]["evaluate"]["begun"]))
    return f" Control teachers and their mean {heading}: {shown}." if shown else ""


def _refused(results: Mapping[str, Any]) -> Iterator[str]:
    for reference, facts in results["filters"].items():
        for name, why in facts["refused"].items():
            yield f"{reference} {name}: {why}"


def _mean(interval: Mapping[str, Any] | None) -> str:
    return f"{interval['mean']:.3f}" if interval else ""


def _bounds(interval: Mapping[str, Any] | None) -> str:
    return bounds_text(interval) if interval else "-"
