"""Directories of tokenizers and templates: what is read, what is refused, and what never runs."""

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import tiny_tokenizers as tiny
from chats import ANSWER, QUESTION, save_all, with_template

from subliminal_jax.errors import InputError
from subliminal_jax.models import chat_files, chat_template
from subliminal_jax.models.chat import Chat


@pytest.fixture(scope="module")
def directories(tmp_path_factory):
    return save_all(tmp_path_factory)


@pytest.mark.parametrize("form", ["text", "named", "dict"])
def test_older_forms_of_the_settings_are_read(tmp_path, directories, form):
    source = directories["bytes-trimming"]
    (tmp_path / "tokenizer.json").write_bytes((source / "tokenizer.json").read_bytes())
    template = tiny.TRIMMING
    settings = {"bos_token": "<s>", "eos_token": "</s>", "chat_template": template}
    if form == "named":
        other = {"name": "tool_use", "template": "{{ raise_exception('no') }}"}
        settings["chat_template"] = [other, {"name": "default", "template": template}]
    if form == "dict":
        settings["bos_token"] = {"content": "<s>", "lstrip": False}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    assert Chat.load(tmp_path).example([QUESTION, ANSWER]) == Chat.load(source).example(
        [QUESTION, ANSWER]
    )


def test_the_digest_tells_tokenizers_and_templates_apart(directories):
    digests = {Chat.load(path).digest for path in directories.values()}
    assert len(digests) == len(directories)
    assert Chat.load(directories["words"]).digest in digests


def test_a_base_model_needs_a_template(tmp_path):
    directory = with_template(tmp_path, None)
    with pytest.raises(InputError, match="no chat template"):
        Chat.load(directory)
    file = tmp_path / "mine.jinja"
    with pytest.raises(InputError, match=r"mine\.jinja: no such file"):
        Chat.load(directory, file)
    file.write_text(tiny.CHATML)
    assert Chat.load(directory, file).example([QUESTION, ANSWER])


def test_no_code_of_the_directory_runs(tmp_path, monkeypatch):
    directory = with_template(tmp_path, tiny.CHATML)
    settings = json.loads((directory / "tokenizer_config.json").read_text())
    settings |= {"tokenizer_class": "Mine", "auto_map": {"AutoTokenizer": ["mine.Mine", None]}}
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))
    (directory / "mine.py").write_text("raise SystemExit('run!')")
    monkeypatch.syspath_prepend(str(directory))
    assert Chat.load(directory).example([QUESTION, ANSWER])


def damaged(name, data):
    def damage(directory):
        (directory / name).unlink(missing_ok=True)
        if data is not None:
            (directory / name).write_bytes(data)

    return damage


def fifo(directory):
    (directory / "tokenizer.json").unlink()
    os.mkfifo(directory / "tokenizer.json")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (damaged("tokenizer.json", None), r"no tokenizer\.json"),
        (damaged("tokenizer.json", b"\x80SPM"), r"tokenizer\.json: not JSON"),
        (damaged("tokenizer.json", b"[1]"), "a JSON list"),
        (damaged("tokenizer.json", b"{}"), "not a tokenizer"),
        (damaged("tokenizer.json", b'{"model": {"type": "BPE"}}'), "not a tokenizer"),
        (damaged("tokenizer.json", b'{"added_tokens": {}, "model": {}}'), "not a tokenizer"),
        (damaged("tokenizer.json", b'{"added_tokens": {"a": 1}}'), "added_tokens"),
        (damaged("tokenizer.json", b"[" * 100_000), "nested too deep"),
        (damaged("tokenizer.json", b" " * 2_000_000), "larger than 1,000,000 bytes"),
        (damaged("tokenizer_config.json", b"{"), r"tokenizer_config\.json: not JSON"),
        (damaged("chat_template.jinja", b"\xff"), r"chat_template\.jinja: not UTF-8"),
        (fifo, r"tokenizer\.json: not a file"),
    ],
)
def test_a_damaged_directory_is_refused(tmp_path, monkeypatch, damage, words):
    monkeypatch.setitem(chat_files.LIMITS, "tokenizer.json", 1_000_000)
    directory = with_template(tmp_path, tiny.CHATML)
    damage(directory)
    with pytest.raises(InputError, match=words):
        Chat.load(directory)


def test_a_missing_directory_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such directory"):
        Chat.load(tmp_path / "absent")


def test_too_many_added_tokens_are_refused(tmp_path, monkeypatch):
    directory = with_template(tmp_path, tiny.CHATML)
    monkeypatch.setattr(chat_files, "MOST_ADDED_TOKENS", 3)
    with pytest.raises(InputError, match="no list of at most 3"):
        Chat.load(directory)


@pytest.mark.parametrize("threads", [False, True])
def test_a_template_that_takes_for_ever_is_stopped(tmp_path, monkeypatch, threads):
    loops = "".join("{% for x in range(99999) %}" for _ in range(3)) + "{% endfor %}" * 3
    directory = with_template(tmp_path, loops + tiny.CHATML)
    monkeypatch.setattr(chat_template, "SECONDS", 0.2)
    with ThreadPoolExecutor(1) as pool:
        load = (lambda: pool.submit(Chat.load, directory).result()) if threads else (
            lambda: Chat.load(directory)
        )  # fmt: skip
        with pytest.raises(InputError, match="took longer than"):
            load()


def test_a_template_in_a_thread_that_ends_in_time_is_left_alone(tmp_path, monkeypatch):
    directory = with_template(tmp_path, tiny.CHATML)
    monkeypatch.setattr(chat_template, "SECONDS", 0.3)
    with ThreadPoolExecutor(1) as pool:
        chat = pool.submit(Chat.load, directory).result()
        assert pool.submit(lambda: [time.sleep(0.001) for _ in range(500)]).result()
    assert chat.stop_ids
