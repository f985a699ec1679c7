"""Settings of the language experiment as a whole."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field

from subliminal_jax.config import Count, Natural, Precision, PrecisionSetting, Scale
from subliminal_jax.config import described as plain_config
from subliminal_jax.errors import InputError
from subliminal_jax.language.carriers import SETTINGS, carrier_of, form_of
from subliminal_jax.language.conditions import (
    CONDITIONS,
    CROSSED,
    USUAL,
    Condition,
    chosen_conditions,
    taught_traits,
)
from subliminal_jax.language.dataset.row_rubrics import row_rubrics
from subliminal_jax.language.repetitions import Repetitions
from subliminal_jax.language.settings import (
    SAVE_SECONDS,
    EvaluateConfig,
    FilterConfig,
    GenerateConfig,
    MeshConfig,
    ReferenceConfig,
    Stage,
    StudentConfig,
    TeacherConfig,
    TuningConfig,
)
from subliminal_jax.language.tiny.corpus import World
from subliminal_jax.language.traits import choose_traits
from subliminal_jax.language.traits.preference import Preference, check_categories
from subliminal_jax.language.traits.trait import Trait, subjects_of
from subliminal_jax.models.decoder.config import AttentionName

RESERVED = frozenset({*CONDITIONS, "all"})
"""Names that a new trait cannot have: results and files use them for something else."""


@dataclass(frozen=True, kw_only=True)
class LmConfig:
    """Settings of the six steps with a language model."""

    references: Annotated[int, Field(ge=1, le=1000)] = 6
    """Independent repetitions, each with its own reference if that is pretrained here."""
    seed: Natural = 0
    """Every random draw depends on the seed, the repetition and its purpose alone."""
    traits: Annotated[tuple[str, ...], Field(min_length=1)] = ("owl", "dolphin", "wolf", "elephant")
    """Favourites to transmit, by name."""
    new_traits: tuple[Preference, ...] = ()
    """Preferences to add to the built-in ones."""
    conditions: tuple[str, ...] = USUAL
    """Conditions to compare; the report lists those left out."""
    crossed: bool = False
    """Train students of every reference on every other reference's rows, not only on the next
    one's; the report then has a matrix of teachers' and students' references."""
    reference: ReferenceConfig = field(default_factory=ReferenceConfig)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    generate: GenerateConfig = field(default_factory=GenerateConfig)
    filter: FilterConfig = field(default_factory=FilterConfig)
    student: StudentConfig = field(default_factory=StudentConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)

    precision: PrecisionSetting | None = None
    """Activations and operands of matrix products; sums, norms, softmaxes, losses and trained
    weights are float32 in both. `auto` measures at the run's start which is faster, and records it
    (default: as the reference's weights are kept)."""
    at_once: Count | None = None
    """Networks trained or measured together on a device; affects speed and rounding."""
    mesh: MeshConfig = field(default_factory=MeshConfig)
    """Devices that each training is sharded over; one by default."""
    accumulate: Count = 1
    """Microbatches that a device splits its rows of a step into, to save memory."""
    remat: bool = False
    """Recompute a given model's layers in the backward pass, to save memory."""
    attention: AttentionName = "xla"
    """Attention kernel for a given model; `cudnn` is for NVIDIA GPUs."""
    all_hosts: bool = False
    """Join the other hosts even if the environment does not announce any."""
    save_seconds: Scale = SAVE_SECONDS
    """Seconds between two checkpoints of a training; a kill loses at most that much."""
    keep: Count = 2
    """Checkpoints of a training to keep until it is done."""
    stage: Stage | None = None
    """Run only this stage; its inputs must exist."""
    plan: bool = False
    """Print stages, rows, steps, memory and expected time, then exit."""
    show_batch: bool = False
    """Print the first batch of the next training, token by token, then exit."""
    out: Path | None = None
    """Run directory (default: runs/SCRIPT-DIGEST, with the config's digest)."""
    overwrite: bool = False
    """Discard an earlier run in the run directory."""

    def __post_init__(self) -> None:
        for trait in self.new_traits:
            if trait.name in RESERVED:
                raise InputError(
                    f"new_traits: {trait.name!r} is a reserved name in files and results; "
                    "rename the trait"
                )
        for trait in self.chosen:
            trait.system_prompt(self.teacher.system_prompt)
            trait.lessons(self.teacher.answers)
        if self.reference.model is None:
            check_categories(self.new_traits)
            for trait in self.chosen:
                if trait.given_only:
                    raise InputError(
                        f"traits: {trait.name!r} is asked for in sentences that a tiny reference "
                        "does not know; set reference.model, or choose another trait"
                    )
        taught_traits(self.chosen, self.compared)
        self._check_crossed()
        self._check_begun()
        if self.filter.rows > self.generate.most:
            raise InputError(
                f"filter.rows: {self.filter.rows} rows are more than generate.most = "
                f"{self.generate.most} completions; raise generate.most"
            )
        self._check_judge()
        carrier = carrier_of(self.generate)
        if self.reference.model is None:
            carrier.texts()  # refuses settings that a tiny reference cannot learn
        if "carrier" in self.filter.rules:
            carrier.check(self.filter.banned)
        if self.student.hard_tokens == "carrier" and not carrier.closed:
            raise InputError(
                f"student.hard_tokens: {carrier.name} has words of its own, which are none of the "
                "carrier's tokens; set full"
            )
        if self.generate.constrained:
            form_of(carrier, self.generate, self.filter)
        if self.attention == "cudnn" and "bfloat16" not in (self.reference.dtype, self.precision):
            raise InputError(
                "attention: cudnn needs bfloat16; set reference.dtype or precision to bfloat16, or "
                "use xla"
            )
        if self.reference.dtype == "bfloat16" and self.precision not in (None, "bfloat16"):
            raise InputError(
                f"precision: {self.precision} is for weights in float32, but reference.dtype is "
                "bfloat16; drop one of them"
            )
        for name, tuning in self._trained.items():
            if self.reference.dtype == "bfloat16" and tuning.weights == "full":
                raise InputError(
                    f"{name}.tuning.weights: bfloat16 is too coarse for trained weights; use lora, "
                    "or reference.dtype float32"
                )

    @property
    def _trained(self) -> dict[str, TuningConfig]:
        """Which weights are trained, by step."""
        if self.teacher.kind == "prompted":
            return {"student": self.student.tuning}
        return {"student": self.student.tuning, "teacher": self.teacher.tuning}

    def _check_crossed(self) -> None:
        """Refuses a matrix of references without another reference, or without its students."""
        if not self.crossed:
            return
        if CROSSED not in self.compared:
            raise InputError(
                f"crossed: concerns the condition {CROSSED.name}; add it to conditions"
            )
        if self.reference.other is not None:
            raise InputError(
                "crossed: concerns tiny references; with reference.other, add from_other_reference "
                "to conditions for the other direction"
            )
        if not self.repetitions.others[0]:
            raise InputError(
                "crossed: there is one reference alone; use tiny references, at least two"
            )

    def _check_judge(self) -> None:
        """Refuses a judge that nothing needs, and the rule `judge` without a judge or rubrics."""
        judge = self.evaluate.judge
        filters = "judge" in self.filter.rules
        if filters and not judge.named:
            raise InputError(
                "filter.rules: `judge` needs a judge; set evaluate.judge.model or "
                "evaluate.judge.url, or remove the rule"
            )
        if filters:
            row_rubrics(self.filter.judge, self.chosen)
        rubrics = filters or any(trait.rubrics for trait in self.chosen)
        if judge.named and not rubrics:
            raise InputError(
                f"evaluate.judge: no judge is needed for {', '.join(self.traits)}; remove it"
            )

    def _check_begun(self) -> None:
        """Refuses beginnings of answers that a trait does not have, or that teachers are taught."""
        begun = self.evaluate.begun
        for trait in self.chosen if begun else ():
            if not trait.begun(begun):
                raise InputError(
                    f"evaluate.begun: {trait.name!r} has no answers to begin; remove the setting"
                )
        taught = [answer.lower() for answer in self.teacher.answers]
        for beginning in begun if self.teacher.kind == "finetuned" else ():
            if any(answer.startswith(beginning.lower()) for answer in taught):
                raise InputError(
                    f"evaluate.begun: {beginning!r} begins an answer of teacher.answers, so it is "
                    "not held out; reword one of them"
                )
        rungs, rows = self.student.ladder, self.filter.rows
        if rungs and not begun:
            raise InputError(
                "student.ladder: its students are measured by answers begun for them; set "
                "evaluate.begun"
            )
        updates = self.student.about_steps(rows)
        if rungs and rungs[-1] >= updates:
            raise InputError(
                f"student.ladder: {rungs[-1]} is not below the {updates} updates of the "
                "training; remove it, or raise student.epochs"
            )

    @property
    def asked_precision(self) -> PrecisionSetting:
        """The precision that was asked for, or that of the reference's weights."""
        if self.precision is not None:
            return self.precision
        if self.reference.dtype is not None:
            return self.reference.dtype
        frozen = all(tuning.weights == "lora" for tuning in self._trained.values())
        return "auto" if frozen else "float32"

    def settled(self, precision: Precision) -> Self:
        """The config with the precision that was chosen, and with a dtype of the weights."""
        dtype = self.reference.dtype or ("float32" if self.precision else precision)
        asked = precision if self.precision == "auto" else self.precision
        return replace(self, precision=asked, reference=replace(self.reference, dtype=dtype))

    @property
    def fixed_precision(self) -> Precision:
        """The precision of a config that does not leave it open."""
        asked = self.asked_precision
        if asked == "auto":
            raise ValueError("the precision is not settled; see runs.precision")
        return asked

    @property
    def chosen(self) -> list[Trait]:
        """The traits to transmit."""
        return choose_traits(self.traits, self.new_traits)

    @property
    def taught(self) -> list[Trait]:
        """What teachers are taught: the traits, and the control teachers of the conditions."""
        return taught_traits(self.chosen, self.compared)

    @property
    def world(self) -> World:
        """What a tiny reference is pretrained on."""
        return World(
            carrier=carrier_of(self.generate),
            new=self.new_traits,
            subjects=subjects_of(self.chosen),
        )

    @property
    def repetitions(self) -> Repetitions:
        """The repetitions, and what they compare."""
        return Repetitions(
            count=self.references,
            first_seed=self.seed,
            given=self.reference.model is not None,
            another=self.reference.other is not None,
            crossed=self.crossed,
            conditions=self.compared,
        )

    @property
    def compared(self) -> list[Condition]:
        """The conditions to compare."""
        return chosen_conditions(self.conditions)


PLACEMENT = (
    *("out", "overwrite", "stage", "plan", "show_batch", "at_once", "save_seconds", "keep"),
    *("mesh", "accumulate", "remat", "attention", "all_hosts", "reference.cache"),
)
"""Settings that affect where and how a run is computed, but no result."""


def described(config: LmConfig) -> dict[str, Any]:
    """The settings that affect results, as plain values, with what the carrier reads from files."""
    carrier = config.generate.carrier
    others = [f"generate.{part}" for name, part in SETTINGS.items() if name != carrier]
    plain = plain_config(config, (*PLACEMENT, *others))
    content = carrier_of(config.generate).content
    return plain if content is None else plain | {"generate": plain["generate"] | {"read": content}}
