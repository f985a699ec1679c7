"""Runs a sweep: all cells share references, teachers and rows; students and measures are theirs."""

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from subliminal_jax import plotting
from subliminal_jax.language.config import LmConfig
from subliminal_jax.language.experiment import answers_of, references_of, units_of
from subliminal_jax.language.outputs.places import note_cache
from subliminal_jax.language.repetitions import unit_of, units_text
from subliminal_jax.language.settings import Stage
from subliminal_jax.language.study import LmStudy
from subliminal_jax.language.sweep.config import LmSweepConfig, TrainingWay, cells, described_sweep
from subliminal_jax.language.sweep.results import (
    Compared,
    chosen_rate,
    sweep_derived,
    sweep_page,
    sweep_rows,
    sweep_text,
)
from subliminal_jax.language.training.precision import chosen_precision
from subliminal_jax.language.traits.trait import primary_measure
from subliminal_jax.runs import runner
from subliminal_jax.runs.shared_run import SharedRun, say

NAME = "lm_sweep"
SHOWN: Mapping[str, Any] = {
    "table": sweep_text,
    "csv": sweep_rows,
    "page": sweep_page,
    "figures": {"arms": plotting.lm_sweep_figure},
}
"""How results are shown, as of `runner.Experiment`."""


def run(config: LmSweepConfig) -> dict[str, Any] | None:
    """Run what is missing, write all files and print the findings.

    Returns:
        As `runner.run`.

    Raises:
        InputError: the config or an artifact is refused.
        RunError: a training failed, or a trait's word was left in the data.
    """
    model = config.lm.reference.model
    return runner.run(
        runner.Experiment(
            name=NAME,
            what=f"{len(config.arms)} arms, {units_text(config.lm.references, model)}",
            config=described_sweep(config),
            measure=lambda directory: _measure(config, directory),
            **SHOWN,
            out=config.out,
            overwrite=config.overwrite,
            started=time.perf_counter(),
        )
    )


def _measure(config: LmSweepConfig, directory: SharedRun) -> dict[str, Any]:
    """Try every rate on the tuning references, and the best of each arm on the others."""
    if config.lm.reference.model is None:
        note_cache(directory, config.lm.reference.cache)
    precision = chosen_precision(config.lm.asked_precision, config.lm.reference, directory)
    fixed = replace(config, lm=config.lm.settled(precision.precision))
    measure = primary_measure(config.lm.evaluate.begun)
    compared = Compared(measure, config.control, unit_of(config.lm.reference.model))
    whole, units = LmStudy(fixed.lm, directory), list[dict[str, Any]]()
    for arm in fixed.arms:
        tried = [
            unit
            for rate, cell in cells(fixed, arm)
            for unit in _units(whole, arm, rate, cell, config.tuned_on, "tuning")
        ]
        best = chosen_rate(tried, compared) if tried else arm.rates[0]
        cell = dict(cells(fixed, arm))[best]
        if tried:
            say(f"{arm.name}: learning rate {best:g} on the tuning {compared.unit}s")
        units += tried + _units(whole, arm, best, cell, config.tested_on, "test")
    collected = {
        "experiment": NAME,
        "measure": compared.measure,
        "control": config.control,
        "unit": compared.unit,
        "units": units,
        "references": references_of(whole),
        "config": described_sweep(config),
    }
    return collected | sweep_derived(collected) | precision.facts


def _units(
    whole: LmStudy,
    arm: TrainingWay,
    rate: float,
    config: LmConfig,
    references: range,
    phase: str,
) -> list[dict[str, Any]]:
    """The units of a cell on some references, which are those of the whole sweep."""
    cell = f"{arm.name}-{rate:g}"  # students and their measures have names of their own
    names: Mapping[Stage, str] = {"student": f"student-{cell}", "evaluate": f"evaluate-{cell}"}
    study = LmStudy(config, whole.run, names, whole.references)
    answers = {reference: answers_of(study.evaluation(reference)) for reference in references}
    told = {"arm": arm.name, "rate": rate, "phase": phase}
    return [told | unit for reference in references for unit in units_of(study, reference, answers)]
