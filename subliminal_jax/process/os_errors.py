"""Errors of the operating system in one line each, and whether the user can fix them."""

import contextlib
import errno
import os
import re
from pathlib import Path

from subliminal_jax.process.memory_limit import memory_limit

_FULL = (errno.ENOSPC, errno.EDQUOT)
_BROKEN = (errno.EIO, errno.ESTALE, errno.ENXIO, errno.ENODEV, errno.EREMOTEIO)
_UNSUPPORTED = "its file system cannot do this; choose a directory on another one"
_ADVICE = {
    errno.EACCES: "change its permissions, or choose another path",
    errno.EPERM: "change its permissions, or choose another path",
    errno.EROFS: "choose a path that can be written to",
    errno.EFBIG: "raise the limit on the size of a file (ulimit -f), or choose another disk",
    errno.ENAMETOOLONG: "choose a shorter path",
    errno.ELOOP: "a link leads nowhere or is not followed here; give the path of the file itself",
    errno.EISDIR: "this is a directory; give the path of a file, or move the directory away",
    errno.ENOTDIR: "a part of this path is not a directory; correct the path",
    errno.ENOENT: "correct the path, or restore what was there",
    errno.EEXIST: "move away what is there",
    errno.ENOTEMPTY: "move away what is there",
    errno.EBUSY: "stop what uses it",
    errno.ETXTBSY: "stop what uses it",
    errno.EMFILE: "raise the number of open files (ulimit -n)",
    errno.ENFILE: "stop other processes on this machine",
    errno.EAGAIN: "raise the number of processes (ulimit -u), or stop others",
    errno.ENOLCK: "its file system has no file locks; choose a directory on another one",
    errno.ENOTSUP: _UNSUPPORTED,
    errno.ENOSYS: _UNSUPPORTED,
    errno.EINVAL: _UNSUPPORTED,
}
_EXPLAINING = {*_ADVICE, *_FULL, *_BROKEN} - {errno.ENOENT, errno.EEXIST, errno.EINVAL}
# Messages of C++ libraries hold the number: [os_error_code='28'], [OS error 28: ENOSPC ...].
_IN_TEXT = re.compile(r"os_error_code='(\d+)'|OS error (\d+)")
_FULL_IN_TEXT = {os.strerror(number): number for number in _FULL}
_PATH_IN_TEXT = re.compile(r"\"(/[^\"]+)\"")
_NO_MEMORY = re.compile(
    r"RESOURCE_EXHAUSTED|bad_alloc|Cannot allocate memory|failed to map segment"
    r"|can't start new thread|could not create thread",
    re.IGNORECASE,
)


def is_disk_full(error: BaseException) -> bool:
    """Whether an error says that the disk is full, or the user's quota used up."""
    return isinstance(error, OSError) and error.errno in _FULL


def disk_full_line(
    path: Path | None = None, needed: int | None = None, error: OSError | None = None
) -> str:
    """Return the line for a full disk: what could not be written, where, and what to do.

    Args:
        path: of the file or directory, if known.
        needed: bytes to be written, if known.
        error: of the operating system, if at hand: it tells a quota from a full disk.
    """
    what = "write" if needed is None else f"write {needed:,} bytes"
    where = "" if path is None else f" to {path}"
    if error is not None and error.errno == errno.EDQUOT:
        where += " (the quota is used up)"
    elif path is not None and not str(path).startswith("<"):  # a stream's name
        where += _room(path)
    return (
        f"disk full: cannot {what}{where}; free some space, or choose another --out, "
        "and run the same command again"
    )


def _room(path: Path) -> str:
    """Return what is free on the disk that a path is on: bytes, or no inodes."""
    with contextlib.suppress(OSError):
        room = os.statvfs(next(place for place in (path, *path.parents) if place.exists()))
        if room.f_files and not room.f_favail:
            return " (no inodes free: it takes no more files of any size)"
        return f" ({room.f_bavail * room.f_frsize:,} bytes free)"
    return ""


def chain(error: BaseException | None) -> list[BaseException]:
    """Return an error and its causes, outermost first; libraries wrap errors in their own."""
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return chain


def cause(error: BaseException) -> OSError | None:
    """Return the operating system's error that an error is or was caused by; None without one.

    A missing file does not explain an error of another kind: code often looks for a file and
    handles its absence.
    """
    if isinstance(error, OSError):
        return error
    for one in chain(error):
        if isinstance(one, OSError) and one.errno in _EXPLAINING:
            return one
        if not isinstance(one, OSError) and (number := _number_in(str(one))) is not None:
            path = _PATH_IN_TEXT.search(str(one))
            return OSError(number, os.strerror(number), path[1] if path else None)
    return None


def _number_in(text: str) -> int | None:
    """Return the error number (errno) that a library's message names; None without one."""
    if named := _IN_TEXT.search(text):
        return int(named[1] or named[2])
    return next((number for words, number in _FULL_IN_TEXT.items() if words in text), None)


def can_be_mended(error: OSError) -> bool:
    """Whether the user can fix it without having the machine repaired."""
    return error.errno in _ADVICE or error.errno in _FULL


def line(error: OSError) -> str:
    """Return the error in one line: where, what, and what to do."""
    paths = [os.fsdecode(name) for name in (error.filename, error.filename2) if _is_name(name)]
    if is_disk_full(error):
        return disk_full_line(Path(paths[0]) if paths else None, error=error)
    reason = error.strerror or str(error) or type(error).__name__
    if error.errno in _BROKEN:
        advice = "the disk or its server failed; repair it, and run the same command again"
    elif error.errno == errno.ENOENT and not paths:
        advice = "the working directory may have been removed; change to one that exists"
    else:
        advice = _ADVICE.get(error.errno or 0, "run the same command again to resume")
    return f"{' -> '.join(paths)}{': ' if paths else ''}{reason}; {advice}"


def _is_name(name: object) -> bool:
    return isinstance(name, str | bytes) and bool(name)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: a `MemoryError`, or a message of a library that says so."""
    return any(
        isinstance(one, MemoryError)
        or (isinstance(one, OSError) and one.errno == errno.ENOMEM)
        or (
            isinstance(one, RuntimeError | ImportError)
            and _number_in(str(one)) is None
            and _NO_MEMORY.search(str(one)) is not None
        )
        for one in chain(error)
    )


def out_of_memory_line() -> str:
    """Return the line for running out of memory; names the shell's limit if there is one."""
    what = "out of memory; use fewer or smaller networks, images or blocks"
    limit = memory_limit()
    if limit is None:
        return what
    return f"{what}, or raise the limit of {limit:,} bytes on this process (ulimit -v)"
