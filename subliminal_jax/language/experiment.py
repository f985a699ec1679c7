"""Runs the language experiment, and collects its results: units, summary and examples."""

import time
from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

from subliminal_jax import files, plotting
from subliminal_jax.errors import InputError
from subliminal_jax.language.conditions import (
    REGULAR,
    STUDENT,
    asked_network,
    places_of,
    trait_of,
)
from subliminal_jax.language.config import LmConfig, described
from subliminal_jax.language.evaluation.derived import derived
from subliminal_jax.language.evaluation.traits_matrix import traits_matrix
from subliminal_jax.language.outputs.places import note_cache
from subliminal_jax.language.outputs.report import format_table, report_page, unit_rows
from subliminal_jax.language.repetitions import unit_of, units_text
from subliminal_jax.language.rows.chat_rows import completion_of, prompt_of, read_chat_rows
from subliminal_jax.language.settings import Stage
from subliminal_jax.language.study import LmStudy
from subliminal_jax.language.training.devices import execution_of
from subliminal_jax.language.training.precision import chosen_precision
from subliminal_jax.language.traits.trait import Measures, Trait, teacher_measure
from subliminal_jax.runs import runner
from subliminal_jax.runs.artifacts import Artifact, facts_of
from subliminal_jax.runs.shared_run import SharedRun, say

NAME = "lm_numbers"
"""Name of the script, of its results and of its run directories, unless a script gives its own."""
FIGURES = {"traits": plotting.traits_figure, "controls": plotting.controls_figure}
MARGIN_FIGURES = {"margins": plotting.margins_figure}
LADDER_FIGURES = {"ladder": plotting.ladder_figure}
CROSSED_FIGURES = {"matrix": plotting.matrix_figure}
"""Further figures of a run with `crossed`."""
SHOWN = 5
"""Rows of each dataset that the page shows."""


def run_path(config: LmConfig, name: str = NAME) -> Path:
    """Return the run directory of the script of this name."""
    return runner.run_path(name, described(config), config.out)


def run(
    config: LmConfig, methods: Callable[[LmStudy, int], None], name: str = NAME
) -> dict[str, Any] | None:
    """Run what is missing, write all files and print the findings.

    Args:
        config: config of the experiment.
        methods: runs all steps with one reference.
        name: name of the script.

    Returns:
        As `runner.run`; None if only one stage was run.

    Raises:
        InputError: the config, an artifact or a model is refused; on every host.
        RunError: a training failed, or a trait's word was left in the data; on every host.
    """
    started = time.perf_counter()
    # A mesh that does not fit is refused before an earlier run is overwritten.
    execution_of(config.mesh, config.at_once, config.accumulate)
    traits, plain = ", ".join(config.traits), described(config)
    return runner.run(
        runner.Experiment(
            name=name,
            what=f"{units_text(config.references, config.reference.model)}, {traits}",
            config=plain,
            measure=partial(_measure, config, methods, name),
            **shown(plain),
            out=config.out,
            overwrite=config.overwrite,
            started=started,
        )
    )


