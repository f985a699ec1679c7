"""The artifacts of an experiment's stages: found, made, or refused."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from subliminal_jax.errors import InputError
from subliminal_jax.execution import hosts
from subliminal_jax.language.references import References
from subliminal_jax.language.settings import Stage
from subliminal_jax.language.training.trees import tree_bytes
from subliminal_jax.process.freed_memory import give_back_memory
from subliminal_jax.runs import artifacts
from subliminal_jax.runs.artifacts import Artifact, Folder, Recipe
from subliminal_jax.runs.training_loop import Saving


@dataclass(frozen=True, kw_only=True)
class Stages:
    """The artifacts of an experiment's stages, and the files of trained weights in them.

    Attributes:
        run: directory of the artifacts, shared by all hosts.
        references: the reference of each repetition.
        settings: settings that affect results, by part of the config.
        names: names of the stages whose artifacts are not named after the stage.
        only: the one stage that makes artifacts; `report` if none does, None if all do.
        save_seconds: seconds between two checkpoints of a training.
        keep: checkpoints of a training to keep until it is done.
    """

    run: Folder
    references: References
    settings: Mapping[str, Any]
    names: Mapping[Stage, str]
    only: Stage | None
    save_seconds: float
    keep: int

    def artifact(
        self,
        stage: Stage,
        repetition: int,
        parts: tuple[str, ...],
        inputs: tuple[Artifact, ...],
        make: Callable[[Path], dict[str, Any]],
    ) -> Artifact:
        """The finished artifact, or a new one if this stage may make it.

        Args:
            stage: the stage.
            repetition: the repetition.
            parts: parts of the settings that it depends on.
            inputs: artifacts that it is made from.
            make: writes its files into a directory, and returns its facts.

        Raises:
            InputError: it is missing, and only another stage makes artifacts.
        """
        settings = {part: self.settings[part] for part in parts}
        settings |= self.references.origin(repetition)
        recipe = Recipe(f"{self.names.get(stage, stage)}-{repetition}", settings, inputs)
        if (finished := artifacts.find(self.run, recipe)) is not None:
            return finished
        if self.only is not None and stage != self.only:
            raise not_finished(self.run.path / recipe.name, stage)
        path = artifacts.begin(self.run, recipe)
        made = artifacts.commit(self.run, recipe, make(path))
        give_back_memory()
        return made

    def trained(self, path: Path, train: Callable[..., Any], ladder: tuple[int, ...] = ()) -> None:
        """Trains and writes the result unless it exists; then removes the checkpoints.

        Args:
            path: file of the trained weights; those of a rung are written beside it.
            train: the training.
            ladder: numbers of steps after which the weights are also written.
        """

        def written(file: Path) -> Callable[[Any], None]:
            return lambda weights: hosts.on_first(
                lambda: artifacts.write_part(file, tree_bytes(weights))
            )

        saving = Saving(
            directory=path.parent / f"{path.stem}.checkpoints",
            origin=artifacts.begun_from(path.parent) | {"file": path.name},
            seconds=self.save_seconds,
            keep=self.keep,
            metrics=self.run.subdirectory("metrics") / f"{path.parent.name}.{path.stem}.jsonl",
            rungs={steps: written(rung_of(path, steps)) for steps in ladder},
        )
        if not artifacts.has_part(path):
            written(path)(train(saving=saving))
        hosts.on_first(saving.clear)


def not_finished(path: Path, stage: Stage) -> InputError:
    """The error about an artifact that is to be read and is missing or unfinished.

    Args:
        path: directory of the artifact.
        stage: the stage that makes it.
    """
    return InputError(
        f"{path}: not finished; run its script with this run's settings until stage {stage} is done"
    )


def rung_of(path: Path, steps: int | None) -> Path:
    """The file of a training's weights after so many steps; the final ones' for None."""
    return path if steps is None else path.with_name(f"{path.stem}@{steps}{path.suffix}")
