"""How bytes reach the disk: whole or not at all, and JSON only in its strict form."""

import contextlib
import errno
import json
import math
import os
import shutil
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

from subliminal_jax.errors import InputError, RunError

PARTIAL = ".run-partial"
"""Ends the name of a file that is being written; such a file is never whole."""


class TornRowWarning(UserWarning):
    """The last row of a JSON Lines file was cut short by a killed run and has been removed."""


def is_disk_full(error: BaseException) -> bool:
    """Whether an error says that the disk, or the user's share of it, is used up."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def disk_full_error(path: Path | None = None, needed: int | None = None) -> InputError:
    """The refusal for a full disk: what could not be written, where, and what to do."""
    what = "write" if needed is None else f"write {needed:,} bytes"
    where = ""
    if path is not None:
        where = f" to {path}"
        with contextlib.suppress(OSError):
            where += f" ({shutil.disk_usage(path.parent).free:,} bytes free)"
    return InputError(
        f"disk full: cannot {what}{where}; free some space, or choose another --out, "
        "and run the same command again"
    )


def _check_json(value: Any, path: str) -> None:
    if isinstance(value, dict):
        for key, child in value.items():
            if not isinstance(key, str):
                raise TypeError(f"{path or 'the value'} has the key {key!r}, which is not text")
            _check_json(child, f"{path}.{key}" if path else key)
    elif isinstance(value, list | tuple):
        for index, child in enumerate(value):
            _check_json(child, f"{path}[{index}]")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise RunError(f"{path or 'the value'} is {value}: only finite numbers are recorded")
    elif value is not None and not isinstance(value, str | int):
        raise TypeError(
            f"{path or 'the value'} is a {type(value).__name__}, which JSON cannot hold"
        )


def strict_json(value: Any, *, indent: int | None = None) -> str:
    """Encodes plain values as JSON by RFC 8259: no NaN, no infinity, only text as keys.

    Raises:
        RunError: If a number is not finite; names its key path, such as `sweep[2].loss`.
        TypeError: If a value or a key has no JSON form; names its key path too.
    """
    _check_json(value, "")
    # ASCII alone, so that any text, lone surrogates and U+2028 included, survives any reader.
    return json.dumps(value, allow_nan=False, indent=indent)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def parse_json(data: bytes) -> Any:
    """Decodes strict JSON in UTF-8.

    Raises:
        ValueError: If the bytes are not that.
    """
    try:
        return json.loads(data.decode("utf-8"), parse_constant=_no_constant)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def sync_directory(path: Path) -> None:
    """Makes new names in a directory survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_whole(path: Path, data: bytes) -> None:
    """Replaces a file in one step, so that a reader sees the old bytes or the new ones.

    The recipe is temporary file, write, fsync, rename, fsync of the directory. One writer per
    directory is assumed: the temporary name is fixed, so that a killed run's rest is found.

    Raises:
        InputError: If the disk is full; the old file is untouched.
        OSError: If writing fails for another reason; the old file is untouched.
    """
    partial = path.with_name(f".{path.name}{PARTIAL}")
    try:
        partial.unlink(missing_ok=True)
        with partial.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        if is_disk_full(error):
            raise disk_full_error(path, len(data)) from error
        raise
    sync_directory(path.parent)


def _cut_torn_tail(descriptor: int, path: Path) -> None:
    """Removes bytes after the last newline: the newline is written last, so they are no row."""
    size = os.fstat(descriptor).st_size
    if size == 0 or os.pread(descriptor, 1, size - 1) == b"\n":
        return
    whole, block = size, 1 << 16
    while whole > 0:
        start = max(0, whole - block)
        newline = os.pread(descriptor, whole - start, start).rfind(b"\n")
        if newline >= 0:
            whole = start + newline + 1
            break
        whole = start
    os.ftruncate(descriptor, whole)
    os.fsync(descriptor)
    message = f"{path}: removed {size - whole} bytes of a row that a stopped run left unfinished"
    warnings.warn(message, TornRowWarning, stacklevel=4)


def append_row(path: Path, row: dict[str, Any]) -> None:
    """Appends one JSON row; see `append_rows`."""
    append_rows(path, [row])


def append_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Appends JSON rows in a single write, a newline behind each, and waits for the disk.

    An unfinished last row, left by a killed run, is removed first with a `TornRowWarning`.

    Raises:
        InputError: If the disk is full; the rows before are intact and no part of these is there.
        OSError: If writing fails for another reason; likewise.
        RunError: If a row holds a number that is not finite.
    """
    data = "".join(f"{strict_json(row)}\n" for row in rows).encode()
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
    size = None
    try:
        descriptor = os.open(path, flags, 0o666)
        try:
            _cut_torn_tail(descriptor, path)
            size = os.fstat(descriptor).st_size
            try:
                if os.write(descriptor, data) < len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, size)
                raise
        finally:
            os.close(descriptor)
    except OSError as error:
        if is_disk_full(error):
            raise disk_full_error(path, len(data)) from error
        raise
    if size == 0:
        sync_directory(path.parent)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Reads the rows of a JSON Lines file; no file means no rows.

    An unfinished last row, left by a killed run, is removed from the file and reported with a
    `TornRowWarning` that says how many bytes went.

    Raises:
        InputError: If a finished line is not a JSON object; gives the line number.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError:
        return []
    with open(descriptor, "rb") as file:
        _cut_torn_tail(descriptor, path)
        lines = file.read().split(b"\n")[:-1]
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            row = parse_json(line)
            if not isinstance(row, dict):
                raise ValueError(f"a {type(row).__name__}, not an object")
        except ValueError as error:
            raise InputError(
                f"{path}: line {number} is no row ({error}); restore the file, or remove that line"
            ) from error
        rows.append(row)
    return rows
