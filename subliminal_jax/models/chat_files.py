"""What a model directory says about text: its tokenizer, its special tokens, its chat template.

Three files are read and no others, none of which is code: `tokenizer.json`,
`tokenizer_config.json` and `chat_template.jinja`. They come from strangers, so that sizes are
bounded before anything is parsed.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from subliminal_jax.errors import InputError
from subliminal_jax.files import parse_json

TOKENIZER, SETTINGS, TEMPLATE = "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"
LIMITS = {TOKENIZER: 128 << 20, SETTINGS: 16 << 20, TEMPLATE: 1 << 20}
"""Bytes. The largest in use are Gemma 3's tokenizer, 33 MB, and its settings, 1.2 MB."""

MOST_ADDED_TOKENS = 100_000
_NAMED = ("bos_token", "eos_token", "unk_token", "pad_token")


@dataclass(frozen=True)
class ChatFiles:
    """A directory's words about text, read but not yet understood.

    Attributes:
        directory: where they were read.
        tokenizer: `tokenizer.json`, parsed.
        special: the tokens that the template may name, such as `eos_token`, as text.
        template: the Jinja source of the chat template.
        digest: SHA-256, in hex, of what was read.
    """

    directory: Path
    tokenizer: dict[str, Any]
    special: Mapping[str, str]
    template: str
    digest: str


def read_chat_files(directory: Path, template_file: Path | None = None) -> ChatFiles:
    """Read a model directory's tokenizer and chat template.

    Args:
        directory: holds `tokenizer.json`, and `tokenizer_config.json` and `chat_template.jinja`
            where the model has them.
        template_file: a chat template to use in place of the directory's own.

    Raises:
        InputError: a file is missing, too large or no JSON, or there is no chat template.
    """
    if not directory.is_dir():
        raise InputError(f"{directory}: no such directory; give one that holds {TOKENIZER}")
    raw = {name: _read(directory / name, LIMITS[name]) for name in (TOKENIZER, SETTINGS, TEMPLATE)}
    if template_file is not None:
        raw[TEMPLATE] = _read(template_file, LIMITS[TEMPLATE])
        if raw[TEMPLATE] is None:
            raise InputError(f"{template_file}: no such file; give a chat template in Jinja")
    if raw[TOKENIZER] is None:
        raise InputError(
            f"{directory}: no {TOKENIZER}; other tokenizer files are not read, so save one with "
            "transformers' save_pretrained"
        )
    tokenizer = _object(directory / TOKENIZER, raw[TOKENIZER])
    settings = _object(directory / SETTINGS, raw[SETTINGS] or b"{}")
    _check_added(directory / TOKENIZER, tokenizer)
    template = _text(template_file or directory / TEMPLATE, raw[TEMPLATE])
    template = template if template is not None else _inline_template(settings)
    if template is None:
        raise InputError(
            f"{directory}: the model has no chat template (a base model has none); give one as a "
            f"file, or put it there as {TEMPLATE}"
        )
    sha = hashlib.sha256()
    for part in (raw[TOKENIZER], raw[SETTINGS] or b"", template.encode("utf-8", "replace")):
        sha.update(hashlib.sha256(part).digest())
    return ChatFiles(directory, tokenizer, _special(settings), template, sha.hexdigest())


def _read(path: Path, limit: int) -> bytes | None:
    """A regular file's bytes; None where there is none. A pipe or a device is never opened."""
    if not path.exists():
        return None
    if not path.is_file():
        raise InputError(f"{path}: not a file")
    with path.open("rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise InputError(f"{path}: larger than {limit:,} bytes, which no known model's is")
    return data


def _text(path: Path, data: bytes | None) -> str | None:
    try:
        return None if data is None else data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 ({error.reason})") from error


def _object(path: Path, data: bytes) -> dict[str, Any]:
    try:
        value = parse_json(data)
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error}); restore the file") from error
    if not isinstance(value, dict):
        raise InputError(f"{path}: a JSON {type(value).__name__}, not an object")
    return value


def _check_added(path: Path, tokenizer: dict[str, Any]) -> None:
    added = tokenizer.get("added_tokens") or []
    if not isinstance(added, list) or len(added) > MOST_ADDED_TOKENS:
        raise InputError(f"{path}: added_tokens is no list of at most {MOST_ADDED_TOKENS:,}")


def _inline_template(settings: dict[str, Any]) -> str | None:
    """The template within `tokenizer_config.json`, as older directories have it.

    It is text, or a list of named texts of which "default" is meant.
    """
    template = settings.get("chat_template")
    if isinstance(template, list):
        named = [entry for entry in template if isinstance(entry, dict)]
        found = [entry.get("template") for entry in named if entry.get("name") == "default"]
        template = found[0] if found else None
    return template if isinstance(template, str) else None


def _special(settings: dict[str, Any]) -> dict[str, str]:
    special = {}
    for name in _NAMED:
        value = settings.get(name)
        value = value.get("content") if isinstance(value, dict) else value
        if isinstance(value, str):
            special[name] = value
    return special