def shown(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return how results are shown: table, csv, page and figures of a `runner.Experiment`.

    Args:
        config: the run's, as plain values.
    """
    figures = dict(FIGURES)
    if config["evaluate"]["begun"]:
        figures |= MARGIN_FIGURES
    if config["student"]["ladder"]:
        figures |= LADDER_FIGURES
    if config["crossed"]:
        figures |= CROSSED_FIGURES
    return {"table": format_table, "csv": unit_rows, "page": report_page, "figures": figures}


def _measure(
    config: LmConfig, methods: Callable[[LmStudy, int], None], name: str, directory: SharedRun
) -> dict[str, Any] | None:
    """Run all repetitions and return the results; None after a single stage of each."""
    if config.reference.model is None:
        note_cache(directory, config.reference.cache)
    precision = chosen_precision(config.asked_precision, config.reference, directory)
    study = LmStudy(config.settled(precision.precision), directory)
    alone = None if config.stage == "report" else config.stage
    for repetition in study.repetitions.every:
        if alone is None:
            methods(study, repetition)
        else:
            _stage(study, alone, repetition)
    if alone is not None:
        say(f"stage {alone}: done")
        return None
    collected = _collected(study, name) | {"config": described(config)}
    return {"experiment": name} | derived(collected) | collected | precision.facts


def _stage(study: LmStudy, stage: Stage, repetition: int) -> None:
    """Run one stage of one repetition."""
    {
        "reference": study.reference,
        "teacher": study.teachers,
        "generate": study.dataset,
        "filter": study.filtered,
        "student": study.students,
        "evaluate": study.evaluation,
    }[stage](repetition)


def _collected(study: LmStudy, name: str) -> dict[str, Any]:
    """Return all units, and what explains them.

    Raises:
        InputError: there is no student.
    """
    config, repetitions = study.config, study.repetitions
    labels = {r: repetitions.label(r) for r in repetitions.every}
    answers = {r: answers_of(study.evaluation(r)) for r in labels}
    units = [one for r in repetitions.own for one in units_of(study, r, answers)]
    if not any(one["condition"] == STUDENT.name for one in units):
        raise InputError(
            f"{study.run.path}: no student was trained, since too few rows passed the "
            "filter; raise generate.most, or lower filter.rows"
        )
    measure = teacher_measure(config.evaluate.begun)
    return {
        "experiment": name,
        "items": study.carrier.items,
        "unit": unit_of(config.reference.model),
        "verb": _verb(study.traits),
        "measures": _headings(study.traits, units),
        "tallied": {
            trait.name: {key: list(words) for key, words in trait.tallied.items()}
            for trait in study.traits
        },
        "units": units,
        "references": references_of(study),
        "answers": {label: answers[r]["exact"] for r, label in labels.items()},
        "sampled": {label: answers[r]["sampled"] for r, label in labels.items()},
        "teachers": {label: facts_of(study.teachers(r))[measure] for r, label in labels.items()},
        "judges": {
            label: facts_of(study.evaluation(r)).get("judge") for r, label in labels.items()
        },
        "filters": {label: facts_of(study.filtered(r)) for r, label in labels.items()},
        "examples": _examples(study),
        **({"traits_matrix": _traits_matrix(study, answers)} if config.evaluate.begun else {}),
    }


def references_of(study: LmStudy) -> dict[str, dict[str, Any]]:
    """Return the digest and the hub's commit of every repetition's reference, by its label."""
    every = {study.repetitions.label(r): study.reference(r) for r in study.repetitions.every}
    return {label: {"digest": one.digest, "commit": one.commit} for label, one in every.items()}


def _verb(traits: Iterable[Trait]) -> str:
    """Return what a student does with its teacher's traits; `shows` if they differ in it."""
    verbs = {trait.verb for trait in traits}
    return verbs.pop() if len(verbs) == 1 else "shows"


def answers_of(evaluation: Artifact) -> dict[str, Any]:
    """Return what was measured: `exact` and `sampled`; and `begun` and `ladder` if answers are."""
    return files.parse_json((evaluation.path / "answers.json").read_bytes())


def _examples(study: LmStudy) -> dict[str, Any]:
    """Return the first rows of the first repetition's datasets, kept and rejected, for the page."""
    filtered, shown = study.filtered(0), {}
    for name in [REGULAR, *study.networks.written(filtered)]:
        kept = read_chat_rows(filtered.path / f"{name}.jsonl")[:SHOWN]
        rejected = read_chat_rows(filtered.path / f"{name}.rejected.jsonl")[:SHOWN]
        shown[name] = {
            "kept": [[prompt_of(row), completion_of(row)] for row in kept],
            "rejected": [
                [prompt_of(row), completion_of(row), ", ".join(row["reject_reasons"])]
                for row in rejected
            ],
        }
    return shown


def units_of(study: LmStudy, repetition: int, answers: dict[int, Any]) -> list[dict[str, Any]]:
    """Return the units of a repetition's teachers; a different reference is another one's.

    Networks that are not trained on rows have no `rows` and no `pass_rate`.
    """
    config, repetitions, units = study.config, study.repetitions, []
    filtered = cache(lambda number: facts_of(study.filtered(number)))
    prompted = config.teacher.kind == "prompted"
    for trait in study.traits:
        asked = [
            (condition, distance, where)
            for condition in config.compared
            for distance, where in places_of(condition, repetition, repetitions.others)
        ]
        for condition, distance, where in asked:
            name = asked_network(condition, trait, study.traits, prompted, distance)
            if name is None or name not in answers[where]["exact"]:
                continue
            rows, pass_rate = None, None
            if condition.asks == "student":
                foreign = condition.data == "foreign teacher"
                writer = repetitions.others[repetition][distance - 1] if foreign else repetition
                source = condition.source(trait_of(name) or trait.name)
                rows = config.filter.rows
                pass_rate = filtered(writer)["datasets"][source]["pass_rate"]
            units.append(
                {
                    "reference": repetitions.seed(repetition),
                    "trait": trait.name,
                    "condition": condition.name,
                    **_measured(answers[where], name, trait),
                    "rows": rows,
                    "pass_rate": pass_rate,
                    "student_of": repetitions.seed(where),
                }
            )
    return units


def _measured(answers: dict[str, Any], network: str, trait: Trait) -> Measures:
    """Return a trait's measures of a network, from its exact, sampled and begun answers."""
    kinds = answers["sampled"].get(f"{network}:{trait.name}", {})
    tallies = {kind: counts for kind, counts in kinds.items() if "said" in counts}
    measured = trait.measure(answers["exact"][network], tallies)
    begun = answers.get("begun", {}).get(network)
    return measured if begun is None else measured | trait.measure_begun(begun)


def _traits_matrix(study: LmStudy, answers: dict[int, Any]) -> list[dict[str, Any]]:
    """Return the cells of the trait-by-trait matrix of all conditions."""
    traits = [trait for trait in study.traits if trait.begun(study.config.evaluate.begun)]
    cells = []
    for repetition in study.repetitions.own:
        for condition in study.config.compared:
            for distance, where in places_of(condition, repetition, study.repetitions.others):
                facts = facts_of(study.students(where))
                steps = {
                    name: facts["steps"][kind]
                    for kind, names in facts["students"].items()
                    for name in names
                }
                label = study.repetitions.label(repetition)
                cells += traits_matrix(condition, traits, label, answers[where], steps, distance)
    return cells


def _headings(traits: Iterable[Trait], units: Iterable[dict[str, Any]]) -> dict[str, list[str]]:
    """Return the heading and the meaning of every measure of the units, for the report."""
    known = {key for unit in units for key in unit}
    return {
        key: list(words)
        for trait in traits
        for key, words in trait.measures.items()
        if key in known
    }
