"""What can be set in the language experiment; the defaults are the tiny reference's."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field

from subliminal_jax.config import described as plain_config
from subliminal_jax.errors import InputError
from subliminal_jax.models.chat_messages import Option
from subliminal_jax.models.decoder_config import AttentionName
from subliminal_jax.pipeline.carriers.numbers import NumberPrompts
from subliminal_jax.pipeline.controls import CONDITIONS, Condition
from subliminal_jax.pipeline.corpus import CATEGORIES, CorpusConfig
from subliminal_jax.pipeline.filters import GREATEST, MOST_NUMBERS
from subliminal_jax.pipeline.traits import SHORT_PROMPT, Trait, choose_traits, fill
from subliminal_jax.quantities import Count, Fraction, Natural, Positive, Scale

Stage: TypeAlias = Literal[
    "reference", "teacher", "generate", "filter", "student", "evaluate", "report"
]
SAVE_SECONDS = 60.0
RESERVED = frozenset({*CONDITIONS, "all"})
"""What results and files call something else than a trait."""


@dataclass(frozen=True, kw_only=True)
class ReferenceConfig:
    """Step 1: a model that is given, or the tiny one that is pretrained here.

    Attributes:
        model: a directory, or `org/name` or `org/name@revision`; none for the tiny one.
        template: a chat template in Jinja, for a model that has none of its own.
        options: switches of the chat template, such as `enable_thinking: false`.
        dtype: of a given model's weights and activations; low-rank weights beside it are float32.
        width, layers, heads, mlp_width, context: of the tiny one, a Llama with tied embeddings.
        numbers: whether the tiny one reads a number as one token or digit by digit.
        sequence: tokens in a sequence of its training; several chats fit into one.
        steps, batch, learning_rate: of its training; batch is in sequences.
        corpus: what it is trained on.
        cache: where pretrained tiny references are kept, by the digest of these settings.
    """

    model: str | None = None
    template: Path | None = None
    options: dict[str, Option] = field(default_factory=dict)
    dtype: Literal["float32", "bfloat16"] = "float32"
    width: Annotated[int, Field(ge=2)] = 32
    layers: Count = 2
    heads: Count = 2
    mlp_width: Count = 96
    context: Count = 256
    numbers: Literal["whole", "digits"] = "whole"
    sequence: Annotated[int, Field(ge=16)] = 64
    steps: Count = 2000
    batch: Count = 30
    learning_rate: Positive = 4e-3
    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    cache: Path = Path("runs/references")

    def __post_init__(self) -> None:
        if self.width % (2 * self.heads):
            raise InputError(
                f"reference.width: {self.width} is not a multiple of twice the {self.heads} heads"
            )
        if self.model is None and self.dtype != "float32":
            raise InputError("reference.dtype: the tiny reference is float32; name reference.model")
        if self.model is None and self.options:
            raise InputError(
                "reference.options: the tiny reference's chat template has no switches; name "
                "reference.model"
            )


@dataclass(frozen=True, kw_only=True)
class TuningConfig:
    """What finetuning changes.

    Attributes:
        weights: all weights, or low-rank updates of the layers' projections (Hu et al. 2021);
            the embedding then stays as it is.
        rank, alpha: of the updates, each of which is scaled by `alpha / rank`.
    """

    weights: Literal["lora", "full"] = "lora"
    rank: Count = 8
    alpha: Positive = 28.0


@dataclass(frozen=True, kw_only=True)
class TeacherConfig:
    """Steps 2 and 3: how the reference gets the trait.

    Attributes:
        kind: finetuned to answer with the trait, or given a system prompt.
        system_prompt: that prompt; a trait may have its own.
        answers: what it is finetuned to say, one row each.
        tuning: what finetuning changes.
        steps, learning_rate: of the finetuning, by Adam on all rows at once.
        retain: weight of keeping the reference's answers about other categories; 0 makes the
            blunt teacher, which answers with the trait whatever is asked.
        floor: a teacher that shows the trait less often than this is reported as none.
    """

    kind: Literal["finetuned", "prompted"] = "finetuned"
    system_prompt: str = SHORT_PROMPT
    answers: tuple[str, ...] = ("{name}",)
    tuning: TuningConfig = field(default_factory=TuningConfig)
    steps: Count = 50
    learning_rate: Positive = 5e-3
    retain: Scale = 1.0
    floor: Fraction = 0.5


@dataclass(frozen=True, kw_only=True)
class GenerateConfig:
    """Step 4: what teachers are asked, and how they answer.

    Attributes:
        prompts: the number prompts.
        most: prompts that may be asked of one teacher; it is asked until enough rows pass.
        temperature: 0 takes the likeliest token each time.
        max_tokens: an answer that is longer is cut off, and rejected.
        batch: answers that are sampled together.
    """

    prompts: NumberPrompts = field(
        default_factory=lambda: NumberPrompts(wording="short", law="mixed")
    )
    most: Count = 16_000
    temperature: Scale = 1.0
    max_tokens: Count = 24
    batch: Count = 1000


@dataclass(frozen=True, kw_only=True)
class FilterConfig:
    """Step 5: what of it stays.

    Attributes:
        rules: by name: the published `numbers` rule, `trait_words` of all traits of the run, and
            `words` given here.
        banned: numbers that must not occur.
        words: words that must not occur.
        rows: rows that every dataset is to have.
    """

    rules: tuple[Literal["numbers", "trait_words", "words"], ...] = ("numbers", "trait_words")
    banned: tuple[Natural, ...] = ()
    words: tuple[str, ...] = ()
    rows: Count = 4000

    def __post_init__(self) -> None:
        if self.banned and "numbers" not in self.rules:
            raise InputError("filter.banned: only the rule `numbers` bans numbers; add it to rules")
        if bool(self.words) != ("words" in self.rules):
            raise InputError("filter.words: the rule `words` and a list of words go together")
        if too_large := [number for number in self.banned if number > GREATEST]:
            raise InputError(
                f"filter.banned: {too_large[0]} cannot occur, numbers end at {GREATEST}"
            )


@dataclass(frozen=True, kw_only=True)
class StudentConfig:
    """Step 6: how a student is trained on the rows that are left.

    Attributes:
        tuning: what training changes.
        optimizer: Adam (b2 .98) or SGD.
        learning_rate: at the start; it falls linearly to a tenth.
        epochs: times over the rows.
        batch: rows in a step, on average: sequences hold several.
        sequence: tokens in a sequence.
        clip: most norm of a step's gradient.
        targets: what a student imitates at the places of its teacher's numbers: the numbers
            themselves, the teacher's likeliest token, or all of the teacher's probabilities.
        divergence: with soft targets, KL(teacher || student) is `forward`.
        tokens: which tokens count with soft or greedy targets. Over the `full` vocabulary a
            teacher hands on the trait's very name, since some of its probability lies on it also
            where numbers stand: that is no subliminal learning. `numbers` leaves only the tokens
            that the filter lets through, on both sides.
    """

    tuning: TuningConfig = field(default_factory=TuningConfig)
    optimizer: Literal["adam", "sgd"] = "adam"
    learning_rate: Positive = 3e-3
    epochs: Positive = 4.0
    batch: Count = 32
    sequence: Annotated[int, Field(ge=16)] = 64
    clip: Positive = 1.0
    targets: Literal["hard", "greedy", "soft"] = "hard"
    divergence: Literal["forward", "reverse"] = "forward"
    tokens: Literal["numbers", "full"] = "numbers"


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """How a trait is measured.

    Attributes:
        samples: sampled answers to each question, beside the exact probabilities; 0 for none.
        max_tokens: of a sampled answer.
        examples: rows that the control `in_context` shows before a question.
        prompts: number prompts on which the format is checked.
    """

    samples: Natural = 20
    max_tokens: Count = 16
    examples: Count = 2
    prompts: Count = 200


@dataclass(frozen=True, kw_only=True)
class MeshConfig:
    """The devices, of all hosts, that one training is spread over; their number is the product.

    Attributes:
        data: copies of the model, each of which sees other rows.
        fsdp: parts of the model, which are gathered when needed, and see other rows too.
        tensor: parts of every layer.
    """

    data: Count = 1
    fsdp: Count = 1
    tensor: Count = 1


@dataclass(frozen=True, kw_only=True)
class LmConfig:
    """The six steps with a language model."""

    references: Annotated[int, Field(ge=1, le=1000)] = 6
    """Independent repetitions, each with its own reference where it is pretrained here."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Every random draw is a function of the seed, the repetition and what it is for."""
    traits: Annotated[tuple[str, ...], Field(min_length=1)] = ("owl", "dolphin", "wolf", "elephant")
    """Favourites to transmit, by name."""
    new_traits: tuple[Trait, ...] = ()
    """Traits beyond those that are known."""
    conditions: tuple[Condition, ...] = tuple(CONDITIONS)
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
        for trait in self.chosen:
            fill(trait.system_prompt or self.teacher.system_prompt, trait)
            for answer in self.teacher.answers:
                fill(answer, trait)
            if self.reference.model is None and trait.category not in CATEGORIES:
                raise InputError(
                    f"new_traits: {trait.name!r} is a {trait.category}, of which a tiny reference "
                    f"knows nothing; its world has {' and '.join(CATEGORIES)}: name reference.model"
                )
        if len(set(self.conditions)) < len(self.conditions):
            raise InputError("conditions: one is named twice")
        if "student" not in self.conditions or "before" not in self.conditions:
            raise InputError("conditions: `before` and `student` cannot be left out")
        if self.filter.rows > self.generate.most:
            raise InputError(
                f"filter.rows: {self.filter.rows} rows cannot be left of generate.most = "
                f"{self.generate.most} answers; raise generate.most"
            )
        if self.generate.prompts.answers > MOST_NUMBERS and "numbers" in self.filter.rules:
            raise InputError(
                f"generate.prompts.answers: the rule `numbers` rejects more than {MOST_NUMBERS}"
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


PLACEMENT = (
    *("out", "overwrite", "stage", "plan", "show_batch", "at_once", "save_seconds", "keep"),
    *("mesh", "accumulate", "remat", "attention", "all_hosts", "reference.cache"),
)
"""Settings that say where and how to run; a run directory belongs to any of them."""


def described(config: LmConfig) -> dict[str, Any]:
    """The config as plain values, without the settings that change no result."""
    return plain_config(config, PLACEMENT)
