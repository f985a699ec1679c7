"""What a run found, as a table for the terminal, a CSV file and one page of HTML."""

import base64
import csv
import importlib.resources
import io
import textwrap
from collections.abc import Sequence
from typing import Any

import jinja2

from subliminal_jax.results import (
    Arm,
    Results,
    data_line,
    duration,
    read_arms,
    relation_text,
    run_line,
    warning_line,
)
from subliminal_jax.stats import Interval
from subliminal_jax.tables import Table

COLUMNS = 99  # fits a 100-column terminal
NAME_COLUMNS = 38
CSV_HEADER = ("arm", "member", "accuracy", "init_distance", "relation")


def format_table(results: Results) -> str:
    """Write the arms of a run as plain text for a terminal.

    Args:
        results: The results of a run.

    Returns:
        Lines of at most 99 characters, ending in a newline: the finding, what was measured on what
        and why, then a row per arm with its mean test accuracy, 95% interval over members, number
        of members, initialisation distance and published mean (each if any arm has one).

    Raises:
        InputError: The results hold no arms, or an arm that contradicts itself.
    """
    arms = read_arms(results)
    rows = [_row(arm) for arm in arms]
    shown = ["arm", "accuracy", "95% interval", "n"]
    shown += ["init distance"] if any(arm.distance for arm in arms) else []
    shown += ["published"] if any(arm.published is not None for arm in arms) else []
    width = {name: max(len(name), *(len(row[name]) for row in rows)) for name in shown}
    width["arm"] = min(width["arm"], NAME_COLUMNS)
    lines = [*_preamble(results), ""]
    lines.append(_aligned({name: name for name in shown}, width))
    lines.append("  ".join("-" * width[name] for name in shown))
    for row in rows:
        first, *rest = textwrap.wrap(row["arm"], width["arm"])
        lines.append(_aligned(row | {"arm": first}, width))
        lines += [f"  {part}" for part in rest]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def format_csv(results: Results) -> str:
    """Write every member of every arm as CSV text.

    Args:
        results: The results of a run.

    Returns:
        A header and a row per member and arm, in full precision: `arm`, `member` (from 0),
        `accuracy` (a fraction), `init_distance` and `relation` (both empty where there is none).

    Raises:
        InputError: The results hold no arms, or an arm that contradicts itself.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_HEADER)
    for arm in read_arms(results):
        relation = relation_text(arm.relation)
        distances = arm.distances or ("",) * len(arm.values)
        for member, (value, distance) in enumerate(zip(arm.values, distances, strict=True)):
            writer.writerow([arm.name, member, value, distance, relation])
    return text.getvalue()


def html_report(results: Results, figure_png: bytes) -> str:
    """Write a run as one self-contained page that prints on one sheet of A4.

    Everything from the results is escaped: a path or a reason may hold any character.

    Args:
        results: The results of a run.
        figure_png: The figure to show, as the bytes of a PNG.

    Returns:
        HTML that refers to nothing outside itself.

    Raises:
        InputError: The results hold no arms, or an arm that contradicts itself.
    """
    return html_page(results, [_arm_table(read_arms(results))], figure_png)


def html_page(results: Results, tables: Sequence[Table], figure_png: bytes) -> str:
    """Write any run as one self-contained page: finding, figure, tables, all that it ran on.

    Args:
        results: The results of a run; `finding`, `data`, `config`, `environment` and `timing` are
            read.
        tables: What is shown below the figure.
        figure_png: The figure to show, as the bytes of a PNG.

    Returns:
        HTML that refers to nothing outside itself; everything from the results is escaped.
    """
    # Always on: the usual choice by file extension would not escape in a `.j2` template.
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    source = importlib.resources.files("subliminal_jax").joinpath("report.html.j2")
    return environment.from_string(source.read_text(encoding="utf-8")).render(
        results=results,
        tables=tables,
        lines=sum(len(table.rows) for table in tables),
        subtitle=f"{data_line(results)}. {run_line(results)}.",
        warning=warning_line(results),
        sections=_sections(results),
        figure=base64.b64encode(figure_png).decode("ascii"),
    )


def preamble(results: Results) -> str:
    """The finding, what was measured on what and why, and how long it took, for a terminal."""
    return "\n".join(_preamble(results)) + "\n"


def _arm_table(arms: list[Arm]) -> Table:
    """The arms as a page shows them: under their names for a reader, each with its relation."""
    columns = {"label": "arm", "relation": "relation to the teacher's initialisation"}
    columns |= {"accuracy": "test accuracy", "95% interval": "95% interval", "n": "members"}
    columns |= {"init distance": "init distance", "published": "published"}
    related = any(arm.distance for arm in arms)
    published = any(arm.published is not None for arm in arms)
    absent = set() if related else {"relation", "init distance"}
    absent |= set() if published else {"published"}
    shown = [name for name in columns if name not in absent]
    note = "Intervals: Student's t over members; one trained model is one observation."
    if published:
        note += " Published: means read off the paper's figure (arXiv 2507.14805)."
    return Table(
        title="",
        columns=tuple(columns[name] for name in shown),
        rows=tuple(tuple(_row(arm)[name] for name in shown) for arm in arms),
        note=note,
        names=2 if related else 1,
    )


def _preamble(results: Results) -> list[str]:
    facts = [
        ("data", f"{data_line(results)}, from {results['data']['source']}"),
        ("why", results["data"]["reason"]),
        ("run", f"{results['experiment']}, {run_line(results)}"),
        ("time", ", ".join(f"{name} {time}" for name, time in _times(results).items())),
    ]
    lines = textwrap.wrap(results["finding"], COLUMNS)
    warning = warning_line(results)
    if warning is not None:
        # The reason is part of the warning, so it is not given twice.
        facts = [fact for fact in facts if fact[0] != "why"]
        lines += ["", *textwrap.wrap(f"!!! {warning}", COLUMNS, subsequent_indent="!!! ")]
    lines.append("")
    for name, fact in facts:
        lines += textwrap.wrap(
            fact, COLUMNS, initial_indent=f"{name:<6}", subsequent_indent=" " * 6
        )
    return lines


def _sections(results: Results) -> dict[str, dict[str, Any]]:
    data, environment = results["data"], results["environment"]
    return {
        "Configuration": dict(results["config"]),
        "Versions": {
            "python": environment["python"],
            **environment["packages"],
            "platform": environment["platform"],
            "devices": ", ".join(environment["devices"]),
            "git": environment["git"],
        },
        "Time": _times(results),
        "Data": {"source": data["source"], "reason": data["reason"], **data["digests"]},
    }


def _times(results: Results) -> dict[str, str]:
    timing = results["timing"]
    seconds = {"total": timing["total_s"], "compile": timing["compile_s"], **timing["phases"]}
    return {name: duration(value) for name, value in seconds.items()}


def _row(arm: Arm) -> dict[str, str]:
    return {
        "arm": arm.name,
        "accuracy": f"{arm.accuracy.mean:.3f}",
        "95% interval": _bounds(arm.accuracy),
        "n": str(arm.accuracy.n),
        "init distance": "" if arm.distance is None else f"{arm.distance.mean:.3f}",
        "published": "" if arm.published is None else f"{arm.published:.3f}",
        "label": arm.label,
        "relation": relation_text(arm.relation),
    }


def _bounds(interval: Interval) -> str:
    # One run says nothing about the spread between runs.
    return f"[{interval.low:.3f}, {interval.high:.3f}]" if interval.known else "none"


def _aligned(row: dict[str, Any], width: dict[str, int]) -> str:
    name, *numbers = width
    return "  ".join([f"{row[name]:<{width[name]}}", *(f"{row[n]:>{width[n]}}" for n in numbers)])
