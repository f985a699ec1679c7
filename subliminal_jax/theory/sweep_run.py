"""A sweep from its config to its files, resumable by cell and member."""

import time
from typing import Any

from subliminal_jax import measurement, plotting, report
from subliminal_jax.config import config_dict
from subliminal_jax.data.images import load_images
from subliminal_jax.errors import InputError
from subliminal_jax.mnist.config import PLACEMENT, resolve
from subliminal_jax.progress import Progress
from subliminal_jax.runs import RunDirectory
from subliminal_jax.theory import sweep, sweep_results
from subliminal_jax.theory.sweep_config import Cell, SweepConfig
from subliminal_jax.theory.sweep_speed import Speed

ROWS = "cells.jsonl"


def run(config: SweepConfig, cells: list[Cell]) -> dict[str, Any]:
    """Run what is not yet done of a sweep, write its files and say what was found.

    Raises:
        InputError: the data, the run directory or a cell is refused.
        RunError: a loss is not finite.
    """
    started = time.perf_counter()
    data = load_images(config.data, config.data_dir)
    settled = resolve(config, data.name)
    works = sweep.plan(config, cells, data)
    described = {
        name: value for name, value in config_dict(settled).items() if name not in PLACEMENT
    }

    def measure(directory: RunDirectory) -> dict[str, Any]:
        speed = Speed(works, data)
        rows = _measure(config, cells, speed, directory)
        found = sweep_results.summarise(settled, cells, list(rows.values()), data)
        return {
            "experiment": "mnist_sweep",
            "dataset": data.name,
            "data": data.facts(),
            "config": described,
            **found,
            "finding": sweep_results.finding(found),
            "timing": _timing(speed),
        }

    measured = measurement.Measurement(
        name="mnist_sweep",
        what=f"{len(cells)} cells of {config.members} members on {data.name} ({data.reason}), "
        f"{len(works)} program(s)",
        config=described,
        measure=measure,
        table=sweep_results.format_text,
        csv=sweep_results.format_csv,
        page=lambda results, png: report.html_page(results, sweep_results.tables(results), png),
        figure=plotting.sweep_figure,
    )
    return measurement.run(measured, out=config.out, overwrite=config.overwrite, started=started)


def _measure(
    config: SweepConfig, cells: list[Cell], speed: Speed, directory: RunDirectory
) -> dict[tuple[str, int], sweep.Row]:
    """A row for every cell and member: those of an earlier, interrupted run, and the others."""
    rows = _earlier_rows(config, cells, directory)
    if rows:
        measurement.say(f"resuming: {len(rows)} of {len(cells) * config.members} are done")
    with Progress(sweep.epochs(config, speed.works), "mnist_sweep") as progress:
        for work in speed.works:
            done = lambda cell, member: (cell, member) in rows  # noqa: E731
            pairs = len(sweep.pending(config, work, done))
            if pairs:
                speed.measure()
            for row in sweep.measure(config, work, done, progress.update):
                rows[row["cell"], row["member"]] = row
                directory.append_row(ROWS, row)
            if pairs:
                speed.measure()
            speed.ran(work, pairs)
    return rows


def _earlier_rows(
    config: SweepConfig, cells: list[Cell], directory: RunDirectory
) -> dict[tuple[str, int], sweep.Row]:
    names = {cell.name for cell in cells}
    rows: dict[tuple[str, int], sweep.Row] = {}
    for line, row in enumerate(directory.read_rows(ROWS), start=1):
        match row:
            case {
                "cell": str(cell),
                "member": int(member),
                "accuracy": dict(accuracy),
                "leak": dict(leaks),
            } if (
                cell in names
                and 0 <= member < config.members
                and (cell, member) not in rows
                and {"reference", "teacher", *config.students} <= set(accuracy)
                and all(isinstance(value, float) for value in accuracy.values())
                and set(leaks) == set(accuracy) - {"reference", "teacher"}
            ):
                rows[cell, member] = row
            case _:
                raise InputError(
                    f"{directory.path / ROWS}: line {line} is not a row of this sweep, or its "
                    "cell and member have one already; restore the file, or remove that line"
                )
    return rows


def _timing(speed: Speed) -> dict[str, Any]:
    branches = [found for work in speed.works for b in work.branches.values() for found in b]
    compiling = sum(s.compile_seconds() + foreseen.compile_seconds for s, foreseen, _ in branches)
    return {
        "compile_s": round(compiling, 3),
        "phases": speed.seconds(),
        "speed": speed.summary(),
    }
