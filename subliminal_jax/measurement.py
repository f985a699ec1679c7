"""Something measured once, from its config to its files, and shown again ever after."""

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from subliminal_jax import plotting
from subliminal_jax.config import config_digest
from subliminal_jax.entry import one_line
from subliminal_jax.environment import environment
from subliminal_jax.errors import InputError
from subliminal_jax.runs import RunDirectory

FILES = ("figure.png", "figure.pdf", "results.csv", "report.html")


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What makes one script differ from another.

    Attributes:
        name: of the script, of its results and of its default run directory.
        what: what is measured on what, in a few words.
        config: the resolved config as plain values: what the run directory belongs to.
        measure: does the work; may keep rows of it in the directory, to go on after an
            interruption. Returns the results, with `finding` and `timing` but without
            `environment` and the total time.
        table: the results for a terminal.
        csv: the results as rows.
        page: the results as HTML, with the figure's PNG in it.
        figure: what the results look like.
    """

    name: str
    what: str
    config: Mapping[str, Any]
    measure: Callable[[RunDirectory], dict[str, Any]]
    table: Callable[[dict[str, Any]], str]
    csv: Callable[[dict[str, Any]], str]
    page: Callable[[dict[str, Any], bytes], str]
    figure: Callable[[dict[str, Any]], Any]


def run(
    measurement: Measurement, *, out: Path | None, overwrite: bool, started: float
) -> dict[str, Any]:
    """Measure what is not yet measured, write all files and say what was found.

    Args:
        measurement: what.
        out: the run directory; None for one named after the config's digest.
        overwrite: begin anew in a directory that holds a run.
        started: when the script began, by `time.perf_counter`.

    Returns:
        The results, as in results.json.

    Raises:
        InputError: the run directory is refused, or what the measuring refuses.
        RunError: what the measuring breaks on.
    """
    config = dict(measurement.config)
    out = out or Path("runs") / f"{measurement.name}-{config_digest(config)[:8]}"
    say(f"{measurement.name}: {measurement.what}; in {out}")
    with RunDirectory.open(out, config, overwrite=overwrite) as directory:
        if (results := directory.results()) is not None:
            _restore(measurement, directory, results)
            say(f"already done: {directory.path}")
        else:
            results = measurement.measure(directory)
            results["environment"] = environment() | _devices()
            results["timing"]["total_s"] = round(time.perf_counter() - started, 3)
            for name, content in _files(measurement, results).items():
                directory.write_bytes(name, content)
            directory.finish(results)  # last, so that its presence means all is there
        print(measurement.table(results))
        print(f"\nFigure, report and numbers: {one_line(str(directory.path))}")
    return results


def say(line: str) -> None:
    """Tell the person who waits."""
    print(one_line(line), file=sys.stderr, flush=True)


def _restore(measurement: Measurement, directory: RunDirectory, results: dict[str, Any]) -> None:
    """Write again what somebody has removed from a run that is done.

    Raises:
        InputError: results.json has been changed into something that cannot be shown.
    """
    try:
        measurement.table(results)
        if all((directory.path / name).exists() for name in FILES):
            return
        files = _files(measurement, results)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise InputError(
            f"{directory.path / 'results.json'}: not as it was written ({one_line(repr(error))}); "
            "remove it and run the same command again"
        ) from error
    for name in FILES:
        if not (directory.path / name).exists():
            directory.write_bytes(name, files[name])


def _files(measurement: Measurement, results: dict[str, Any]) -> dict[str, bytes]:
    """What a person reads, by file name."""
    figure = plotting.render(measurement.figure(results))
    texts = (measurement.csv(results), measurement.page(results, figure.png))
    # A path may hold bytes that are no UTF-8.
    encoded = [text.encode(errors="backslashreplace") for text in texts]
    return dict(zip(FILES, (figure.png, figure.pdf, *encoded), strict=True))


def _devices() -> dict[str, Any]:
    return {
        "backend": jax.default_backend(),
        "devices": [device.device_kind for device in jax.local_devices()],
        "processes": jax.process_count(),
    }
