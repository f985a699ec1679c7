"""Runs an experiment from its config to its files; a rerun resumes it or shows it again.

On several hosts all make the same calls; the first one writes and prints.
"""

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import jax

from subliminal_jax import plotting
from subliminal_jax.config import config_digest
from subliminal_jax.entry import one_line
from subliminal_jax.errors import InputError
from subliminal_jax.execution import hosts
from subliminal_jax.report.page import Page, html_page
from subliminal_jax.report.tables import CsvRows, csv_text
from subliminal_jax.runs.environment import environment
from subliminal_jax.runs.shared_run import SharedRun, say, shared_run

K = TypeVar("K")
Row: TypeAlias = dict[str, Any]
CSV, REPORT = "results.csv", "report.html"


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """What makes one experiment differ from another.

    Attributes:
        name: name of the script, the results and the default run directory.
        what: what is measured on what, in a few words.
        config: the resolved config as plain values; the run directory belongs to it.
        measure: does the work in the run directory. Returns the results, with `finding` but
            without `environment` and the total time; None if only one stage was run. It may keep
            rows or artifacts in the directory and resume from them.
        table: the results as text for a terminal.
        csv: the header and the rows of results.csv.
        page: the results as a page.
        figures: functions that draw a figure of the results, by the name of its files; may be none.
        out: the run directory; None for one named after the config's digest.
        overwrite: discard what an earlier run left in the directory.
    """

    name: str
    what: str
    config: Mapping[str, Any]
    measure: Callable[[SharedRun], dict[str, Any] | None]
    table: Callable[[dict[str, Any]], str]
    csv: Callable[[dict[str, Any]], CsvRows]
    page: Callable[[dict[str, Any]], Page]
    figures: Mapping[str, Callable[[dict[str, Any]], Any]]
    out: Path | None = None
    overwrite: bool = False
    started: float = field(default_factory=time.perf_counter)

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the files for a reader; all can be made from the results alone."""
        drawn = [f"{name}.{kind}" for name in self.figures for kind in ("png", "pdf")]
        return (*drawn, CSV, REPORT)


def run_path(name: str, config: Mapping[str, Any], out: Path | None) -> Path:
    """Return the run directory: `out`, or `runs/NAME-DIGEST` with the digest of the config."""
    return out or Path("runs") / f"{name}-{config_digest(dict(config))[:8]}"


def run(experiment: Experiment) -> dict[str, Any] | None:
    """Measure what is missing, write all files and print the findings.

    Returns:
        The results, as in results.json; None if only one stage was run, and on every host but the
        first.

    Raises:
        InputError: the run directory or its results are refused, or `measure` refuses something;
            on every host.
        RunError: `measure` failed; on every host.
    """
    out = run_path(experiment.name, experiment.config, experiment.out)
    say(f"{experiment.name}: {experiment.what}; in {out}")
    with shared_run(out, dict(experiment.config), overwrite=experiment.overwrite) as directory:
        results = directory.results()
        if results is not None:
            _restore(experiment, directory, results)
            say(f"already done: {directory.path}")
        else:
            results = experiment.measure(directory)
            if results is None:
                return None
            _finish(experiment, directory, results)
        if not hosts.is_first():
            return None
        print(experiment.table(results))
        kinds = {0: "Report", 1: "Figure, report"}.get(len(experiment.figures), "Figures, report")
        print(f"\n{kinds} and numbers: {one_line(str(directory.path))}")
    return results


def all_rows(
    directory: SharedRun,
    name: str,
    key_of: Callable[[Row], K | None],
    measure: Callable[[Mapping[K, Row]], Generator[Row, None, None]],
    *,
    total: int,
    what: str,
) -> dict[K, Row]:
    """Return the rows of an interrupted run and those that are missing, each saved as it comes.

    Args:
        directory: the run's.
        name: the JSON Lines file.
        key_of: as of `earlier_rows`.
        measure: yields the missing rows from the rows so far, which grow as it yields; a row that
            is there already is dropped.
        total: how many rows there are in the end.
        what: what the rows are of, in the plural, for the line about resuming.

    Returns:
        All rows by key, those of the interrupted run first.

    Raises:
        InputError: as `earlier_rows`, or the disk is full.
        ValueError: `key_of` refuses a row that `measure` yields.
    """
    rows = earlier_rows(directory, name, key_of)
    if rows:
        say(f"resuming: {len(rows)} of {total} {what} are done")
    with closing(measure(rows)) as measured:
        for row in measured:
            key = key_of(row)
            if key is None:
                raise ValueError(f"{name}: a resumed run would refuse the row {row}")
            if key not in rows:
                rows[key] = row
                directory.append_row(name, row)
    return rows


def earlier_rows(
    directory: SharedRun, name: str, key_of: Callable[[Row], K | None]
) -> dict[K, Row]:
    """Return the rows that an interrupted run left, by key, after checking each.

    Args:
        directory: the run's.
        name: the JSON Lines file.
        key_of: returns the key of a row, such as its member; None if the row has not the form of
            this run's rows.

    Raises:
        InputError: a row is not a row of this run, or repeats an earlier key; gives its line.
    """
    rows: dict[K, Row] = {}
    for line, row in enumerate(directory.read_rows(name), start=1):
        key = key_of(row)
        if key is None or key in rows:
            raise InputError(
                f"{directory.path / name}: line {line} is not a row of this run, or repeats an "
                "earlier one; restore the file, or remove that line"
            )
        rows[key] = row
    return rows


def has_numbers(values: Any, names: Sequence[str]) -> bool:
    """Return whether values are floats, or lists with some floats each, by exactly these names."""
    if not isinstance(values, dict) or list(values) != list(names):
        return False
    lists = [value if isinstance(value, list) else [value] for value in values.values()]
    return all(some and all(isinstance(one, float) for one in some) for some in lists)


def _finish(experiment: Experiment, directory: SharedRun, results: dict[str, Any]) -> None:
    """Write every file; results.json last, so that its presence means that all are there."""
    results["environment"] = environment() | _devices()
    total = round(time.perf_counter() - experiment.started, 3)
    results["timing"] = results.get("timing", {}) | {"total_s": total}
    made = hosts.on_first(lambda: _files(experiment, results))
    for name in experiment.files:
        directory.write(name, made[name] if made is not None else b"")
    directory.finish(results)


def _restore(experiment: Experiment, directory: SharedRun, results: dict[str, Any]) -> None:
    """Write the files again that were removed from a finished run.

    Raises:
        InputError: results.json changed since it was written, or an older version wrote it.
    """

    def missing() -> list[str]:
        return [name for name in experiment.files if not (directory.path / name).exists()]

    def remade() -> dict[str, bytes]:
        try:
            experiment.table(results)
            return _files(experiment, results) if missing() else {}
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise InputError(
                f"{directory.path / 'results.json'}: changed since it was written, or an "
                f"older version's ({one_line(repr(error))}); remove it and run the same command "
                "again"
            ) from error

    made = hosts.on_first(remade)
    for name in hosts.by_first(missing):
        directory.write(name, made[name] if made is not None else b"")


def _files(experiment: Experiment, results: dict[str, Any]) -> dict[str, bytes]:
    """Return the files for a reader, by name."""
    made, bodies = {}, {}
    for name, draw in experiment.figures.items():
        figure = draw(results)
        drawn, bodies[name] = plotting.render(figure), plotting.render_body(figure)
        made |= {f"{name}.png": drawn.png, f"{name}.pdf": drawn.pdf}
    texts = {
        CSV: csv_text(*experiment.csv(results)),
        REPORT: html_page(experiment.page(results), bodies),
    }
    # A path may hold bytes that are not UTF-8.
    return made | {name: text.encode(errors="backslashreplace") for name, text in texts.items()}


def _devices() -> dict[str, Any]:
    return {
        "backend": jax.default_backend(),
        "devices": [device.device_kind for device in jax.local_devices()],
        "processes": jax.process_count(),
    }
