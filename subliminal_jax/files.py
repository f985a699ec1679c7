"""Atomic file writes, rows that survive a kill, and strict JSON."""

import contextlib
import errno
import hashlib
import json
import math
import os
import stat
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

from subliminal_jax.errors import InputError, RunError
from subliminal_jax.process.os_errors import disk_full_line, is_disk_full

PARTIAL = ".run-partial"
"""Suffix of a file that is being written; such a file is never complete."""


class TornRowWarning(UserWarning):
    """The last row of a JSON Lines file is incomplete, for example after a kill; it is left out."""


def disk_full_error(
    path: Path | None = None, needed: int | None = None, error: OSError | None = None
) -> InputError:
    """Return the error for a full disk; arguments as of `os_errors.disk_full_line`."""
    return InputError(disk_full_line(path, needed, error))


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
    """Encode plain values as JSON by RFC 8259: no NaN, no infinity, only text as keys.

    Raises:
        RunError: a number is not finite; names its key path, such as `sweep[2].loss`.
        TypeError: a value or a key has no JSON form; names its key path.
    """
    _check_json(value, "")
    # ASCII only, so that any text, lone surrogates and U+2028 included, survives any reader.
    return json.dumps(value, allow_nan=False, indent=indent)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def parse_json(data: bytes) -> Any:
    """Decode strict JSON in UTF-8.

    Raises:
        ValueError: the bytes are not strict JSON.
    """
    try:
        return json.loads(data.decode("utf-8"), parse_constant=_no_constant)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def sync(descriptor: int) -> None:
    """Flush a file to disk, if its file system supports that."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):
            raise


def sync_directory(path: Path) -> None:
    """Flush a directory, so that new names in it survive a power cut; as `sync`."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError:  # a directory can be writable without being readable
        return
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)


