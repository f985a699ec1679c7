"""Runs a benchmark as every experiment is run: in a directory of its own, with its config, once."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from subliminal_jax.report.page import Page, Text, run_sections
from subliminal_jax.report.tables import CsvRows, Table
from subliminal_jax.runs import runner
from subliminal_jax.runs.shared_run import SharedRun


def run(
    config: Any,
    settings: Mapping[str, Any],
    name: str,
    what: str,
    measure: Callable[[SharedRun], dict[str, Any]],
    blocks: Callable[[Mapping[str, Any]], Sequence[Table | Text]],
    csv: Callable[[Mapping[str, Any]], CsvRows],
) -> None:
    """Time what is to be timed, write all files and print the tables; see `runner.run`.

    Args:
        config: `out` and `overwrite` are read.
        settings: the config as plain values, without these two.
        name: of the script.
        what: what is timed on what, in a few words.
        measure: returns the results, with `finding`, from the run directory.
        blocks: tables and notes of the results, for a terminal and the page.
        csv: header and rows of results.csv.

    Raises:
        InputError: the run directory is refused, or `measure` refuses something.
    """

    def text(results: Mapping[str, Any]) -> str:
        return "\n".join([results["finding"], "", *map(_text, blocks(results))])

    def page(results: Mapping[str, Any]) -> Page:
        return Page(
            experiment=name,
            finding=results["finding"],
            subtitle=f"{what}.",
            blocks=blocks(results),
            sections=run_sections(results),
        )

    runner.run(
        runner.Experiment(
            name=name,
            what=what,
            config=settings,
            measure=lambda directory: measure(directory) | {"config": dict(settings)},
            table=text,
            csv=csv,
            page=page,
            figures={},
            out=config.out,
            overwrite=config.overwrite,
        )
    )


def _text(block: Table | Text) -> str:
    """Return a block as text for a terminal."""
    if isinstance(block, Table):
        return block.text()
    return "\n".join([*([block.title] if block.title else []), *block.paragraphs])
