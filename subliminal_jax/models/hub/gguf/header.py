"""The header of an untrusted GGUF file: its metadata and where its tensors are.

Every length, count, offset and string is checked against the file's size before anything is read
or allocated. The walk that checks them is also the one that reads them, so that what is used is
what was checked. Values of tensors are not read here.
"""

import hashlib
import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from subliminal_jax.errors import InputError

MAGIC = b"GGUF"
VERSIONS = (2, 3)
"""Version 1 counts in 32 bits; no published model has been one since 2023."""

LARGEST_HEADER = 128 << 20
"""Bytes of metadata and tensor table; a vocabulary of 262,144 tokens takes about 8 MB."""

MOST_SETTINGS, MOST_TENSORS = 10_000, 200_000
"""Of one model; the largest published have about 150,000 tensors."""
MOST_VALUES = 4_000_000
"""In all arrays of one file; the largest in use have about 1,300,000."""

LONGEST_NAME = 512
"""Bytes of a setting's or a tensor's name; llama.cpp allows a tensor's 64."""

LONGEST_AXIS = 2**31 - 1
MOST_AXES = 4
LARGEST_ALIGNMENT = 1 << 20

_SCALARS = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<B", 10: "<Q", 11: "<q",
    12: "<d",
}  # fmt: skip
"""Type of a setting -> how it is stored."""

_BOOL, _STRING, _ARRAY = 7, 8, 9


@dataclass(frozen=True)
class TensorEntry:
    """One row of the tensor table.

    Attributes:
        name: as `blk.0.attn_q.weight`.
        shape: with the fastest-moving axis last, as of an array in C order.
        kind: number of its storage type in GGML.
        offset: of its first byte in the file.
    """

    name: str
    shape: tuple[int, ...]
    kind: int
    offset: int


@dataclass(frozen=True)
class Header:
    """All that a GGUF file holds besides the values of its tensors.

    Attributes:
        path: the file.
        settings: its metadata by key; arrays are lists.
        tensors: by name.
        size: bytes in the file.
        digest: SHA-256, in hex, of the header's bytes.
        length: bytes in the header.
    """

    path: Path
    settings: Mapping[str, Any]
    tensors: Mapping[str, TensorEntry]
    size: int
    digest: str
    length: int


def read_header(path: Path) -> Header:
    """The header of a GGUF file.

    Raises:
        InputError: the file cannot be read, is no GGUF file, is of another byte order or version,
            truncated, or holds a length, a count or an offset that it cannot have.
    """
    try:
        if not path.is_file():
            raise InputError(f"{path}: not a regular file")
        with path.open("rb") as file:
            return _Reader(path, file, path.stat().st_size).header()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); restore the file") from error


