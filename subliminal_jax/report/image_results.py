"""Terminal text and page of an experiment on images: data and times, then tables."""

import textwrap
from collections.abc import Sequence

from subliminal_jax.report.page import Page, Picture, run_sections, times
from subliminal_jax.report.results import Results, data_line, run_line, warning_line
from subliminal_jax.report.tables import WIDTH, Table

FIGURE = "figure"
"""Name of the figure of an experiment on images."""


def image_text(results: Results, tables: Sequence[Table]) -> str:
    """Return a run as text for a terminal.

    Args:
        results: `finding`, `experiment`, `data`, `timing` and what `run_line` needs are read.
        tables: tables to show below.

    Returns:
        Lines of at most 99 characters: the finding, what was measured on what and why, how long
        it took, and the tables.
    """
    return "\n".join([_preamble(results), *(table.text() for table in tables)])


def image_page(results: Results, tables: Sequence[Table], shows: str) -> Page:
    """Return the page of a run: finding, figure, tables, settings, versions, times and data.

    Args:
        results: as of `image_text`, and `config` and `environment`.
        tables: tables to show below the figure.
        shows: what the figure shows, for a reader who cannot see it.
    """
    data = results["data"]
    return Page(
        experiment=results["experiment"],
        finding=results["finding"],
        subtitle=f"{data_line(results)}. {run_line(results)}.",
        warning=warning_line(results),
        blocks=[Picture(FIGURE, shows), *tables],
        sections=run_sections(results)
        | {"Data": {"source": data["source"], "reason": data["reason"], **data["digests"]}},
    )


def _preamble(results: Results) -> str:
    facts = {
        "data": f"{data_line(results)}, from {results['data']['source']}",
        "why": results["data"]["reason"],
        "run": f"{results['experiment']}, {run_line(results)}",
        "time": ", ".join(f"{name} {time}" for name, time in times(results).items()),
    }
    lines = textwrap.wrap(results["finding"], WIDTH)
    warning = warning_line(results)
    if warning is not None:
        del facts["why"]  # the warning says it
        lines += ["", *textwrap.wrap(f"!!! {warning}", WIDTH, subsequent_indent="!!! ")]
    lines.append("")
    for name, fact in facts.items():
        lines += textwrap.wrap(fact, WIDTH, initial_indent=f"{name:<6}", subsequent_indent=" " * 6)
    return "\n".join(lines) + "\n"
