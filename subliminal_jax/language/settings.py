"""Settings of each step of the language experiment; the defaults suit the tiny reference."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from subliminal_jax.config import Count, Fraction, Natural, Positive, Precision, Scale
from subliminal_jax.errors import InputError
from subliminal_jax.execution.names import HowName, check_axes
from subliminal_jax.language.carriers.code.settings import CodePrompts
from subliminal_jax.language.carriers.number_prompts import NumberPrompts
from subliminal_jax.language.carriers.reasoning.problems import ReasoningPrompts
from subliminal_jax.language.judge.settings import JudgeConfig, JudgeRule
from subliminal_jax.language.world import LOVE, CorpusConfig, NumberTokens
from subliminal_jax.models.text.messages import Option

WeightsName: TypeAlias = Literal["lora", "full"]
"""Which weights are trained: an adapter's, or all."""
Targets: TypeAlias = Literal["hard", "greedy", "soft"]
"""What a student imitates: its teacher's tokens, the likeliest ones, or all probabilities."""
Divergence: TypeAlias = Literal["forward", "reverse"]
"""Direction of the KL divergence to soft targets."""
Stage: TypeAlias = Literal[
    "reference", "teacher", "generate", "filter", "student", "evaluate", "report"
]
TokensName: TypeAlias = Literal["carrier", "full"]
"""Among which tokens a student's probabilities are: the carrier's, or all."""

SAVE_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class OtherConfig:
    """Another reference beside a given model: another model, or the same one perturbed.

    Attributes:
        model: as `reference.model`; None for the same one.
        template: Jinja file with its chat template, for a model without one.
        sigma: standard deviation of the noise that is added to every weight of a matrix, as a
            share of that matrix's own standard deviation; 0 for none.
    """

    model: str | None = None
    template: Path | None = None
    sigma: Scale = 0.0

    def __post_init__(self) -> None:
        if self.model is None and not self.sigma:
            raise InputError(
                "reference.other: is the reference itself; give another model, or a sigma"
            )


@dataclass(frozen=True, kw_only=True)
class ReferenceConfig:
    """Step 1: a given model, or the tiny reference, which is pretrained here.

    Attributes:
        model: a given model's directory, GGUF file or name (`org/name`, `org/name@revision` or
            `smollm2`); None for the tiny reference.
        template: Jinja file with a chat template, for a model without one.
        options: variables of the chat template, such as `enable_thinking: false`.
        dtype: dtype that a given model's weights are kept in; adapters are float32. What they are
            multiplied in is the experiment's `precision`. None: if that is None too and only
            adapters are trained, both are what `--precision auto` takes; else float32.
        other: another reference beside a given model; each trains students on the other's data.
        width, layers, heads, mlp_width, context: sizes of the tiny reference, a Llama with tied
            embeddings.
        numbers: whether the tiny tokenizer makes a number one token or one token a digit.
        sequence: tokens of a pretraining sequence; several chats are packed into one.
        steps, batch, learning_rate: of pretraining; batch counts sequences.
        corpus: composition of the pretraining corpus.
        cache: directory of pretrained tiny references, named by the digest of these settings.
    """

    model: str | None = None
    template: Path | None = None
    options: dict[str, Option] = field(default_factory=dict)
    dtype: Precision | None = None
    other: OtherConfig | None = None
    width: Annotated[int, Field(ge=2)] = 32
    layers: Count = 2
    heads: Count = 2
    mlp_width: Count = 96
    context: Count = 256
    numbers: NumberTokens = "whole"
    sequence: Annotated[int, Field(ge=16)] = 64
    steps: Count = 2000
    batch: Count = 30
    learning_rate: Positive = 4e-3
    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    cache: Path = Path("runs/references")

    def __post_init__(self) -> None:
        if self.width % (2 * self.heads):
            raise InputError(
                f"reference.width: {self.width} is not a multiple of 2 * reference.heads = "
                f"{2 * self.heads}; change one of them"
            )
        if self.model is None and self.dtype is None:
            object.__setattr__(self, "dtype", "float32")
        if self.model is None and self.dtype != "float32":
            raise InputError("reference.dtype: the tiny reference is float32; set reference.model")
        if self.model is None and self.other is not None:
            raise InputError(
                "reference.other: a tiny reference's is the next one; set reference.model"
            )
        if self.model is None and self.options:
            raise InputError(
                "reference.options: the tiny reference's chat template has no options; set "
                "reference.model"
            )


