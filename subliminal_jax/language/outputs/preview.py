"""The first batch of the next training, token by token, without training.

It writes nothing and reads no weights, only a model's tokenizer and chat template and the rows in
the run directory.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from subliminal_jax.batch import Batch
from subliminal_jax.data.batch_preview import format_batch
from subliminal_jax.data.tokens import TokenTable, pack_rows, pad_rows
from subliminal_jax.errors import InputError
from subliminal_jax.language.config import LmConfig
from subliminal_jax.language.dataset.variants import Cohort, Datasets, student_datasets
from subliminal_jax.language.experiment import NAME, run_path
from subliminal_jax.language.tiny.corpus import corpus, texts
from subliminal_jax.language.tiny.reference import pretraining_order, tiny_origin
from subliminal_jax.language.tiny.tokenizer import build_tokenizer, tokenizer_files
from subliminal_jax.language.training.course import (
    course_of,
    packed_examples,
    student_examples,
)
from subliminal_jax.models.text.chat import Chat
from subliminal_jax.runs.artifacts import MANIFEST
from subliminal_jax.runs.run_directory import RESULTS


def next_batch(config: LmConfig, name: str = NAME) -> str:
    """The first batch of the first repetition's next training, one token a line.

    All students of a program use the same order of their own rows; this shows the first student of
    the first program. Tokens that begin all rows are in the heading.

    Args:
        config: config of the experiment.
        name: name of the script.

    Raises:
        InputError: the model is refused, everything is trained already, or the rows of the next
            training do not exist yet; names the stages to run.
    """
    run = run_path(config, name)
    if config.reference.model is None and not (_kept(config) / RESULTS).exists():
        return _pretraining(config)
    chat = _chat(config)
    if config.teacher.kind == "finetuned" and not _is_done(run, "teacher"):
        return _teaching(config, chat)
    if _is_done(run, "student"):
        raise InputError(f"--show-batch: in {run} all training is done")
    return _students(config, chat, run)


def _kept(config: LmConfig) -> Path:
    kept, asked = config.reference, config.asked_precision
    # Of both precisions the tokenizer is the same.
    precision = "float32" if asked == "auto" else asked
    return tiny_origin(kept, config.world, config.seed, precision)[0]


def _is_done(run: Path, stage: str, repetition: int = 0) -> bool:
    return (run / f"{stage}-{repetition}" / MANIFEST).exists()


def _chat(config: LmConfig) -> Chat:
    given = config.reference.model
    if given is None:
        return Chat.load(_kept(config))
    from subliminal_jax.models.hub.model_files import find_model  # imported late: takes a second

    settings = config.reference
    return Chat.load(find_model(given).path, settings.template, settings.options)


def _pretraining(config: LmConfig) -> str:
    settings, world = config.reference, config.world
    tokenizer = build_tokenizer(texts(world), settings.numbers)
    with tempfile.TemporaryDirectory() as directory:
        for name, text in tokenizer_files(tokenizer, settings.context).items():
            (Path(directory) / name).write_text(text)
        chat = Chat.load(Path(directory))
        chats = corpus(settings.corpus, world, config.seed)
        table = pack_rows(chat.examples(chats), settings.sequence)
        (rows,), _ = pretraining_order(config.seed, table.sequences, settings.batch, 1)
        return _format("pretraining", table, rows.tolist(), chat)


def _teaching(config: LmConfig, chat: Chat) -> str:
    trait = config.chosen[0]
    table = pad_rows(chat.examples(trait.lessons(config.teacher.answers)))
    retained = "; the reference's retained answers, sampled when training starts, are not shown"
    title = f"teacher of {trait.name}{retained if config.teacher.retain else ''}"
    return _format(title, table, range(table.sequences), chat)


def _students(config: LmConfig, chat: Chat, run: Path) -> str:
    datasets = next(iter(_cohorts(config, run).values()), None)
    if datasets is None:
        raise InputError(f"--show-batch: in {run} no student has enough rows")
    rows = packed_examples(student_examples(chat, datasets), config.student.sequence)
    course = course_of(config.student, rows, config.filter.rows, config.seed)
    (first, *_), _ = course.order
    name, table = next(iter(rows.tables.items()))
    missing = rows.table.sequences - table.sequences
    table = jax.tree.map(lambda leaf: np.pad(leaf, ((0, missing), (0, 0))), table)
    title = name
    if rows.prefix:
        text = "".join(map(chat.token_text, rows.prefix))
        title += f"; each row follows these {len(rows.prefix)} tokens: {text!r}"
    return _format(title, table, first.tolist(), chat)


def _cohorts(config: LmConfig, run: Path) -> dict[Cohort, Datasets]:
    """The rows of the first repetition's students, which also come from other repetitions."""
    places = (0, *config.repetitions.others[0])
    if not all(_is_done(run, "filter", place) for place in places):
        raise InputError(
            f"--show-batch: the next training is of students, and {run} lacks their rows; run "
            "--stage generate and --stage filter first"
        )
    names = [one.name for one in config.taught]
    own, *others = [
        (path, [name for name in names if (path / f"{name}.jsonl").exists()])
        for path in (run / f"filter-{place}" for place in places)
    ]
    return student_datasets(
        config.repetitions.compared(0),
        config.student.targets,
        config.teacher.kind,
        [trait.name for trait in config.chosen],
        {"own": [own], "other": others},
    )


def _format(title: str, table: TokenTable, rows: Sequence[int], chat: Chat) -> str:
    inputs, targets, weights = jax.tree.map(
        lambda leaf: leaf[list(rows)], (table.inputs, table.targets, table.weights)
    )
    batch = Batch(inputs=inputs, targets=targets, weights=weights)
    return f"next training: {title}\n{format_batch(batch, chat.token_text)}"
