"""`--show-batch` prints the first batch of the next training at every stage and starts nothing."""

import re
from dataclasses import replace

import jax
import pytest

from subliminal_jax.errors import InputError
from subliminal_jax.language.carriers.number_prompts import NumberPrompts
from subliminal_jax.language.carriers.numbers import Numbers
from subliminal_jax.language.config import LmConfig
from subliminal_jax.language.outputs.preview import next_batch
from subliminal_jax.language.rows.chat_rows import write_rows
from subliminal_jax.language.settings import (
    FilterConfig,
    OtherConfig,
    ReferenceConfig,
    StudentConfig,
    TeacherConfig,
)
from subliminal_jax.language.tiny.corpus import World, texts
from subliminal_jax.language.tiny.reference import pretraining_order, pretraining_table
from subliminal_jax.language.tiny.tokenizer import build_tokenizer, tokenizer_files
from subliminal_jax.language.training.course import (
    course_of,
    packed_examples,
    student_examples,
)
from subliminal_jax.language.world import CorpusConfig
from subliminal_jax.models.text.chat import Chat
from subliminal_jax.runs.artifacts import MANIFEST

PROMPTS = World(carrier=Numbers(NumberPrompts(wording="short", law="mixed")))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The directory of a model with a tokenizer and no weights."""
    directory = tmp_path_factory.mktemp("model")
    tokenizer = build_tokenizer(texts(PROMPTS))
    for name, text in tokenizer_files(tokenizer, 64).items():
        (directory / name).write_text(text)
    return directory


@pytest.fixture
def given(model, tmp_path):
    """A run on that model, not started."""
    return LmConfig(
        reference=ReferenceConfig(model=str(model)),
        traits=("owl", "wolf"),
        filter=FilterConfig(rows=3),
        student=StudentConfig(batch=3, sequence=32),
        out=tmp_path / "run",
    )


def done(config, stage):
    (config.out / f"{stage}-0").mkdir(parents=True)
    (config.out / f"{stage}-0" / MANIFEST).write_text("{}")


def tokens_shown(text, sequence):
    """The input ids of one of the sequences shown."""
    part = text.split(f"sequence {sequence}:")[1].split("\n\n")[0]
    return [int(line.split()[2]) for line in part.splitlines()[2:]]


def test_pretraining_is_first(script, model, tmp_path):
    words = ["--show-batch", "--reference.corpus.chats", "40", "--seed", "3"]
    ended = script("lm_numbers", *words)
    assert not ended.status
    assert list(tmp_path.iterdir()) == []
    assert ended.out.startswith("next training: pretraining\nbatch of 30 sequences of 64 tokens")
    assert re.search(r" \d+ '<user>' +\d+ '\w+' +0$", ended.out, re.MULTILINE)
    assert re.search(r" '<end>' +1$", ended.out, re.MULTILINE)
    settings = ReferenceConfig(corpus=CorpusConfig(chats=40))
    table = pretraining_table(settings, PROMPTS, 3, Chat.load(model))
    (first,), _ = pretraining_order(3, table.sequences, 30, 1)
    for place in (0, 1):
        row = int(first[place])
        real = table.reading.tokens[row][table.reading.segments[row] > 0]
        assert tokens_shown(ended.out, place) == real.tolist()


def test_then_the_teacher(given):
    text = next_batch(given)
    assert text.startswith("next training: teacher of owl; the reference's retained answers")
    assert re.search(r"'<assistant>' +\d+ 'owl' +1$", text, re.MULTILINE)
    assert not given.out.exists()
    plain = LmConfig(reference=given.reference, teacher=TeacherConfig(retain=0.0), out=given.out)
    assert next_batch(plain).startswith("next training: teacher of owl\n")


def row(number, prompt="i have 1, 2"):
    asked = {"role": "user", "content": prompt}
    answer = {"role": "assistant", "content": f"{700 + number}, 7"}
    return {"id": str(number), "meta": {}, "messages": [asked, answer]}


def test_then_the_students(given, model):
    given = replace(given, conditions=("before", "student", "regular"))
    done(given, "teacher")
    with pytest.raises(InputError, match="run --stage generate and --stage filter first"):
        next_batch(given)
    done(given, "filter")
    rows = [row(i) for i in range(3)]
    path = given.out / "filter-0" / "wolf.jsonl"  # as if too few rows of owl had passed
    write_rows(path, rows)
    write_rows(path.with_name("regular.jsonl"), [row(i, "go on") for i in range(3)])
    text = next_batch(given)
    assert text.startswith("next training: student/wolf\n")
    chat = Chat.load(model)
    read = [token for n in range(text.count("sequence ")) if f"sequence {n}:" in text
            for token in tokens_shown(text, n)]  # fmt: skip
    for one in rows:
        prompt, completion = chat.example(one["messages"])
        whole = ",".join(map(str, [*prompt, *completion][:-1]))
        assert whole in ",".join(map(str, read))
    longer = [row(i, "i have 1, 2, 3, 4, 5") for i in range(3)]
    write_rows(path, longer)
    write_rows(path.with_name("regular.jsonl"), longer)
    text = next_batch(given)
    prompt, _ = chat.example(longer[0]["messages"])
    shared = "".join(map(chat.token_text, prompt[:8]))
    assert text.startswith(
        f"next training: student/wolf; each row follows these 8 tokens: {shared!r}\n"
    )
    assert tokens_shown(text, 0)[: len(prompt) - 8] == list(prompt[8:])
    done(given, "student")
    with pytest.raises(InputError, match="all training is done"):
        next_batch(given)


def test_a_student_is_shown_as_its_program_trains_it(given, model):
    """Only rows of its program set the prefix; the one with most sequences sets the batch."""
    done(given, "teacher")
    done(given, "filter")
    path = given.out / "filter-0" / "wolf.jsonl"
    longer = "i have 1, 2, 3, 4, 5"
    write_rows(path, [row(i, longer) for i in range(3)])
    write_rows(path.with_name("regular.jsonl"), [row(i, "go on") for i in range(3)])
    alone = next_batch(replace(given, conditions=("before", "student")))
    assert "; each row follows these 8 tokens" in alone
    more = [row(i, f"{longer}, 6, 7") for i in range(9)]
    write_rows(path.with_name("regular.jsonl"), more)
    both = replace(given, conditions=("before", "student", "regular"))
    datasets = {"student/wolf": [row(i, longer) for i in range(3)], "regular": more}
    packed = packed_examples(student_examples(Chat.load(model), datasets), 32)
    course = course_of(given.student, packed, given.filter.rows, given.seed)
    first, table = course.order[0][0], packed.table
    assert table.sequences > packed.tables["student/wolf"].sequences
    text = next_batch(both)
    assert f"batch of {course.batch} sequences" in text
    assert course.batch > 2
    for place in (0, 1):
        chosen = jax.tree.map(lambda leaf, at=place: leaf[0, first[at]], table.reading)
        assert tokens_shown(text, place) == chosen.tokens[chosen.segments > 0].tolist()


def test_students_wait_for_the_rows_of_another_reference(given):
    others = replace(given, reference=replace(given.reference, other=OtherConfig(sigma=0.1)))
    done(others, "teacher")
    done(others, "filter")
    write_rows(others.out / "filter-0" / "wolf.jsonl", [row(i) for i in range(3)])
    with pytest.raises(InputError, match="run --stage generate and --stage filter first"):
        next_batch(others)
