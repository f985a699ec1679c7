"""Runs the detection experiment, and collects its results: units, summary and finding."""

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from subliminal_jax import plotting
from subliminal_jax.audit.config import DetectionConfig, described
from subliminal_jax.audit.detection import Detection
from subliminal_jax.audit.detectors import DETECTORS
from subliminal_jax.audit.report import format_table, report_page, unit_rows
from subliminal_jax.audit.results import finding, summarise
from subliminal_jax.language.conditions import REQUIRED
from subliminal_jax.language.outputs.export import open_run
from subliminal_jax.language.outputs.places import note_cache
from subliminal_jax.language.repetitions import unit_of, units_text
from subliminal_jax.language.study import LmStudy
from subliminal_jax.language.training.devices import execution_of
from subliminal_jax.language.training.precision import chosen_precision
from subliminal_jax.runs import runner
from subliminal_jax.runs.shared_run import SharedRun


def run(
    config: DetectionConfig, methods: Callable[[Detection, int], None], name: str
) -> dict[str, Any] | None:
    """Run what is missing, write all files and print the findings.

    Args:
        config: config of the experiment.
        methods: runs all detectors with one reference.
        name: name of the script.

    Returns:
        As `runner.run`.

    Raises:
        InputError: the config, an artifact, a model or the rows are refused; on every host.
        RunError: a training failed; on every host.
    """
    started = time.perf_counter()
    execution_of(config.mesh, config.at_once, config.accumulate)
    earlier = None if config.run is None else open_run(config.run)
    if earlier is not None:
        config = config.with_run(earlier.config)
    traits = ", ".join(config.traits)
    return runner.run(
        runner.Experiment(
            name=name,
            what=f"{units_text(config.references, config.reference.model)}, {traits}",
            config=described(config),
            measure=partial(_measure, config, earlier, methods, name),
            table=format_table,
            csv=unit_rows,
            page=report_page,
            figures={"detection": plotting.detection_figure},
            out=config.out,
            overwrite=config.overwrite,
            started=started,
        )
    )


def _measure(
    config: DetectionConfig,
    earlier: LmStudy | None,
    methods: Callable[[Detection, int], None],
    name: str,
    directory: SharedRun,
) -> dict[str, Any]:
    """Run all repetitions and return the results."""
    if config.reference.model is None and earlier is None:
        note_cache(directory, config.reference.cache)
    precision = chosen_precision(config.asked_precision, config.reference, directory)
    fixed = config.settled(precision.precision)
    study = earlier or LmStudy(replace(fixed, conditions=REQUIRED), directory)
    detection = Detection(fixed, study, directory)
    for repetition in study.repetitions.every:
        methods(detection, repetition)
    seeds = {r: str(study.repetitions.seed(r)) for r in study.repetitions.every}
    units = detection.units
    summary, unit = summarise(units), unit_of(config.reference.model)
    return {
        "experiment": name,
        "finding": finding(summary, study.carrier.items, unit),
        "items": study.carrier.items,
        "unit": unit,
        "units": units,
        "summary": summary,
        "students": {seed: detection.students(r) for r, seed in seeds.items()},
        "detectors": {
            key: {"means": one.means.format(items=study.carrier.items), "measure": one.measure}
            for key, one in DETECTORS.items()
        },
        "references": {
            seed: {"digest": study.reference(r).digest, "commit": study.reference(r).commit}
            for r, seed in seeds.items()
        },
        "config": described(config),
    } | precision.facts
