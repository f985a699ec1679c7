"""Directories of tokenizers and templates: what is read, what is refused, and what never runs."""

import json
import os
from pathlib import Path

import pytest
import tiny_tokenizers as tiny
from chats import ANSWER, QUESTION, save_all, with_template

from subliminal_jax.errors import InputError
from subliminal_jax.models.text import chat_files
from subliminal_jax.models.text.chat import Chat


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
    with pytest.raises(InputError, match="auto_map names code, which is never run"):
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
    with pytest.raises(InputError, match="not a list of at most 100,000"):
        Chat.load(directory)


NAMES = ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
         "generation_config.json", "config.json", "chat_template.jinja"]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_file_is_regular_and_inside(tmp_path, name):
    directory = with_template(tmp_path / "model", tiny.CHATML)
    path = directory / name
    content = path.read_bytes() if path.exists() else b"{}"
    damaged(name, None)(directory)
    os.mkfifo(path)
    with pytest.raises(InputError, match=rf"{name}: is not a regular file"):
        Chat.load(directory)
    path.unlink()
    path.mkdir()
    with pytest.raises(InputError, match=rf"{name}: is not a regular file"):
        Chat.load(directory)
    path.rmdir()
    (tmp_path / "outside").write_bytes(content)
    path.symlink_to(tmp_path / "outside")
    with pytest.raises(InputError, match=rf"{name}: leads out of the model's directory"):
        Chat.load(directory)
    (tmp_path / "outside").unlink()
    with pytest.raises(InputError, match=rf"{name}: a broken link"):
        Chat.load(directory)
    path.unlink()
    (directory / "kept").write_bytes(content)
    path.symlink_to(directory / "kept")
    assert Chat.load(directory)


def test_a_snapshot_of_the_hub_is_links_to_blobs(tmp_path):
    model = with_template(tmp_path / "model", tiny.CHATML)
    snapshot = tmp_path / "models--org--name" / "snapshots" / ("0" * 40)
    blobs = tmp_path / "models--org--name" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for path in model.iterdir():
        path.rename(blobs / path.name)
        (snapshot / path.name).symlink_to(blobs / path.name)
    assert Chat.load(snapshot).example([QUESTION, ANSWER])


def test_a_file_that_is_not_readable_is_one_line(tmp_path, monkeypatch):
    directory = with_template(tmp_path, tiny.CHATML)

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(InputError, match=r"tokenizer\.json cannot be read \(Permission denied\)"):
        Chat.load(directory)
