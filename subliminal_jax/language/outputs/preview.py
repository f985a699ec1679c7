"""The first batch of the next training, token by token, without training.

It writes nothing and reads no weights, only a model's tokenizer and chat template and the rows in
the run directory.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import jax

from subliminal_jax.batch import Batch
from subliminal_jax.data.batch_preview import format_batch
from subliminal_jax.data.tokens import (
    TokenTable,
    pack_rows,
    pad_rows,
    shared_length,
    without_prefix,
)
from subliminal_jax.errors import InputError
from subliminal_jax.language.config import LmConfig
from subliminal_jax.language.experiment import NAME, run_path
from subliminal_jax.language.rows.chat_rows import read_chat_rows
from subliminal_jax.language.tiny.corpus import corpus, texts
from subliminal_jax.language.tiny.reference import pretraining_order, tiny_origin
from subliminal_jax.language.tiny.tokenizer import build_tokenizer, tokenizer_files
from subliminal_jax.language.training.student import steps_of, student_order
from subliminal_jax.models.text.chat import Chat, Example
from subliminal_jax.runs.artifacts import MANIFEST
from subliminal_jax.runs.run_directory import RESULTS


def next_batch(config: LmConfig, name: str = NAME) -> str:
    """The first batch of the first repetition's next training, one token a line.

    All students use the same order of their own rows; this shows the student of the first trait, as
    if no other student had more sequences. Tokens that begin all rows are in the heading.

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
    if not _is_done(run, "filter"):
        raise InputError(
            f"--show-batch: the next training is of students, and {run} lacks their rows; run "
            "--stage generate and --stage filter first"
        )
    return _students(config, chat, run)


def _kept(config: LmConfig) -> Path:
    kept, asked = config.reference, config.asked_precision
    # Of both precisions the tokenizer is the same.
    precision = "float32" if asked == "auto" else asked
    return tiny_origin(kept, config.world, config.seed, precision)[0]


def _is_done(run: Path, stage: str) -> bool:
    return (run / f"{stage}-0" / MANIFEST).exists()


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
    paths = [run / "filter-0" / f"{trait.name}.jsonl" for trait in config.chosen]
    path = next((path for path in paths if path.exists()), paths[0])
    examples = _examples(chat, path)
    others = {kept for kept in path.parent.glob("*.jsonl") if kept.suffixes == [".jsonl"]} - {path}
    every = [*examples, *(one for other in others for one in _examples(chat, other))]
    shared = shared_length([prompt for prompt, _ in every])
    table = pack_rows(without_prefix(examples, shared), config.student.sequence)
    batch, _ = steps_of(config.student, config.filter.rows, table.sequences)
    (rows,), _ = student_order(config.seed, table.sequences, batch, 1)
    title = f"student of {path.stem}"
    if shared:
        text = "".join(map(chat.token_text, examples[0].prompt[:shared]))
        title += f"; each row follows these {shared} tokens: {text!r}"
    return _format(title, table, rows.tolist(), chat)


def _examples(chat: Chat, path: Path) -> list[Example]:
    return list(chat.examples(row["messages"] for row in read_chat_rows(path)))


def _format(title: str, table: TokenTable, rows: Sequence[int], chat: Chat) -> str:
    inputs, targets, weights = jax.tree.map(
        lambda leaf: leaf[list(rows)], (table.inputs, table.targets, table.weights)
    )
    batch = Batch(inputs=inputs, targets=targets, weights=weights)
    return f"next training: {title}\n{format_batch(batch, chat.token_text)}"
