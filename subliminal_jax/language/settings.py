"""What can be set in each step of the language experiment; defaults suit the tiny reference."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from subliminal_jax.config import Count, Fraction, Natural, Positive, Scale
from subliminal_jax.errors import InputError
from subliminal_jax.language.carriers.number_prompts import NumberPrompts
from subliminal_jax.language.carriers.numbers import GREATEST
from subliminal_jax.language.tiny.world import LOVE, CorpusConfig
from subliminal_jax.models.text.messages import Option

SAVE_SECONDS = 60.0


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
    system_prompt: str = LOVE
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
        carrier: what the prompts ask for: `numbers`.
        prompts: of the carrier `numbers`.
        most: the most prompts for one teacher; it is asked until enough rows pass the filter.
        temperature: 0 takes the likeliest token each time.
        max_tokens: a longer completion is cut off, and rejected.
        batch: completions that are sampled together.
    """

    carrier: str = "numbers"
    prompts: NumberPrompts = field(
        default_factory=lambda: NumberPrompts(wording="short", law="mixed")
    )
    most: Count = 16_000
    temperature: Scale = 1.0
    max_tokens: Count = 24
    batch: Count = 1000


@dataclass(frozen=True, kw_only=True)
class FilterConfig:
    """Step 5: which completions are kept.

    Attributes:
        rules: by name: the form that the `carrier` asks for (for numbers, the published rule),
            the `trait_words` of all traits of the run, and the `words` given here.
        banned: numbers that must not occur; part of the rule `carrier`.
        words: words that must not occur.
        rows: rows in every dataset.
    """

    rules: tuple[Literal["carrier", "trait_words", "words"], ...] = ("carrier", "trait_words")
    banned: tuple[Natural, ...] = ()
    words: tuple[str, ...] = ()
    rows: Count = 4000

    def __post_init__(self) -> None:
        if self.banned and "carrier" not in self.rules:
            raise InputError("filter.banned: only the rule `carrier` bans numbers; add it to rules")
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
        targets: what a student imitates at the tokens of its teacher's completions: the tokens
            themselves, the teacher's likeliest token, or all of the teacher's probabilities.
        divergence: with soft targets, KL(teacher || student) is `forward`.
        tokens: which tokens count with soft or greedy targets. Over the `full` vocabulary a
            teacher passes on the trait's very name, since it gives the name some probability at
            every token: that is not subliminal learning. `carrier` leaves only the tokens that
            the carrier's completions consist of, for teacher and student.
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
    tokens: Literal["carrier", "full"] = "carrier"


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """How a trait is measured.

    Attributes:
        samples: sampled answers to each question, beside the exact probabilities; 0 for none.
        max_tokens: of a sampled answer.
        examples: rows that the control `in_context` shows before a question.
        prompts: prompts of the carrier whose completions are checked for its form.
    """

    samples: Natural = 20
    max_tokens: Count = 16
    examples: Count = 2
    prompts: Count = 200


@dataclass(frozen=True, kw_only=True)
class MeshConfig:
    """The devices, of all hosts, that one training is spread over; their number is the product.

    Attributes:
        execution: `jit`, or `pmap`, by which each device has the whole model and sees other rows.
        data: copies of the model, each of which sees other rows.
        fsdp: parts of the model, which are gathered when needed, and see other rows too.
        tensor: parts of every layer.
    """

    execution: Literal["jit", "pmap"] = "jit"
    data: Count = 1
    fsdp: Count = 1
    tensor: Count = 1

    def __post_init__(self) -> None:
        if self.execution == "pmap" and (self.fsdp, self.tensor) != (1, 1):
            raise InputError("mesh.execution: pmap needs mesh.fsdp and mesh.tensor of 1")
