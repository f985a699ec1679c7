"""What can be set in the language experiment as a whole."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field

from subliminal_jax.config import Count
from subliminal_jax.config import described as plain_config
from subliminal_jax.errors import InputError
from subliminal_jax.language.carriers import carrier_of
from subliminal_jax.language.carriers.numbers import MOST_NUMBERS
from subliminal_jax.language.conditions import CONDITIONS, Condition, chosen_conditions
from subliminal_jax.language.settings import (
    SAVE_SECONDS,
    EvaluateConfig,
    FilterConfig,
    GenerateConfig,
    MeshConfig,
    ReferenceConfig,
    StudentConfig,
    TeacherConfig,
)
from subliminal_jax.language.tiny.world import CATEGORIES
from subliminal_jax.language.traits import choose_traits
from subliminal_jax.language.traits.preference import Preference
from subliminal_jax.language.traits.trait import Trait
from subliminal_jax.models.decoder.config import AttentionName

Stage: TypeAlias = Literal[
    "reference", "teacher", "generate", "filter", "student", "evaluate", "report"
]
RESERVED = frozenset({*CONDITIONS, "all"})
"""Names that mean something other than a trait in results and files."""


@dataclass(frozen=True, kw_only=True)
class LmConfig:
    """The six steps with a language model."""

    references: Annotated[int, Field(ge=1, le=1000)] = 6
    """Independent repetitions, each with its own reference where it is pretrained here."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Every random draw is a function of the seed, the repetition and what it is for."""
    traits: Annotated[tuple[str, ...], Field(min_length=1)] = ("owl", "dolphin", "wolf", "elephant")
    """Favourites to transmit, by name."""
    new_traits: tuple[Preference, ...] = ()
    """Traits beyond those that are known."""
    conditions: tuple[str, ...] = tuple(CONDITIONS)
    """What is compared; the report lists those that are missing."""
    reference: ReferenceConfig = field(default_factory=ReferenceConfig)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    generate: GenerateConfig = field(default_factory=GenerateConfig)
    filter: FilterConfig = field(default_factory=FilterConfig)
    student: StudentConfig = field(default_factory=StudentConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)

    at_once: Count | None = None
    """Networks mapped together on a device; only speed depends on it."""
    mesh: MeshConfig = field(default_factory=MeshConfig)
    """Devices that a training is spread over; one, unless told otherwise."""
    accumulate: Count = 1
    """Parts that a device takes its rows of a step in, one after the other, for less memory."""
    remat: bool = False
    """Compute a given model's layers again in the backward pass, for less memory."""
    attention: AttentionName = "xla"
    """Kernel by which a given model is trained and measured; `cudnn` is for NVIDIA GPUs."""
    all_hosts: bool = False
    """Join the other hosts, where the environment does not tell that there are any."""
    save_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = SAVE_SECONDS
    """Seconds between two checkpoints of a training: at most so much is lost when it is killed."""
    keep: Count = 2
    """Checkpoints of a training that are kept until it is done."""
    stage: Stage | None = None
    """Run this stage alone; its inputs must be there."""
    plan: bool = False
    """Print stages, rows, steps, memory and expected time, and start nothing."""
    show_batch: bool = False
    """Print the first batch of the next training, token by token, and start nothing."""
    out: Path | None = None
    """Run directory (default: runs/lm_numbers-DIGEST, the digest being the config's)."""
    overwrite: bool = False
    """Discard what an earlier run left in the run directory."""

    def __post_init__(self) -> None:
        for trait in self.new_traits:
            if trait.name in RESERVED:
                raise InputError(
                    f"new_traits: {trait.name!r} stands for something else in files and results; "
                    "rename the trait"
                )
        chosen = {trait.name: trait for trait in self.chosen}
        for trait in chosen.values():
            trait.system_prompt(self.teacher.system_prompt)
            trait.lessons(self.teacher.answers)
        for new in self.new_traits:
            tiny = self.reference.model is None
            if tiny and new.name in chosen and new.category not in CATEGORIES:
                raise InputError(
                    f"new_traits: {new.name!r} is a {new.category}, of which a tiny reference "
                    f"knows nothing; its world has {' and '.join(CATEGORIES)}: name reference.model"
                )
        chosen_conditions(self.conditions)
        if self.filter.rows > self.generate.most:
            raise InputError(
                f"filter.rows: {self.filter.rows} rows cannot be left of generate.most = "
                f"{self.generate.most} answers; raise generate.most"
            )
        carrier_of(self.generate)
        ruled = self.generate.carrier == "numbers" and "carrier" in self.filter.rules
        if ruled and self.generate.prompts.answers > MOST_NUMBERS:
            raise InputError(
                f"generate.prompts.answers: the rule `carrier` rejects more than {MOST_NUMBERS}"
            )
        if self.attention == "cudnn" and self.reference.dtype != "bfloat16":
            raise InputError(
                "attention: cudnn takes bfloat16 alone; set reference.dtype to it, or take xla"
            )
        trained = {"student": self.student.tuning}
        if self.teacher.kind == "finetuned":
            trained["teacher"] = self.teacher.tuning
        for name, tuning in trained.items():
            if self.reference.dtype == "bfloat16" and tuning.weights == "full":
                raise InputError(
                    f"{name}.tuning.weights: bfloat16 is too coarse for weights that are trained; "
                    "take lora, or reference.dtype float32"
                )

    @property
    def chosen(self) -> list[Trait]:
        """The traits to transmit."""
        return choose_traits(self.traits, self.new_traits)

    @property
    def compared(self) -> list[Condition]:
        """The conditions to compare."""
        return chosen_conditions(self.conditions)


PLACEMENT = (
    *("out", "overwrite", "stage", "plan", "show_batch", "at_once", "save_seconds", "keep"),
    *("mesh", "accumulate", "remat", "attention", "all_hosts", "reference.cache"),
)
"""Settings that say where and how to run; a run directory belongs to any of them."""


def described(config: LmConfig) -> dict[str, Any]:
    """The config as plain values, without the settings that change no result."""
    return plain_config(config, PLACEMENT)