def write_whole(path: Path, data: bytes) -> None:
    """Replace a file atomically: a reader sees the old bytes or the new ones.

    Temporary file, write, fsync, rename, fsync of the directory. Assumes one writer per directory:
    the temporary name is fixed, so that a leftover of a killed run is found.

    Raises:
        InputError: the disk is full; the old file is untouched.
        OSError: writing failed for another reason; the old file is untouched.
    """
    partial = path.with_name(f".{path.name}{PARTIAL}")
    try:
        partial.unlink(missing_ok=True)
        with partial.open("xb") as file:
            file.write(data)
            file.flush()
            sync(file.fileno())
        os.replace(partial, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        if isinstance(error, OSError):
            raise _with_path(error, path, len(data)) from error
        raise
    sync_directory(path.parent)


def read_file(path: Path) -> bytes:
    """Read a regular file, also through a symbolic link; errors as of `open_file`."""
    with open(open_file(path, follow=True), "rb") as file:
        return file.read()


def open_file(path: Path, flags: int = os.O_RDONLY, *, follow: bool = False) -> int:
    """Open a regular file and return its descriptor; never waits for the other end of a pipe.

    Args:
        path: of the file.
        flags: as of `os.open`.
        follow: whether to follow a symbolic link, which is an error otherwise.

    Raises:
        InputError: not a regular file but a directory, a pipe, a device.
        OSError: it cannot be opened.
    """
    flags |= os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    try:
        descriptor = os.open(path, flags, 0o666)
    except OSError as error:
        if error.errno != errno.ENXIO:  # of a socket, or of a pipe that nobody reads
            raise
    else:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
    raise InputError(f"{path}: is not a file; move it away, or give the path of a file")


def read_object(path: Path) -> dict[str, Any] | None:
    """Return the object in a JSON file; None if there is no file.

    Raises:
        InputError: not a regular file.
        ValueError: not JSON, or not an object.
        OSError: it cannot be read.
    """
    try:
        descriptor = open_file(path)
    except FileNotFoundError:
        return None
    with open(descriptor, "rb") as file:
        value = parse_json(file.read())
    if not isinstance(value, dict):
        raise ValueError(f"a {type(value).__name__}, not an object")
    return value


def _with_path(error: OSError, path: Path, size: int) -> Exception:
    """Return the error to raise for a failed write; unlike the system's, it names the file."""
    if is_disk_full(error):
        return disk_full_error(path, size, error)
    return OSError(error.errno, error.strerror or str(error), str(path))


def _torn_tail(data: bytes) -> bytes:
    """Return the incomplete row after the last newline; empty if there is none.

    A row and its newline are written in one call. So an incomplete row begins as an object does; a
    power cut may leave zero bytes.
    """
    tail = data[data.rfind(b"\n") + 1 :]
    if tail.strip(b"\0") and not tail.startswith(b"{"):
        return b""  # not the start of a row of ours: to be parsed as a line
    with contextlib.suppress(ValueError):
        parse_json(tail)
        return b""
    return tail


def _last_line(descriptor: int, size: int) -> bytes:
    """Return the bytes after the last newline."""
    start, block, tail = size, 1 << 16, b""
    while start > 0 and b"\n" not in tail:
        end, start = start, max(0, start - block)
        tail = os.pread(descriptor, end - start, start) + tail
    return tail[tail.rfind(b"\n") + 1 :]


def _end_last_line(descriptor: int, path: Path) -> None:
    """Make a file end with a newline: append one to a complete row, remove an incomplete row."""
    size = os.fstat(descriptor).st_size
    tail = _last_line(descriptor, size)
    if not tail:
        return
    if _torn_tail(tail):
        os.ftruncate(descriptor, size - len(tail))
        sync(descriptor)
        message = f"{path}: removed {len(tail)} bytes of a row that a stopped run left unfinished"
        warnings.warn(message, TornRowWarning, stacklevel=4)
        return
    parse_row(tail, path, "the last line")
    _write_all(descriptor, b"\n")


def _write_all(descriptor: int, data: bytes) -> None:
    """Write in one call; if that falls short, the next call raises the reason."""
    while data:
        data = data[os.write(descriptor, data) :]


def append_row(path: Path, row: dict[str, Any]) -> None:
    """Append one JSON row; see `append_rows`."""
    append_rows(path, [row])


def append_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Append JSON rows, each with a newline, in a single write, and flush them to disk.

    An incomplete last row, left by a killed run, is removed first with a `TornRowWarning`.

    Raises:
        InputError: the disk is full (earlier rows are intact, none of these is written), or the
            file's last line is neither a row nor the start of one.
        OSError: writing failed for another reason; rows as on a full disk.
        RunError: a row holds a number that is not finite.
    """
    data = "".join(f"{strict_json(row)}\n" for row in rows).encode()
    size = None
    try:
        descriptor = open_file(path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
        try:
            _end_last_line(descriptor, path)
            size = os.fstat(descriptor).st_size
            try:
                _write_all(descriptor, data)
                sync(descriptor)
            except OSError:
                os.ftruncate(descriptor, size)
                raise
        finally:
            os.close(descriptor)
    except OSError as error:
        raise _with_path(error, path, len(data)) from error
    if size == 0:
        sync_directory(path.parent)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a JSON Lines file, which is not changed; no file means no rows.

    A last row without a newline counts. An incomplete one, for example after a kill, is left out
    with a `TornRowWarning`.

    Raises:
        InputError: not a regular file, or a line is not a JSON object; gives the line number.
        OSError: it cannot be read.
    """
    try:
        descriptor = open_file(path)
    except FileNotFoundError:
        return []
    with open(descriptor, "rb") as file:
        data = file.read()
    if torn := len(_torn_tail(data)):
        message = f"{path}: left out {torn} bytes at the end, a row that was cut short"
        warnings.warn(message, TornRowWarning, stacklevel=2)
    lines = data[: len(data) - torn].split(b"\n")
    if not lines[-1]:
        lines.pop()
    return [parse_row(line, path, f"line {number}") for number, line in enumerate(lines, start=1)]


def parse_row(line: bytes, path: Path, where: str) -> dict[str, Any]:
    """Return a row's object; `where` names the line in the error.

    Raises:
        InputError: not a JSON object.
    """
    try:
        row = parse_json(line)
        if not isinstance(row, dict):
            raise ValueError(f"a {type(row).__name__}, not an object")
    except ValueError as error:
        raise InputError(
            f"{path}: {where} is not a row ({error}); restore the file, or remove that line"
        ) from error
    return row
