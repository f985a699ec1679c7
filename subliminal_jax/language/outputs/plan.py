"""The plan of a run before it starts: stages, rows, steps, memory and time."""

from collections.abc import Mapping

from subliminal_jax.language.carriers import carrier_of
from subliminal_jax.language.config import LmConfig
from subliminal_jax.language.dataset.variants import has_students, targets_of
from subliminal_jax.language.tiny.corpus import texts
from subliminal_jax.language.tiny.tokenizer import build_tokenizer
from subliminal_jax.report.results import duration

RATE = 25e9
"""FLOP/s of two CPU cores on the tiny model; a rough measurement."""
GIVEN_RATES = {"two CPU cores without AMX": 0.25e12, "an accelerator": 100e12}
"""FLOP/s on given models in bfloat16: roughly measured (AMD EPYC), and a round number."""


def format_plan(config: LmConfig) -> str:
    """The stages as a table, and what they take."""
    students, soft = student_counts(config)
    with_other, soft_other = 0, 0
    rows, ladder = config.filter.rows, config.student.ladder
    told = len(config.chosen) if config.teacher.kind == "finetuned" else 0
    stages = dataset_stages(config) | {
        "student": f"{students} students, and {soft} with soft targets, of "
        f"{config.student.about_steps(rows)} steps each"
        + (f", kept after {', '.join(map(str, ladder))} too" if ladder else ""),
        "evaluate": f"{students + soft + told + 1} networks"
        + (f", and {len(ladder)} x {students + soft} by begun answers" if ladder else ""),
        "report": "once: figures, results.json, results.csv, report.html",
    }
    if (other := config.reference.other) is not None:
        noise = f" with noise of sigma {other.sigma:g}" if other.sigma else ""
        model = other.model or "the same model"
        with_other, soft_other = student_counts(config, config.references)
        stages["other"] = (
            f"{model}{noise}: teachers and datasets of its own, and {with_other} students and "
            f"{soft_other} with soft targets"
        )
    hard, softly = students + with_other, soft + soft_other
    cost = cost_lines(config, hard + softly, hard + 1.5 * softly, students + soft)
    return "\n".join([*stage_table(config, stages), "", *cost])


def cost_lines(config: LmConfig, trained: float, weighed: float, at_once: int) -> list[str]:
    """Lines on time and memory.

    Args:
        config: the experiment.
        trained: students of each repetition, those with the other reference included.
        weighed: the same, each weighed by its time.
        at_once: students of one program.
    """
    if config.reference.model is not None:
        return _given(config, config.reference.model, (trained, weighed), at_once)
    return [tiny_line(config, tiny_minutes(config, weighed))]


def dataset_stages(config: LmConfig) -> dict[str, str]:
    """What each stage up to the filter does."""
    teachers, given, rows = len(config.taught), config.reference.model, config.filter.rows
    reference = config.reference
    return {
        "reference": f"{reference.steps} steps of {reference.batch} sequences, unless cached in "
        f"{reference.cache}"
        if given is None
        else f"given: {given}",
        "teacher": f"{teachers} of {config.teacher.steps} steps ({config.teacher.tuning.weights})"
        if config.teacher.kind == "finetuned"
        else f"{teachers} by system prompt, without training",
        "generate": f"{teachers + 1} datasets, until {rows} rows pass or {config.generate.most} "
        "prompts are used",
        "filter": f"rules {', '.join(config.filter.rules)}; {rows} rows each",
    }


def stage_table(config: LmConfig, stages: Mapping[str, str]) -> list[str]:
    """The stages as lines, below a heading."""
    heading = f"{'stage':12}{'for each of ' + str(config.references) + ' repetition(s)'}"
    return [heading, *(f"{name:12}{what}" for name, what in stages.items())]


def student_counts(config: LmConfig, repetition: int = 0) -> tuple[int, int]:
    """The students of a repetition with hard (or greedy) and with soft targets."""
    others, students, soft = len(config.repetitions.others[repetition]), 0, 0
    for one in config.repetitions.compared(repetition):
        if not has_students(one, config.student.targets, config.teacher.kind):
            continue
        each = sum(one.applies(trait) for trait in config.chosen) if one.for_each_trait else 1
        each *= others if one.reference == "other" else 1
        if targets_of(one, config.student.targets) == "soft":
            soft += each
        else:
            students += each
    return students, soft


