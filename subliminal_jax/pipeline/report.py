"""What the language experiment found, as a table for the terminal, a CSV file and a page."""

import base64
import csv
import importlib.resources
import io
import textwrap
from collections.abc import Mapping
from typing import Any

import jinja2

from subliminal_jax.pipeline.artifacts import facts_of
from subliminal_jax.pipeline.conditions import REGULAR
from subliminal_jax.pipeline.rows import completion_of, prompt_of, read_chat_rows
from subliminal_jax.pipeline.study import Study
from subliminal_jax.stats import proportion_interval

CSV_HEADER = (
    *("reference", "trait", "condition", "p_trait", "p_trait_given_category", "category_sum"),
    *("p_trait_elsewhere", "other_category_sum", "rows", "pass_rate", "student_of"),
)
SHOWN = 5


def format_table(results: Mapping[str, Any]) -> str:
    """The finding, and a row a condition with its means and intervals over references."""
    lines = [*textwrap.wrap(results["finding"], 99), ""]
    lines.append(
        f"{'condition':28}{'P(trait)':>9}{'95% interval':>16}{'given category':>15}"
        f"{'category':>10}{'elsewhere':>10}{'others':>8}"
    )
    lines += [
        f"{row['condition']:28}{row['p_trait']:>9}{row['interval']:>16}{row['given']:>15}"
        f"{row['sum']:>10}{row['elsewhere']:>10}{row['others']:>8}"
        for row in condition_rows(results)
    ]
    lines += [
        "category: all of it named when it is asked for; elsewhere: the trait named when another",
        "category is asked for; others: all of that other category named then",
        "",
        f"{'student minus':28}{'mean':>6}{'95% interval':>16}{'p':>7}{'smallest':>11}   above .1",
    ]
    for name, gain in results["summary"]["student_minus"].items():
        p = "-" if gain["p"] is None else f"{gain['p']:.3f}"
        lines.append(
            f"{name:28}{gain['mean']:+.3f}{_bounds(gain['ci95']):>16}{p:>7}"
            f"{gain['smallest']:>+11.3f}   {gain['above_0.1']} of {gain['units']}"
        )
    missing = ", ".join(results["summary"]["missing"]) or "none"
    return "\n".join([*lines, "", f"controls that were not run: {missing}"])


def condition_rows(results: Mapping[str, Any]) -> list[dict[str, str]]:
    """Every condition as text: run or missing, with its values where it was run."""
    rows = []
    for name, told in results["conditions"].items():
        found = results["summary"]["conditions"].get(name, {}).get("all", {})
        p = found.get("p_trait")
        rows.append(
            {
                "condition": name,
                "means": told["means"],
                "p_trait": f"{p['mean']:.3f}" if p else "missing",
                "interval": _bounds(p["ci95"]) if p else "",
                "given": _mean(found.get("p_trait_given_category")),
                "sum": _mean(found.get("category_sum")),
                "elsewhere": _mean(found.get("p_trait_elsewhere")),
                "others": _mean(found.get("other_category_sum")),
                "n": str(p["n"]) if p else "",
            }
        )
    return rows


def _mean(found: Mapping[str, Any] | None) -> str:
    return f"{found['mean']:.3f}" if found else ""


def _bounds(bounds: list[float | None]) -> str:
    return "none" if bounds[0] is None else f"[{bounds[0]:.3f}, {bounds[1]:.3f}]"


def format_csv(results: Mapping[str, Any]) -> str:
    """Every unit as a row, in full precision; empty where there is no value."""
    text = io.StringIO()
    writer = csv.DictWriter(text, CSV_HEADER, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(results["units"])
    return text.getvalue()


def html_report(results: Mapping[str, Any], figures: Mapping[str, bytes], study: Study) -> str:
    """The run as one self-contained page that explains each step.

    Everything that a model or a person wrote is escaped.

    Args:
        results: the results of the run.
        figures: PNG files by name.
        study: for examples of rows.
    """
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    source = importlib.resources.files("subliminal_jax").joinpath("pipeline/report.html.j2")
    return environment.from_string(source.read_text(encoding="utf-8")).render(
        results=results,
        rows=condition_rows(results),
        gains=results["summary"]["student_minus"],
        bounds=_bounds,
        figures={name: base64.b64encode(png).decode() for name, png in figures.items()},
        examples=_examples(study),
        sampled=_sampled_rows(results),
        matrix=_matrix(results),
        filters=results["filters"],
    )


def _examples(study: Study) -> list[dict[str, Any]]:
    """A few prompts, completions and rejects of the first repetition's datasets."""
    filtered = study.filtered(0)
    shown = []
    for name in [REGULAR, *study.traits_in(filtered)]:
        kept = read_chat_rows(filtered.path / f"{name}.jsonl")[:SHOWN]
        rejected = read_chat_rows(filtered.path / f"{name}.rejected.jsonl")[:SHOWN]
        facts = facts_of(filtered)["datasets"][name]
        shown.append(
            {
                "name": name,
                "facts": facts,
                "kept": [(prompt_of(row), completion_of(row)) for row in kept],
                "rejected": [
                    (prompt_of(row), completion_of(row), ", ".join(row["reject_reasons"]))
                    for row in rejected
                ],
            }
        )
    return shown


def _sampled_rows(results: Mapping[str, Any]) -> list[list[str]]:
    """Sampled rates of every network with Wilson intervals over its samples."""
    rows = []
    for reference, networks in results["sampled"].items():
        for name, kinds in networks.items():
            for kind, counts in kinds.items():
                if not counts["of"]:
                    continue
                said = proportion_interval(counts.get("said", counts.get("valid", 0)), counts["of"])
                rows.append(
                    [
                        *(reference, name, kind, f"{said.mean:.3f}"),
                        f"[{said.low:.3f}, {said.high:.3f}]",
                        f"{counts['substring'] / counts['of']:.3f}"
                        if "substring" in counts
                        else "",
                        f"{counts['no_member'] / counts['of']:.3f}"
                        if "no_member" in counts
                        else "",
                    ]
                )
    return rows


def _matrix(results: Mapping[str, Any]) -> dict[str, Any]:
    """P(answer) of each trait's student, the mean over references: trait x answer."""
    traits = list(results["config"]["traits"])
    rows, answers = {}, []
    for trait in traits:
        found = [
            exact[f"student/{trait}"]
            for exact in results["answers"].values()
            if f"student/{trait}" in exact
        ]
        if found:
            answers = answers or list(found[0])
            rows[trait] = [sum(one[a] for one in found) / len(found) for a in answers]
    return {"answers": answers, "rows": rows}
