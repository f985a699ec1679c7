"""Runs a sweep; saves a row for every cell and member as it is measured."""

import time
from collections.abc import Generator, Mapping
from dataclasses import replace
from itertools import chain
from typing import Any

from subliminal_jax import plotting
from subliminal_jax.config import Precision, described
from subliminal_jax.data.images import ImageData, load_images
from subliminal_jax.mnist.config import resolve
from subliminal_jax.mnist.study import with_precision
from subliminal_jax.mnist.sweeps import cells as sweep
from subliminal_jax.mnist.sweeps import results as sweep_results
from subliminal_jax.mnist.sweeps.config import Cell, SweepConfig
from subliminal_jax.mnist.sweeps.sweep_speed import SweepSpeed
from subliminal_jax.mnist.sweeps.sweep_students import ROWS
from subliminal_jax.progress import Progress
from subliminal_jax.report.image_results import FIGURE, image_page, image_text
from subliminal_jax.runs import runner
from subliminal_jax.runs.shared_run import SharedRun

SHOWS = "Test accuracy of the students, cell by cell, beside teachers and controls."


def run(config: SweepConfig, cells: list[Cell]) -> dict[str, Any] | None:
    """Measure what is missing, write all files and print the findings.

    Returns:
        As `runner.run`.

    Raises:
        InputError: the data, the run directory or a cell is refused.
        RunError: a loss is not finite.
    """
    started = time.perf_counter()
    data = load_images(config.data, config.data_dir)
    resolved = resolve(config, data.name)
    works = sweep.plan(config, cells, data)
    settings = described(resolved)

    def measure(directory: SharedRun) -> dict[str, Any]:
        first = resolve(cells[0].config, data.name)
        _, decision = with_precision(
            first, data, 0, directory
        )  # `works` fit already, with their arms
        open_ = config.precision == "auto"
        planned = _planned(config, cells, decision.precision, data) if open_ else works
        speed = SweepSpeed(planned, data)
        rows = _measure(config, cells, speed, directory)
        summary = sweep_results.summarise(resolved, cells, list(rows.values()), data)
        return {
            "experiment": "mnist_sweep",
            "dataset": data.name,
            "data": data.facts(),
            "config": settings,
            **decision.facts,
            **summary,
            "finding": sweep_results.finding(summary),
            "timing": _timing(speed),
        }

    return runner.run(
        runner.Experiment(
            name="mnist_sweep",
            what=f"{len(cells)} cells of {config.members} members on {data.name} "
            f"({data.reason}), {len(works)} program(s)",
            config=settings,
            measure=measure,
            table=lambda results: image_text(results, sweep_results.tables(results)),
            csv=sweep_results.accuracy_rows,
            page=lambda results: image_page(results, sweep_results.tables(results), SHOWS),
            figures={FIGURE: plotting.sweep_figure},
            out=config.out,
            overwrite=config.overwrite,
            started=started,
        )
    )


def _planned(
    config: SweepConfig, cells: list[Cell], precision: Precision, data: ImageData
) -> list[sweep.Work]:
    """The plan, with the precision chosen for cells that leave it open."""
    closed = lambda one: replace(one, precision=precision) if one.precision == "auto" else one
    closed_cells = [replace(cell, config=closed(cell.config)) for cell in cells]
    return sweep.plan(closed(config), closed_cells, data)


def _measure(
    config: SweepConfig, cells: list[Cell], speed: SweepSpeed, directory: SharedRun
) -> dict[tuple[str, int], runner.Row]:
    """Return a row for every cell and member, those of an interrupted run included."""
    names = {cell.name for cell in cells}

    def key_of(row: dict[str, Any]) -> tuple[str, int] | None:
        match row:
            case {
                "cell": str(cell),
                "member": int(member),
                "accuracy": dict(accuracy),
                "leak": dict(leaks),
                "losses": dict(losses),
            } if (
                cell in names
                and 0 <= member < config.members
                and {"reference", "teacher", *config.students} <= set(accuracy)
                and all(isinstance(value, float) for value in accuracy.values())
                and set(leaks) == set(accuracy) - {"reference", "teacher"}
                and runner.has_numbers(losses, ("teacher", *leaks))
            ):
                return cell, member
        return None

    def missing(rows: Mapping[tuple[str, int], Any]) -> Generator[runner.Row, None, None]:
        done = lambda cell, member: (cell, member) in rows
        with Progress(sweep.epochs(config, speed.works), "mnist_sweep") as progress:
            for work in speed.works:
                pairs = len(sweep.pending(config, work, done))
                if pairs:
                    speed.measure()
                yield from sweep.measure(config, work, done, progress.update)
                if pairs:
                    speed.measure()
                speed.ran(work, pairs)

    total = len(cells) * config.members
    return runner.all_rows(directory, ROWS, key_of, missing, total=total, what="rows")


def _timing(speed: SweepSpeed) -> dict[str, Any]:
    studies = [one for work in speed.works for one in chain.from_iterable(work.branches.values())]
    compiling = sum(s.compile_seconds() + foreseen.compile_seconds for s, foreseen, _ in studies)
    return {
        "compile_s": round(compiling, 3),
        "phases": speed.seconds(),
        "speed": speed.summary(),
    }