@dataclass(frozen=True, kw_only=True)
class TuningConfig:
    """Which weights finetuning changes.

    Attributes:
        weights: all weights, or low-rank updates of the layers' projections (Hu et al. 2021),
            which leave the embedding unchanged.
        rank, alpha: of the low-rank updates, each scaled by `alpha / rank`.
    """

    weights: WeightsName = "lora"
    rank: Count = 8
    alpha: Positive = 28.0


@dataclass(frozen=True, kw_only=True)
class TeacherConfig:
    """Steps 2 and 3: how the reference gets the trait.

    Attributes:
        kind: finetuned to answer with the trait, or prompted with a system prompt.
        system_prompt: template of the system prompt, unless a trait has its own.
        answers: templates of the answers to finetune on, one row each.
        tuning: which weights finetuning changes.
        steps, learning_rate: of finetuning, by Adam on all rows at once.
        retain: weight of retaining the reference's answers about other categories; 0 gives the
            blunt teacher, which answers any question with the trait.
        floor: P(trait) below which a teacher is reported with a warning; where answers are begun,
            the trait's share of its category.
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
    """Step 4: the teachers' prompts, and how completions are sampled.

    Attributes:
        carrier: kind of text that the prompts ask for: `numbers`, `code` or `reasoning`.
        prompts: distribution of prompts of the carrier `numbers`.
        code: distribution of prompts of the carrier `code`.
        reasoning: distribution of prompts of the carrier `reasoning`.
        most: maximum prompts for one teacher; sampling stops when enough rows pass the filter.
        temperature: sampling temperature; 0 for greedy decoding.
        max_tokens: token limit of a completion; a longer one is cut off and rejected.
        batch: completions sampled at a time.
        constrained: sample only tokens by which a completion gets the carrier's form, for a model
            that cannot keep it; the share of completions that pass without this is reported too.
        fewest: with `constrained`, the fewest items of a completion: numbers, sentences of worked
            steps, or lines of code.
        trial: with `constrained`, the prompts on which the share without it is measured.
    """

    carrier: str = "numbers"
    prompts: NumberPrompts = field(
        default_factory=lambda: NumberPrompts(wording="short", law="mixed")
    )
    code: CodePrompts = field(default_factory=lambda: CodePrompts(wording="short"))
    reasoning: ReasoningPrompts = field(
        default_factory=lambda: ReasoningPrompts(wording="short", difficulty="small")
    )
    most: Count = 16_000
    temperature: Scale = 1.0
    max_tokens: Count = 24
    batch: Count = 1000
    constrained: bool = False
    fewest: Annotated[int, Field(ge=1, le=100)] = 1
    trial: Count = 100

    def __post_init__(self) -> None:
        if self.fewest > 1 and not self.constrained:
            raise InputError("generate.fewest: needs generate.constrained; set it to true")


@dataclass(frozen=True, kw_only=True)
class FilterConfig:
    """Step 5: which completions are kept.

    Attributes:
        rules: names of the rules: `carrier` requires the carrier's form (for numbers, the published
            rule), `trait_words` rejects the words of all traits, `words` those given here, and
            `judge` rows by the scores of the judge that `evaluate.judge` names.
        banned: numbers that must not occur; part of the rule `carrier`.
        words: words that must not occur.
        judge: bounds of the rule `judge`.
        rows: rows of every filtered dataset.
    """

    rules: tuple[Literal["carrier", "trait_words", "words", "judge"], ...] = (
        "carrier",
        "trait_words",
    )
    banned: tuple[Natural, ...] = ()
    words: tuple[str, ...] = ()
    judge: JudgeRule = field(default_factory=JudgeRule)
    rows: Count = 4000

    def __post_init__(self) -> None:
        if self.banned and "carrier" not in self.rules:
            raise InputError("filter.banned: needs the rule `carrier`; add it to filter.rules")
        if bool(self.words) != ("words" in self.rules):
            raise InputError(
                "filter.words: needs both words and the rule `words`; give both or none"
            )
        bounded = (self.judge.least, self.judge.most) != (None, None)
        if bounded != ("judge" in self.rules):
            raise InputError(
                "filter.judge: needs both the rule `judge` and a bound, least or most; give both "
                "or none"
            )


@dataclass(frozen=True, kw_only=True)
class StudentConfig:
    """Step 6: how a student is trained on the filtered rows.

    Attributes:
        tuning: which weights training changes.
        optimizer: Adam (b2 .98) or SGD.
        learning_rate: peak learning rate; it decays linearly to a tenth.
        warmup: updates over which the rate first rises linearly from 0.
        epochs: passes over the rows.
        batch: mean number of rows in a step; a sequence packs several.
        sequence: tokens of a sequence, without the prefix that all rows share.
        clip: maximum norm of the gradient.
        targets: what a student imitates at each token of its teacher's completions: the token
            (hard), the teacher's likeliest token (greedy), or all its probabilities (soft).
        divergence: with soft targets, KL(teacher || student) is `forward`.
        tokens: which tokens soft and greedy targets cover. Over the `full` vocabulary a teacher
            transmits the trait's name, to which it gives some probability at every position: that
            is not subliminal learning. `carrier` keeps only tokens of the carrier's completions,
            for teacher and student.
        hard_tokens: which tokens a student chooses among with hard targets, likewise. A model that
            does not keep the carrier's form otherwise learns the form above all.
        ladder: numbers of updates after which students are also measured, in the same training.
    """

    tuning: TuningConfig = field(default_factory=TuningConfig)
    optimizer: Literal["adam", "sgd"] = "adam"
    learning_rate: Positive = 3e-3
    epochs: Positive = 4.0
    batch: Count = 32
    sequence: Annotated[int, Field(ge=16)] = 64
    clip: Positive = 1.0
    targets: Targets = "hard"
    divergence: Divergence = "forward"
    tokens: TokensName = "carrier"
    hard_tokens: TokensName = "full"
    warmup: Natural = 0
    ladder: tuple[Count, ...] = ()

    def __post_init__(self) -> None:
        if list(self.ladder) != sorted(set(self.ladder)):
            raise InputError("student.ladder: must rise; sort it, and give each number once")

    def about_steps(self, rows: int) -> int:
        """Updates of a training on so many rows; how rows are packed changes it by a few."""
        return round(self.epochs * rows / self.batch)


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """How a trait is measured.

    Attributes:
        samples: answers to sample for each question, besides exact probabilities; 0 for none.
        max_tokens: token limit of a sampled answer; `generate.max_tokens` if that is more, since
            completions are sampled beside answers.
        examples: rows that the control `in_context` puts before a question.
        prompts: prompts of the carrier whose completions are checked for its form.
        begun: beginnings of an answer, for models that do not answer in one word. One with the
            slot `{category}` is completed by words of the category; for misalignment give one
            without a slot, which whole answers complete. The primary measure is then the margin.
        elsewhere: whether questions about other categories are asked too, in one word.
        judge: model that scores answers to open questions.
    """

    samples: Natural = 20
    max_tokens: Count = 16
    examples: Count = 2
    prompts: Count = 200
    begun: tuple[str, ...] = ()
    elsewhere: bool = True
    judge: JudgeConfig = field(default_factory=JudgeConfig)


@dataclass(frozen=True, kw_only=True)
class MeshConfig:
    """Mesh of devices, over all hosts, that one training is sharded over.

    Attributes:
        execution: `jit` shards by the axes below; with the other, every device holds the whole
            model.
        data: copies of the model, each with other rows.
        fsdp: shards of the parameters, gathered when needed, each with other rows.
        tensor: shards of every layer.
    """

    execution: HowName = "jit"
    data: Count = 1
    fsdp: Count = 1
    tensor: Count = 1

    def __post_init__(self) -> None:
        check_axes(self.execution, self.fsdp, self.tensor)
