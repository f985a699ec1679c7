"""An MNIST experiment from its config to its results: resumable, and told to a person."""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from subliminal_jax import measurement, report
from subliminal_jax.config import config_dict
from subliminal_jax.data.images import ImageData, load_images
from subliminal_jax.errors import InputError
from subliminal_jax.mnist.arms import Arm
from subliminal_jax.mnist.config import PLACEMENT, MnistConfig, resolve
from subliminal_jax.mnist.masks import mask_digests
from subliminal_jax.mnist.phases import Pair
from subliminal_jax.mnist.results import summarise
from subliminal_jax.mnist.study import Outcome, Study
from subliminal_jax.progress import Progress
from subliminal_jax.runs import RunDirectory

MEMBERS = "members.jsonl"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """What makes one experiment differ from another.

    Attributes:
        name: of the script, of its results and of its default run directory.
        arms: the students.
        methods: everything that is done to a block of members.
        finding: one sentence from the results.
        figure: what the results look like.
        masks: files of masks that relations name.
    """

    name: str
    arms: Mapping[str, Arm]
    methods: Callable[[Study, Pair], Outcome]
    finding: Callable[[dict[str, Any]], str]
    figure: Callable[[dict[str, Any]], Any]
    masks: Sequence[Path] = ()


def run(experiment: Experiment, config: MnistConfig) -> dict[str, Any]:
    """Run what is not yet done of an experiment, write its files and say what was found.

    Returns:
        The results, as in results.json.

    Raises:
        InputError: the data, the run directory or the config is refused.
        RunError: a loss is not finite.
    """
    started = time.perf_counter()
    data = load_images(config.data, config.data_dir)
    config = resolve(config, data.name)
    described = {
        name: value for name, value in config_dict(config).items() if name not in PLACEMENT
    }
    if experiment.masks:
        described["masks"] = mask_digests(experiment.masks)

    def measure(directory: RunDirectory) -> dict[str, Any]:
        rows, timing = _measure(experiment, config, data, directory)
        results = summarise(experiment.name, config, described, data, experiment.arms, rows)
        return results | {"timing": timing, "finding": experiment.finding(results)}

    measured = measurement.Measurement(
        name=experiment.name,
        what=f"{config.members} members on {data.name} ({data.reason})",
        config=described,
        measure=measure,
        table=report.format_table,
        csv=report.format_csv,
        page=report.html_report,
        figure=experiment.figure,
    )
    return measurement.run(measured, out=config.out, overwrite=config.overwrite, started=started)


def _measure(
    experiment: Experiment, config: MnistConfig, data: ImageData, directory: RunDirectory
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """A row a member: those of an earlier, interrupted run, and the others now."""
    rows = _earlier_rows(experiment, config, directory)
    resumed = len(rows)
    if resumed:
        measurement.say(f"resuming: {resumed} of {config.members} members are done")
    study = Study(config, data, experiment.arms, experiment.masks)
    blocks = [block for block in study.blocks() if any(m not in rows for m in block.member)]
    with Progress(len(blocks) * study.epochs_per_block(), experiment.name) as progress:
        study.on_epochs = progress.update
        for block in blocks:
            for row in _rows(experiment, experiment.methods(study, block)):
                if row["member"] not in rows:
                    rows[row["member"]] = row
                    directory.append_row(MEMBERS, row)
    timing = {
        "compile_s": round(study.compile_seconds(), 3),
        "phases": {name: round(seconds, 3) for name, seconds in study.seconds().items()},
        "members_from_earlier_run": resumed,
    }
    return [rows[member] for member in range(config.members)], timing


def _earlier_rows(
    experiment: Experiment, config: MnistConfig, directory: RunDirectory
) -> dict[int, dict[str, Any]]:
    """The rows of an earlier, interrupted run by member, none of them taken on trust."""
    rows: dict[int, dict[str, Any]] = {}
    for line, row in enumerate(directory.read_rows(MEMBERS), start=1):
        match row:
            case {"member": int(member), "accuracy": accuracy, "init_distance": distance} if (
                0 <= member < config.members
                and member not in rows
                and _holds(accuracy, _networks(experiment))
                and _holds(distance, list(experiment.arms))
            ):
                rows[member] = row
            case _:
                raise InputError(
                    f"{directory.path / MEMBERS}: line {line} is not a row of this run, or its "
                    "member has one already; restore the file, or remove that line"
                )
    return rows


def _holds(values: Any, names: list[str]) -> bool:
    """Whether these are the named numbers."""
    return (
        isinstance(values, dict)
        and list(values) == names
        and all(isinstance(value, float) for value in values.values())
    )


def _networks(experiment: Experiment) -> list[str]:
    return ["reference", "teacher", *experiment.arms]


def _rows(experiment: Experiment, outcome: Outcome) -> list[dict[str, Any]]:
    return [
        {
            "member": int(member),
            "accuracy": dict(zip(_networks(experiment), map(float, accuracy), strict=True)),
            "init_distance": dict(zip(experiment.arms, map(float, distance), strict=True)),
        }
        for member, accuracy, distance in zip(*outcome, strict=True)
    ]
