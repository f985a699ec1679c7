"""The artifacts of an experiment's stages: found, made, or refused."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from subliminal_jax.errors import InputError
from subliminal_jax.execution import hosts
from subliminal_jax.language.config import LmConfig, Stage, described
from subliminal_jax.language.repetitions import Repetitions
from subliminal_jax.language.training.trees import tree_bytes
from subliminal_jax.process.freed_memory import give_back_memory
from subliminal_jax.runs import artifacts
from subliminal_jax.runs.artifacts import Artifact, Folder, Recipe
from subliminal_jax.runs.training_loop import Saving


class Stages:
    """The artifacts of an experiment's stages, and the files of trained weights in them.

    Args:
        config: settings of the experiment, with its precision.
        run: directory of the artifacts, shared by all hosts.
        repetitions: the experiment's repetitions.
        names: names of the stages whose artifacts are not named after the stage.
    """

    def __init__(
        self, config: LmConfig, run: Folder, repetitions: Repetitions, names: Mapping[Stage, str]
    ):
        self._config, self._run, self._repetitions, self._names = config, run, repetitions, names
        self._settings = described(config) | {"traits": [one.name for one in config.taught]}

    def artifact(
        self,
        stage: Stage,
        repetition: int,
        parts: tuple[str, ...],
        inputs: tuple[Artifact, ...],
        make: Callable[[Path], dict[str, Any]],
    ) -> Artifact:
        """The finished artifact, or a new one; with `config.stage`, only that stage makes one."""
        settings: dict[str, Any] = {part: self._settings[part] for part in parts}
        reference = self._repetitions.reference(repetition)
        settings |= {
            "seed": self._repetitions.seed(repetition),
            "reference": dict(reference.parts) or reference.digest,
        }
        recipe = Recipe(f"{self._names.get(stage, stage)}-{repetition}", settings, inputs)
        if (finished := artifacts.find(self._run, recipe)) is not None:
            return finished
        if self._config.stage is not None and stage != self._config.stage:
            raise InputError(
                f"--stage {self._config.stage}: its input {recipe.name} is missing in "
                f"{self._run.path}; run --stage {stage} first"
            )
        path = artifacts.begin(self._run, recipe)
        made = artifacts.commit(self._run, recipe, make(path))
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
            seconds=self._config.save_seconds,
            keep=self._config.keep,
            metrics=self._run.subdirectory("metrics") / f"{path.parent.name}.{path.stem}.jsonl",
            rungs={steps: written(rung_of(path, steps)) for steps in ladder},
        )
        if not artifacts.has_part(path):
            written(path)(train(saving=saving))
        hosts.on_first(saving.clear)


def rung_of(path: Path, steps: int | None) -> Path:
    """The file of a training's weights after so many steps; the final ones' for None."""
    return path if steps is None else path.with_name(f"{path.stem}@{steps}{path.suffix}")