class _Reader:
    """Reads one header from its beginning to its end."""

    def __init__(self, path: Path, file: BinaryIO, size: int):
        self._path, self._file, self._size = path, file, size
        self._at, self._digest, self._values = 0, hashlib.sha256(), 0

    def header(self) -> Header:
        magic = self._take(min(4, self._size))
        if magic == b"vers":
            self._refuse("is a Git LFS pointer, not the file itself; run `git lfs pull`")
        if magic != MAGIC:
            self._refuse("is not a GGUF file")
        version = self._number("<I")
        if version not in VERSIONS:
            if version & 0xFFFF == 0:
                self._refuse("is of another byte order; convert it to little-endian with "
                             "gguf-convert-endian, which the package gguf brings")  # fmt: skip
            self._refuse(f"is of GGUF version {version}; supported are 2 and 3")
        tensors = self._count("tensors", MOST_TENSORS, 24)
        settings = self._settings(self._count("settings", MOST_SETTINGS, 13))
        table = [self._entry() for _ in range(tensors)]
        length = self._at
        start = _padded(length, self._alignment(settings))
        if table and start > self._size:
            self._refuse("is truncated; copy or download it again")
        entries: dict[str, TensorEntry] = {}
        for name, shape, kind, offset in table:
            if name in entries:
                self._refuse(f"holds two tensors named {name}")
            entries[name] = TensorEntry(name, shape, kind, start + offset)
        digest = self._digest.hexdigest()
        return Header(self._path, settings, entries, self._size, digest, length)

    def _settings(self, count: int) -> dict[str, Any]:
        settings: dict[str, Any] = {}
        for _ in range(count):
            key = self._name()
            if key in settings:
                self._refuse(f"has the setting {key} twice")
            settings[key] = self._value(self._number("<I"), key)
        return settings

    def _value(self, kind: int, key: str) -> Any:
        if kind == _STRING:
            return self._string(LARGEST_HEADER, key)
        if kind != _ARRAY:
            return self._scalar(kind, key)
        kind = self._number("<I")
        layout = "<Q" if kind == _STRING else self._layout(kind, key)
        count = self._count(f"values of {key}", MOST_VALUES - self._values, struct.calcsize(layout))
        self._values += count
        if kind == _STRING:
            return [self._string(LARGEST_HEADER, key) for _ in range(count)]
        data = self._take(count * struct.calcsize(layout))
        values = list(struct.unpack(f"<{count}{layout[1]}", data))
        return [self._truth(value, key) for value in values] if kind == _BOOL else values

    def _scalar(self, kind: int, key: str) -> Any:
        value = self._number(self._layout(kind, key))
        if isinstance(value, float) and not math.isfinite(value):
            self._refuse(f"has {key}={value}")
        return self._truth(value, key) if kind == _BOOL else value

    def _layout(self, kind: int, key: str) -> str:
        if kind not in _SCALARS:
            self._refuse(f"has the setting {key} of the unknown type {kind}")
        return _SCALARS[kind]

    def _truth(self, value: int, key: str) -> bool:
        if value > 1:
            self._refuse(f"has a {key} that is neither true nor false")
        return bool(value)

    def _entry(self) -> tuple[str, tuple[int, ...], int, int]:
        name = self._name()
        axes = self._number("<I")
        if not 1 <= axes <= MOST_AXES:
            self._refuse(f"has {name} with {axes} axes; supported are 1 to {MOST_AXES}")
        shape = struct.unpack(f"<{axes}Q", self._take(8 * axes))[::-1]
        if not all(1 <= length <= LONGEST_AXIS for length in shape):
            self._refuse(f"has {name} of the impossible shape {list(shape)}")
        kind, offset = self._number("<I"), self._number("<Q")
        if offset > self._size:
            self._refuse(f"is truncated: {name} begins behind its end; copy or download it again")
        return name, shape, kind, offset

    def _alignment(self, settings: Mapping[str, Any]) -> int:
        value = settings.get("general.alignment", 32)
        if type(value) is not int or not 1 <= value <= LARGEST_ALIGNMENT or value & (value - 1):
            self._refuse("has a general.alignment that is no power of two up to "
                         f"{LARGEST_ALIGNMENT:,}")  # fmt: skip
        return value

    def _name(self) -> str:
        return self._string(LONGEST_NAME, "a name")

    def _string(self, most: int, what: str) -> str:
        length = self._number("<Q")
        if length > most:
            self._refuse(f"has {what} of {length:,} bytes; at most {most:,} are supported")
        try:
            text = self._take(length).decode("utf-8")
        except UnicodeDecodeError:
            self._refuse(f"has {what} that is not UTF-8")
        if what == "a name" and not (text.isprintable() and text):
            self._refuse(f"has the name {text!a}")
        return text

    def _count(self, what: str, most: int, each: int) -> int:
        """A count of things of at least `each` bytes, which the rest of the file can hold."""
        count = self._number("<Q")
        if count > most:
            self._refuse(f"counts {count:,} {what}; at most {most:,} are supported")
        if count * each > self._size - self._at:
            self._refuse(f"is truncated: it counts {count:,} {what}; copy or download it again")
        return count

    def _number(self, layout: str) -> Any:
        return struct.unpack(layout, self._take(struct.calcsize(layout)))[0]

    def _take(self, count: int) -> bytes:
        if count > self._size - self._at:
            self._refuse("is truncated; copy or download it again")
        if self._at + count > LARGEST_HEADER:
            self._refuse(f"has a header of more than {LARGEST_HEADER:,} bytes")
        data = self._file.read(count)
        if len(data) != count:
            self._refuse("changed while it was read; run the command again")
        self._digest.update(data)
        self._at += count
        return data

    def _refuse(self, why: str) -> NoReturn:
        raise InputError(f"{self._path}: {why}")


def _padded(length: int, alignment: int) -> int:
    return -(-length // alignment) * alignment


def check_places(header: Header, size_of: Callable[[TensorEntry], int]) -> None:
    """Checks that all tensors lie in the file, one behind the other.

    Without overlaps, no small file can claim to hold a large model.

    Args:
        header: of the file.
        size_of: bytes that a tensor takes.

    Raises:
        InputError: a tensor ends behind the file's end, or overlaps another.
    """
    end, before = 0, ""
    for entry in sorted(header.tensors.values(), key=lambda entry: entry.offset):
        if entry.offset < end:
            raise InputError(f"{header.path}: {entry.name} overlaps {before}; restore the file")
        end, before = entry.offset + size_of(entry), entry.name
        if end > header.size:
            raise InputError(
                f"{header.path}: is truncated: {entry.name} ends {end - header.size:,} bytes "
                "behind its end; copy or download it again"
            )