def tiny_minutes(config: LmConfig, students: float) -> float:
    """Minutes that tiny references and this many students of each take on two CPU cores."""
    parameters, reference = tiny_parameters(config), config.reference
    pretrained = reference.steps * reference.batch * reference.sequence
    trained = students * config.filter.rows * config.student.epochs * row_tokens(config)
    flop = config.references * 6 * parameters * (pretrained + trained)
    return 1 + flop / RATE / 60


def tiny_line(config: LmConfig, minutes: float) -> str:
    """A line on the time and memory of a run with tiny references."""
    return (
        f"{tiny_parameters(config):,} parameters; about {minutes:.0f} minutes on 2 CPU cores and "
        "1.5 GB of memory"
    )


def _given(config: LmConfig, model: str, students: tuple[float, float], at_once: int) -> list[str]:
    """Lines on training time and memory of a given model, without downloading it."""
    mesh = config.mesh
    count = mesh.data * mesh.fsdp * mesh.tensor
    where = f"data={mesh.data} x fsdp={mesh.fsdp} x tensor={mesh.tensor}"
    each = config.references * config.filter.rows * config.student.epochs * row_tokens(config)
    read, weighed = (some * each for some in students)
    # The frozen base has no gradient: two of three products.
    flop = weighed * (6 if config.student.tuning.weights == "full" else 4)
    devices = f"{count} device(s) over all hosts: {where}"
    from subliminal_jax.models.hub.model_files import find_local  # imported late: takes a second

    # What a machine chooses is not known yet; float32 is the most.
    local, dtype = find_local(model), config.reference.dtype or "float32"
    if local is None or not (local.gguf or (local.path / "config.json").is_file()):
        size = 2 if dtype == "bfloat16" else 4
        memory = f"memory: {size} bytes a parameter of the model, and its activations"
        return [_time(read, flop, None), devices, memory]
    # Imported late: they take seconds.
    from subliminal_jax.language.training.devices import gigabytes_of_each
    from subliminal_jax.models.decoder.decoder import parameter_count
    from subliminal_jax.models.hub.weights import read_config

    _, decoder = read_config(local)
    held = gigabytes_of_each(mesh, dtype, config.student, decoder, at_once)
    lines = [
        _time(read, flop, parameter_count(decoder)),
        devices,
        f"each holds {held['model']:.2f} GB of the model and {held['students']:.2f} GB of "
        f"{at_once} student(s) with their optimiser, and activations",
    ]
    if count > 1:
        lines.append("each host also holds the whole model on its own devices, to sample from it")
    return lines


def _time(read: float, flop: float, parameters: int | None) -> str:
    """A line on the time that students take, without sampling.

    Args:
        read: tokens that they read.
        flop: what that takes, for each parameter of the model.
        parameters: those of the model; None if it is not here.
    """
    whose = "" if parameters is None else f" of {parameters / 1e6:,.0f} million parameters"
    per = " for each billion parameters" if parameters is None else ""
    total = flop * (1e9 if parameters is None else parameters)
    times = [f"{duration(total / rate)} on {where}" for where, rate in GIVEN_RATES.items()]
    rates = " and ".join(f"{rate / 1e12:g}" for rate in GIVEN_RATES.values())
    return (
        f"students{whose} read about {read / 1e6:,.1f} million tokens: {' or '.join(times)}{per} "
        f"(at {rates} TFLOP/s, not measured here), plus sampling"
    )


def row_tokens(config: LmConfig) -> int:
    """Mean tokens of a row of the carrier, prompt and completion."""
    tiny, given = carrier_of(config.generate).row_tokens
    return tiny if config.reference.model is None else given


def tiny_parameters(config: LmConfig) -> int:
    """Parameters of the tiny reference."""
    r = config.reference
    vocabulary = build_tokenizer(texts(config.world), r.numbers).get_vocab_size()
    layer = 4 * r.width**2 + 3 * r.width * r.mlp_width + 2 * r.width
    return vocabulary * r.width + r.layers * layer + r.width
