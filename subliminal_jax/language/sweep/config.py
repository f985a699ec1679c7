"""Settings of a sweep over how students are trained, and the config of each of its cells."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field

from subliminal_jax.config import Count, Natural, Positive, config_dict
from subliminal_jax.errors import InputError
from subliminal_jax.language.config import LmConfig, described
from subliminal_jax.language.settings import Targets, WeightsName

Control: TypeAlias = Literal["regular", "other_trait"]
"""The condition that students are compared with."""


@dataclass(frozen=True, kw_only=True)
class TrainingWay:
    """One way to train students; the rest is as in the experiment.

    Attributes:
        name: its name in results and files.
        weights, rank: as in `TuningConfig`.
        targets: what students imitate.
        rates: learning rates, of which the best on the tuning references is tested.
    """

    name: Annotated[str, Field(pattern=r"^\w+$")]
    weights: WeightsName = "lora"
    rank: Count = 8
    targets: Targets = "hard"
    rates: Annotated[tuple[Positive, ...], Field(min_length=1)]


@dataclass(frozen=True, kw_only=True)
class LmSweepConfig:
    """A sweep: every arm trains on the same rows of the same references, for as many updates.

    Attributes:
        lm: the experiment; its student's tuning, targets and learning rate are the arms'.
        arms: the ways to train students; the results compare each with the last one.
        control: the condition that students are compared with: students of regular rows, or the
            student of another trait's teacher.
        tuning: references, the first ones, on which rates are chosen; the others are the test. With
            0, each arm has one rate.
        plan: print the stages, the number of students and the time, and do nothing.
        out: run directory (default: runs/SCRIPT-DIGEST, with the config's digest).
        overwrite: discard an earlier run in the run directory.
    """

    lm: LmConfig = field(default_factory=LmConfig)
    arms: Annotated[tuple[TrainingWay, ...], Field(min_length=1)]
    control: Control = "regular"
    tuning: Natural = 2
    plan: bool = False
    out: Path | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        names = [arm.name for arm in self.arms]
        if len(set(names)) < len(names):
            raise InputError("arms: two have the same name; rename one")
        for setting in ("plan", "show_batch", "stage", "out", "overwrite"):
            if getattr(self.lm, setting):
                raise InputError(f"lm.{setting}: a sweep has no such setting of a cell; remove it")
        if self.control not in self.lm.conditions:
            raise InputError(f"lm.conditions: students are compared with {self.control}; add it")
        topics = Counter(trait.topics for trait in self.lm.chosen)
        if self.control == "other_trait" and min(topics.values()) < 2:
            raise InputError(
                "control: other_trait needs two traits of each category; add one to lm.traits, or "
                "set regular"
            )
        for one in self.lm.compared:
            if one.reference == "other":
                raise InputError(
                    f"lm.conditions: {one.name} needs the other references' students, which a "
                    "sweep does not train for each cell; remove it"
                )
        if self.tuning >= self.lm.references:
            raise InputError(
                f"tuning: {self.tuning} references to choose rates on leave none of "
                f"{self.lm.references} for the test; raise lm.references"
            )
        for arm in self.arms:
            if not self.tuning and len(arm.rates) > 1:
                raise InputError(
                    f"tuning: with no reference to choose a rate on, {arm.name} needs one rate and "
                    f"has {len(arm.rates)}; raise tuning, or remove rates"
                )
            try:
                list(cells(self, arm))
            except InputError as error:  # what no experiment can have
                raise InputError(f"arms: {arm.name}: {error}") from error

    @property
    def tuned_on(self) -> range:
        """The references on which rates are chosen."""
        return range(self.tuning)

    @property
    def tested_on(self) -> range:
        """The references of the test."""
        return range(self.tuning, self.lm.references)


def cells(config: LmSweepConfig, arm: TrainingWay) -> Iterator[tuple[float, LmConfig]]:
    """Yields each rate of an arm, with the experiment's config."""
    student = config.lm.student
    tuning = replace(student.tuning, weights=arm.weights, rank=arm.rank)
    for rate in arm.rates:
        changed = replace(student, tuning=tuning, targets=arm.targets, learning_rate=rate)
        yield rate, replace(config.lm, student=changed)


def described_sweep(config: LmSweepConfig) -> dict[str, Any]:
    """The settings that affect results, as plain values."""
    arms = [config_dict(arm) for arm in config.arms]
    told = {"arms": arms, "control": config.control, "tuning": config.tuning}
    return {"lm": described(config.lm)} | told
