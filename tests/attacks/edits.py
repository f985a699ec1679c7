"""Small changes of files, as functions of the attack's directory."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from attacks.attack import Ended
from attacks.shared import FIXTURES, Shared

SetUp = Callable[[Path, Shared], object]
Bytes = bytes | Callable[[], bytes]
ABSENT = object()
"""A value of `edited` that removes the key."""


def base(here: Path, shared: Shared) -> Path:
    """Copy the sound model directory to `model`, unless it exists; return its path."""
    if not (here / "model").exists():
        shutil.copytree(shared.base, here / "model")
    return here / "model"


def fixture(family: str) -> Callable[[Path, Shared], Path]:
    """Copy a stored model of a family, without a tokenizer, to `model`."""
    return lambda here, shared: shutil.copytree(FIXTURES / family / "model", here / "model")


def edit(path: Path, changes: dict[str, Any]) -> None:
    """Change keys of a JSON file; `/` leads into objects and lists, `ABSENT` removes a key."""
    value = json.loads(path.read_text()) if path.exists() else {}
    for name, new in changes.items():
        inner, *rest = value, *name.split("/")
        for part in rest[:-1]:
            inner = inner[int(part)] if isinstance(inner, list) else inner.setdefault(part, {})
        last = int(rest[-1]) if isinstance(inner, list) else rest[-1]
        if new is ABSENT:
            inner.pop(last, None)
        else:
            inner[last] = new
    path.write_text(json.dumps(value))  # NaN and Infinity too, as Python spells them


def edited(file: str, source: Callable[[Path, Shared], Path] = base, **changes: Any) -> SetUp:
    """A model directory with other values in one of its JSON files; keys as of `edit`."""

    def set_up(here: Path, shared: Shared) -> None:
        edit(source(here, shared) / file, changes)

    return set_up


def replaced(file: str, data: Bytes | None, source: Callable[[Path, Shared], Path] = base) -> SetUp:
    """A model directory with other bytes in one of its files; None removes it."""

    def set_up(here: Path, shared: Shared) -> None:
        put(source(here, shared) / file, data)

    return set_up


def put(path: Path, data: Bytes | None) -> None:
    """Replace a file, or remove it (None); a callable makes large data only when needed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    if data is not None:
        path.write_bytes(data() if callable(data) else data)


KINDS = ("fifo", "directory", "dangling link", "loop", "link out", "socket", "device")
"""Kinds of entries that can be where a file should be, see `other_kind`."""


def other_kind(path: Path, kind: str) -> None:
    """Replace a file by another kind of entry; a `link out` leads to the same bytes elsewhere."""
    data = path.read_bytes() if path.is_file() else b""
    put(path, None)
    outside = path.parent.parent / f"outside-{path.name}"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    elif kind == "dangling link":
        path.symlink_to("nowhere")
    elif kind == "loop":
        path.symlink_to(path.name)
    elif kind == "link out":
        outside.write_bytes(data)
        path.symlink_to(outside)
    elif kind == "socket":
        import socket

        with socket.socket(socket.AF_UNIX) as made:
            here = os.open(path.parent, os.O_RDONLY)
            made.bind(f"/proc/self/fd/{here}/{path.name}")
            os.close(here)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.write_bytes(b"")


def retensored(
    change: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray] | None],
    metadata: dict[str, str] | None = None,
) -> SetUp:
    """The sound directory with other tensors."""

    def set_up(here: Path, shared: Shared) -> None:
        path = base(here, shared) / "model.safetensors"
        tensors = load_file(path)
        tensors = change(tensors) or tensors
        save_file(tensors, path, metadata=metadata or {"format": "pt"})

    return set_up


def same_as_base(main: str, *words: str) -> Callable[[Ended], str]:
    """The check that an answer equals that for the sound directory."""

    def check(ended: Ended) -> str:
        right = ended.shared.expected(main, str(ended.shared.base), *words)
        return "" if ended.found == right else f"{ended.out.strip()[:200]} is not the base's"

    return check


def both(*steps: SetUp) -> SetUp:
    """One change after another."""

    def set_up(here: Path, shared: Shared) -> None:
        for step in steps:
            step(here, shared)

    return set_up
