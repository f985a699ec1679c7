"""What an error of the operating system means to a person: one line, and who can mend it."""

import contextlib
import errno
import os
import re
from pathlib import Path

from subliminal_jax.limits import memory_limit

_FULL = (errno.ENOSPC, errno.EDQUOT)
_BROKEN = (errno.EIO, errno.ESTALE, errno.ENXIO, errno.ENODEV, errno.EREMOTEIO)
_UNSUPPORTED = "its file system cannot do this; choose a directory on another one"
_ADVICE = {
    errno.EACCES: "change its rights, or choose another path",
    errno.EPERM: "change its rights, or choose another path",
    errno.EROFS: "choose a path that can be written to",
    errno.EFBIG: "raise the limit on the size of a file (ulimit -f), or choose another disk",
    errno.ENAMETOOLONG: "choose a shorter path",
    errno.ELOOP: "a link leads nowhere or is not followed here; give the path of the file itself",
    errno.EISDIR: "this is a directory; give the path of a file, or move the directory away",
    errno.ENOTDIR: "a part of this path is no directory; correct the path",
    errno.ENOENT: "correct the path, or restore what was there",
    errno.EEXIST: "move away what is there",
    errno.ENOTEMPTY: "move away what is there",
    errno.EBUSY: "stop what uses it",
    errno.ETXTBSY: "stop what uses it",
    errno.EMFILE: "raise the number of open files (ulimit -n)",
    errno.ENFILE: "this machine has no more; stop other processes",
    errno.EAGAIN: "raise the number of processes (ulimit -u), or stop others",
    errno.ENOLCK: "its file system has no file locks; choose a directory on another one",
    errno.ENOTSUP: _UNSUPPORTED,
    errno.ENOSYS: _UNSUPPORTED,
    errno.EINVAL: _UNSUPPORTED,
}
_EXPLAINING = {*_ADVICE, *_FULL, *_BROKEN} - {errno.ENOENT, errno.EEXIST, errno.EINVAL}
# Libraries in C++ put the number into their text: [os_error_code='28'], [OS error 28: ENOSPC ...].
_IN_TEXT = re.compile(r"os_error_code='(\d+)'|OS error (\d+)")
_FULL_IN_TEXT = {os.strerror(number): number for number in _FULL}
_PATH_IN_TEXT = re.compile(r"\"(/[^\"]+)\"")
_NO_MEMORY = re.compile(
    r"RESOURCE_EXHAUSTED|bad_alloc|Cannot allocate memory|failed to map segment"
    r"|can't start new thread|could not create thread",
    re.IGNORECASE,
)


def is_disk_full(error: BaseException) -> bool:
    """Whether an error says that the disk, or the user's share of it, is used up."""
    return isinstance(error, OSError) and error.errno in _FULL


def disk_full_line(
    path: Path | None = None, needed: int | None = None, error: OSError | None = None
) -> str:
    """What a full disk is said with: what could not be written, where, and what to do.

    Args:
        path: of the file or directory, if known.
        needed: bytes that were to be written, if known.
        error: of the operating system, if at hand: it tells a user's share from the disk.
    """
    what = "write" if needed is None else f"write {needed:,} bytes"
    where = "" if path is None else f" to {path}"
    if error is not None and error.errno == errno.EDQUOT:
        where += " (the quota is used up)"
    elif path is not None and not str(path).startswith("<"):  # as streams are called
        where += _room(path)
    return (
        f"disk full: cannot {what}{where}; free some space, or choose another --out, "
        "and run the same command again"
    )


def _room(path: Path) -> str:
    """What is left on the disk that a path is on: bytes, or names of files."""
    with contextlib.suppress(OSError):
        room = os.statvfs(next(place for place in (path, *path.parents) if place.exists()))
        if room.f_files and not room.f_favail:
            return " (no inodes free: it takes no more files, whatever their size)"
        return f" ({room.f_bavail * room.f_frsize:,} bytes free)"
    return ""


def chain(error: BaseException | None) -> list[BaseException]:
    """An error and those behind it; libraries wrap what they get in errors of their own."""
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return found


def cause(error: BaseException) -> OSError | None:
    """The operating system's error that an error is, or has behind it.

    A file that is not there does not explain an error of another kind: it is often looked for, and
    its lack handled.
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
    """The system's number of the error that a library tells of in its text."""
    if found := _IN_TEXT.search(text):
        return int(found[1] or found[2])
    return next((number for words, number in _FULL_IN_TEXT.items() if words in text), None)


def can_be_mended(error: OSError) -> bool:
    """Whether the user can do something about it, other than to have the machine repaired."""
    return error.errno in _ADVICE or error.errno in _FULL


def line(error: OSError) -> str:
    """An error of the operating system in one line: where, what, and what to do."""
    paths = [os.fsdecode(name) for name in (error.filename, error.filename2) if _is_name(name)]
    if is_disk_full(error):
        return disk_full_line(Path(paths[0]) if paths else None, error=error)
    said = error.strerror or str(error) or type(error).__name__
    if error.errno in _BROKEN:
        advice = "the disk or its server failed; mend it, and run the same command again"
    elif error.errno == errno.ENOENT and not paths:
        advice = "the working directory may have been removed; change to one that is there"
    else:
        advice = _ADVICE.get(error.errno or 0, "run the same command again to go on")
    return f"{' -> '.join(paths)}{': ' if paths else ''}{said}; {advice}"


def _is_name(name: object) -> bool:
    return isinstance(name, str | bytes) and bool(name)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: in Python, or told by their messages alone in libraries."""
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
    """What the user is told when memory ran out, with the shell's limit where there is one."""
    what = "out of memory; take fewer or smaller networks, images or blocks"
    limit = memory_limit()
    if limit is None:
        return what
    return f"{what}, or raise the limit of {limit:,} bytes on this process (ulimit -v)"
