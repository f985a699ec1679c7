"""Runs an MNIST experiment; saves a row for every member as its block ends."""

import dataclasses
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

from subliminal_jax.config import described
from subliminal_jax.data.images import ImageData, load_images
from subliminal_jax.mnist.arms import Arm
from subliminal_jax.mnist.config import MnistConfig, resolve
from subliminal_jax.mnist.masks import mask_digests
from subliminal_jax.mnist.phases import Members
from subliminal_jax.mnist.report import arm_rows, arms_page, arms_text
from subliminal_jax.mnist.results import summarise
from subliminal_jax.mnist.study import Outcome, Study, with_precision
from subliminal_jax.progress import Progress
from subliminal_jax.report.image_results import FIGURE
from subliminal_jax.runs import runner
from subliminal_jax.runs.shared_run import SharedRun

MEMBERS = "members.jsonl"


@dataclasses.dataclass(frozen=True, kw_only=True)
class MnistExperiment:
    """What makes one MNIST experiment differ from another.

    Attributes:
        name: name of the script, the results and the default run directory.
        arms: the students.
        methods: runs the whole experiment on a block of members.
        finding: returns one sentence from the results.
        figure: draws the results.
        masks: mask files that relations name.
    """

    name: str
    arms: Mapping[str, Arm]
    methods: Callable[[Study, Members], Outcome]
    finding: Callable[[dict[str, Any]], str]
    figure: Callable[[dict[str, Any]], Any]
    masks: Sequence[Path] = ()


def run(experiment: MnistExperiment, config: MnistConfig) -> dict[str, Any] | None:
    """Measure what is missing, write all files and print the findings.

    Returns:
        As `runner.run`.

    Raises:
        InputError: the data, the run directory or the config is refused.
        RunError: a loss is not finite.
    """
    started = time.perf_counter()
    data = load_images(config.data, config.data_dir)
    config = resolve(config, data.name)
    settings = described(config)
    if experiment.masks:
        settings["masks"] = mask_digests(experiment.masks)

    def measure(directory: SharedRun) -> dict[str, Any]:
        chosen, decision = with_precision(config, data, len(experiment.arms), directory)
        rows, timing = _measure(experiment, chosen, data, directory)
        results = summarise(experiment.name, config, settings, data, experiment.arms, rows)
        return results | decision.facts | {"timing": timing, "finding": experiment.finding(results)}

    return runner.run(
        runner.Experiment(
            name=experiment.name,
            what=f"{config.members} members on {data.name} ({data.reason})",
            config=settings,
            measure=measure,
            table=arms_text,
            csv=arm_rows,
            page=arms_page,
            figures={FIGURE: experiment.figure},
            out=config.out,
            overwrite=config.overwrite,
            started=started,
        )
    )


def _measure(
    experiment: MnistExperiment, config: MnistConfig, data: ImageData, directory: SharedRun
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return a row for every member, those of an interrupted run included, and the timing."""

    def member_of(row: dict[str, Any]) -> int | None:
        match row:
            case {"member": int(member)} if (
                0 <= member < config.members
                and runner.has_numbers(row.get("accuracy"), _networks(experiment))
                and runner.has_numbers(row.get("init_distance"), list(experiment.arms))
                and runner.has_numbers(row.get("losses"), ["teacher", *experiment.arms])
            ):
                return member
        return None

    study = Study(config, data, experiment.arms, experiment.masks)
    earlier = 0

    def missing(rows: Mapping[int, Any]) -> Generator[dict[str, Any], None, None]:
        nonlocal earlier
        earlier = len(rows)
        blocks = [block for block in study.blocks() if any(m not in rows for m in block.member)]
        with Progress(len(blocks) * study.epochs_per_block(), experiment.name) as progress:
            study.on_epochs = progress.update
            for block in blocks:
                yield from _rows(experiment, study, experiment.methods(study, block))

    rows = runner.all_rows(
        directory, MEMBERS, member_of, missing, total=config.members, what="members"
    )
    timing = {
        "compile_s": round(study.compile_seconds(), 3),
        "phases": {name: round(seconds, 3) for name, seconds in study.seconds().items()},
        "members_from_earlier_run": earlier,
    }
    return [rows[member] for member in range(config.members)], timing


def _networks(experiment: MnistExperiment) -> list[str]:
    return ["reference", "teacher", *experiment.arms]


def _rows(experiment: MnistExperiment, study: Study, outcome: Outcome) -> list[dict[str, Any]]:
    return [
        {
            "member": int(member),
            "accuracy": dict(zip(_networks(experiment), map(float, accuracy), strict=True)),
            "init_distance": dict(zip(experiment.arms, map(float, distance), strict=True)),
            "losses": study.epoch_losses(place),
        }
        for place, (member, accuracy, distance) in enumerate(zip(*outcome, strict=True))
    ]
