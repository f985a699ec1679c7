"""The language experiment from its config to its results, stage by stage."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from subliminal_jax import files
from subliminal_jax.config import config_digest
from subliminal_jax.entry import one_line
from subliminal_jax.environment import environment
from subliminal_jax.errors import InputError
from subliminal_jax.execution import hosts
from subliminal_jax.pipeline.artifacts import Artifact, facts_of
from subliminal_jax.pipeline.conditions import asked_network, meanings, trait_of
from subliminal_jax.pipeline.config import LmConfig, Stage, described
from subliminal_jax.pipeline.devices import execution_of
from subliminal_jax.pipeline.places import note_cache
from subliminal_jax.pipeline.shared import SharedRun, say, shared_run
from subliminal_jax.pipeline.study import Study
from subliminal_jax.pipeline.units import finding, summarise

NAME = "lm_numbers"
FILES = ("traits.png", "traits.pdf", "controls.png", "controls.pdf", "results.csv", "report.html")


def run_path(config: LmConfig) -> Path:
    """The run directory."""
    return config.out or Path("runs") / f"{NAME}-{config_digest(described(config))[:8]}"


def run(config: LmConfig, methods: Callable[[Study, int], None]) -> dict[str, Any] | None:
    """Run what is not yet done, write the files and say what was found.

    Args:
        config: the experiment's.
        methods: everything that is done with one reference.

    Returns:
        The results; None where one stage alone was run, and on all hosts but the first.

    Raises:
        InputError: the config, an artifact or a model is refused; on every host.
        RunError: a training broke, or a trait's word was left in the data; on every host.
    """
    started = time.perf_counter()
    values = described(config)
    out = run_path(config)
    execution_of(config)  # a mesh is refused before an earlier run is overwritten
    say(f"{NAME}: {config.references} reference(s), {', '.join(config.traits)}; in {out}")
    with shared_run(out, values, overwrite=config.overwrite) as directory:
        results = directory.results()
        there = hosts.by_first(lambda: all((directory.path / name).exists() for name in FILES))
        if results is None or not there:
            if config.reference.model is None:
                note_cache(directory, config.reference.cache)
            study = Study(config, directory)
            for repetition in study.repetitions:
                if config.stage in (None, "report"):
                    methods(study, repetition)
                else:
                    _stage(study, config.stage, repetition)
            if config.stage not in (None, "report"):
                say(f"stage {config.stage}: done")
                return None
            seconds = round(time.perf_counter() - started, 3)
            results = _results(study) | {"timing": {"total_s": seconds}}
            _write(study, directory, results)
        else:
            say(f"already done: {directory.path}")
        if not hosts.is_first():
            return None
        from subliminal_jax.pipeline.report import format_table

        print(format_table(results))
        print(f"\nFigures, report, rows and numbers: {one_line(str(directory.path))}")
    return results


def _stage(study: Study, stage: Stage, repetition: int) -> None:
    """One stage of one repetition."""
    {
        "reference": study.reference,
        "teacher": study.teachers,
        "generate": study.dataset,
        "filter": study.filtered,
        "student": study.students,
        "evaluate": study.evaluation,
    }[stage](repetition)


def _results(study: Study) -> dict[str, Any]:
    """All units, what they amount to, and everything that is needed to read them.

    Raises:
        InputError: there is no student.
    """
    config = study.config
    found = {r: _answers(study.evaluation(r)) for r in study.repetitions}
    units = [one for r in study.repetitions for one in _units(study, r, found)]
    if not any(one["condition"] == "student" for one in units):
        raise InputError(
            f"{study.run.path}: no student of any reference was trained, for want of rows; raise "
            "generate.most, or lower filter.rows"
        )
    names = [trait.name for trait in study.traits]
    summary = summarise(units, names)
    references = {str(study.seed(r)): study.reference(r) for r in study.repetitions}
    return {
        "experiment": NAME,
        "finding": finding(summary, names),
        "units": units,
        "summary": summary,
        "conditions": {
            name: {"means": meaning, "run": name not in summary["missing"]}
            for name, meaning in meanings(study.carrier.items).items()
        },
        "references": {
            seed: {"digest": one.digest, "commit": one.commit} for seed, one in references.items()
        },
        "answers": {str(study.seed(r)): answers["exact"] for r, answers in found.items()},
        "sampled": {str(study.seed(r)): answers["sampled"] for r, answers in found.items()},
        "filters": {str(study.seed(r)): facts_of(study.filtered(r)) for r in study.repetitions},
        "config": described(config),
        "environment": environment(),
    }


def _answers(evaluation: Artifact) -> dict[str, Any]:
    return files.parse_json((evaluation.path / "answers.json").read_bytes())


def _units(study: Study, repetition: int, found: dict[int, Any]) -> list[dict[str, Any]]:
    """The units of the repetition's teachers; a different reference is another repetition's."""
    config, units = study.config, []
    facts = facts_of(study.filtered(repetition))
    others = [r for r in study.repetitions if study.neighbour(r) == repetition]
    prompted = config.teacher.kind == "prompted"
    for trait in study.traits:
        for condition in config.compared:
            where = repetition
            if condition.reference == "other":
                if not others:
                    continue
                where = others[0]
            name = asked_network(condition, trait, study.traits, prompted)
            if name is None or name not in found[where]["exact"]:
                continue
            source = condition.source(trait_of(name) or trait.name)
            units.append(
                {
                    "reference": study.seed(repetition),
                    "trait": trait.name,
                    "condition": condition.name,
                    **trait.measure(found[where]["exact"][name]),
                    "rows": config.filter.rows if condition.asks == "student" else None,
                    "pass_rate": facts["datasets"][source]["pass_rate"],
                    "student_of": study.seed(where),
                }
            )
    return units


def _write(study: Study, directory: SharedRun, results: dict[str, Any]) -> None:
    """Every file for a person; results.json last, so that its presence means all is there."""
    from subliminal_jax import plotting
    from subliminal_jax.pipeline.report import format_csv, html_report
    from subliminal_jax.plotting.language import controls_figure, traits_figure

    figures = {"traits": traits_figure(results), "controls": controls_figure(results)}
    drawn = {name: plotting.render(figure) for name, figure in figures.items()}
    for name, figure in drawn.items():
        directory.write(f"{name}.png", figure.png)
        directory.write(f"{name}.pdf", figure.pdf)
    directory.write("results.csv", format_csv(results))
    pictures = {name: figure.png for name, figure in drawn.items()}
    directory.write("report.html", html_report(results, pictures, study))
    directory.finish(results)
