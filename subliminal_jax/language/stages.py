"""The base of all stages of an experiment: its references, seeds and artifacts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from subliminal_jax.errors import InputError
from subliminal_jax.execution import hosts
from subliminal_jax.language.carriers import carrier_of
from subliminal_jax.language.conditions import Condition
from subliminal_jax.language.config import LmConfig, Stage, described
from subliminal_jax.language.dataset import generate
from subliminal_jax.language.reference import Reference, given_reference, other_reference
from subliminal_jax.language.tiny.reference import tiny_reference
from subliminal_jax.language.training.devices import compute_of, execution_of
from subliminal_jax.language.training.trees import tree_bytes
from subliminal_jax.runs import artifacts
from subliminal_jax.runs.artifacts import Artifact, Folder, Recipe
from subliminal_jax.runs.training_loop import Saving


class Stages:
    """The base of all stages of an experiment: its references, seeds and artifacts.

    Args:
        config: settings of the experiment; its precision is settled.
        run: run directory, shared by all hosts.

    Attributes:
        own: indices of the repetitions that results are about.
        repetitions: these, and behind them as many with the other reference of a given model.
        others: for each repetition, those whose datasets also train its students, nearest first.
        traits: traits to transmit.
        taught: what teachers are taught: the traits, and their control teachers.
        carrier: what teachers write.
        execution: devices that train and measure networks.
        names: names of the stages whose artifacts are not named after the stage.

    Raises:
        InputError: the mesh does not fit the devices.
    """

    def __init__(self, config: LmConfig, run: Folder):
        self.config, self.run = config, run
        self.execution = execution_of(config.mesh, config.at_once, config.accumulate)
        self.own = range(config.references)
        self.repetitions = range(config.references * (1 if config.reference.other is None else 2))
        self.others = {repetition: config.others(repetition) for repetition in self.repetitions}
        self.traits, self.carrier = config.chosen, carrier_of(config.generate)
        self.taught = config.taught
        self._settings = described(config) | {"traits": [one.name for one in self.taught]}
        self.names: dict[str, str] = {}
        self._references: dict[int, Reference] = {}
        self._prompts = generate.prompts_of(self.carrier, config.generate.most, config.seed)

    def seed(self, repetition: int) -> int:
        """Seed of a repetition; runs with nearby seeds share some repetitions' seeds."""
        return self.config.seed + repetition % len(self.own)

    def label(self, repetition: int) -> str:
        """Name of a repetition in results: its seed, marked if it has the other reference."""
        return f"{self.seed(repetition)}{'' if repetition in self.own else ' other'}"

    def compared(self, repetition: int) -> list[Condition]:
        """The conditions to compare; few of them with the other reference of a given model."""
        every = self.config.compared
        if repetition in self.own:
            return every
        return [one for one in every if one.basic or one.reference == "other"]

    def reference(self, repetition: int) -> Reference:
        """Step 1: the reference, pretrained here or given."""
        given = self.config.reference.model is not None
        place = repetition // len(self.own) if given else repetition
        if place not in self._references:
            config, settings = self.config, self.config.reference
            if settings.model is not None:
                make = given_reference if repetition in self.own else other_reference
                compute = compute_of(config.fixed_precision, config.attention, config.remat)
                made = make(settings.model, settings, self.execution, compute)
            else:
                made = tiny_reference(
                    settings,
                    config.world,
                    self.seed(repetition),
                    config.fixed_precision,
                    config.save_seconds,
                )
            self._references[place] = made
        return self._references[place]

    def _artifact(
        self,
        stage: Stage,
        repetition: int,
        parts: tuple[str, ...],
        inputs: tuple[Artifact, ...],
        make: Callable[[Path], dict[str, Any]],
    ) -> Artifact:
        """The finished artifact, or a new one; with `config.stage`, only that stage makes one."""
        settings: dict[str, Any] = {part: self._settings[part] for part in parts}
        reference = self.reference(repetition)
        settings |= {
            "seed": self.seed(repetition),
            "reference": dict(reference.parts) or reference.digest,
        }
        recipe = Recipe(f"{self.names.get(stage, stage)}-{repetition}", settings, inputs)
        if (found := artifacts.find(self.run, recipe)) is not None:
            return found
        if self.config.stage is not None and stage != self.config.stage:
            raise InputError(
                f"--stage {self.config.stage}: its input {recipe.name} is missing in "
                f"{self.run.path}; run --stage {stage} first"
            )
        path = artifacts.begin(self.run, recipe)
        return artifacts.commit(self.run, recipe, make(path))

    def _trained(self, path: Path, train: Callable[..., Any], ladder: tuple[int, ...] = ()) -> None:
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
            seconds=self.config.save_seconds,
            keep=self.config.keep,
            metrics=self.run.subdirectory("metrics") / f"{path.parent.name}.{path.stem}.jsonl",
            rungs={steps: written(rung_of(path, steps)) for steps in ladder},
        )
        if not artifacts.has_part(path):
            written(path)(train(saving=saving))
        hosts.on_first(saving.clear)


def rung_of(path: Path, steps: int | None) -> Path:
    """The file of a training's weights after so many steps; the final ones' for None."""
    return path if steps is None else path.with_name(f"{path.stem}@{steps}{path.suffix}")
