"""Directories of tokenizers and templates: what is read, what is refused, and what never runs."""

import json
import os

import pytest
import tiny_tokenizers as tiny
from chats import ANSWER, QUESTION, save_all, with_template

from subliminal_jax.errors import InputError
from subliminal_jax.models import chat_files
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
        settings["bos_token"] = {"__type": "AddedToken", "content": "<s>", "lstrip": False}
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
    with pytest.raises(InputError, match="it is code, named by auto_map, which is never run"):
        Chat.load(directory)
    del settings["auto_map"]
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))
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
        (damaged("tokenizer.json", None), "holds no tokenizer"),
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
        (fifo, r"tokenizer\.json: is not a regular file"),
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


def test_too_many_added_tokens_are_refused(tmp_path):
    directory = with_template(tmp_path, tiny.CHATML)
    definition = json.loads((directory / "tokenizer.json").read_text())
    token = definition["added_tokens"][0]
    definition["added_tokens"] = [token | {"id": i, "content": f"<{i}>"} for i in range(100_001)]
    (directory / "tokenizer.json").write_text(json.dumps(definition))
    with pytest.raises(InputError, match="no list of at most 100,000"):
        Chat.load(directory)
