"""A lock file that names its holder; the kernel releases it when the holder's process ends.

With flock(2) no lock is left behind, however a process ends. The file itself stays: removing it
would let two processes lock two files.
"""

import contextlib
import errno
import fcntl
import os
import socket
import time
from datetime import UTC, datetime
from pathlib import Path

from subliminal_jax import files
from subliminal_jax.errors import InputError

_UNSUPPORTED = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


class InUse(InputError):
    """Another process holds the lock.

    Attributes:
        holder: its process number, host and start time.
    """

    def __init__(self, message: str, holder: str):
        super().__init__(message)
        self.holder = holder


def take(path: Path, option: str) -> int:
    """Lock a file for this process and write the holder into it.

    Args:
        path: of the lock file; created if missing.
        option: the flag that names its directory, for the messages.

    Returns:
        A descriptor for `release`.

    Raises:
        InUse: another process holds it.
        InputError: the file system has no file locks, or `path` is not a regular file.
        OSError: it cannot be opened or written.
    """
    descriptor = files.open_file(path, os.O_RDWR | os.O_CREAT)
    try:
        _lock(descriptor, path, option)
        os.ftruncate(descriptor, 0)
        start = datetime.now(UTC).isoformat(timespec="seconds")
        holder = {"pid": os.getpid(), "host": socket.gethostname(), "start": start}
        os.pwrite(descriptor, files.strict_json(holder).encode(), 0)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def release(descriptor: int) -> None:
    """Release the lock."""
    try:
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, path: Path, option: str) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = _holder(descriptor)
        raise InUse(
            f"{option} {path.parent}: in use by another run ({holder}); "
            f"wait for it, stop it, or choose another {option}",
            holder,
        ) from error
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        raise InputError(
            f"{option} {path.parent}: its file system has no file locks (flock: {error.strerror}),"
            f" which keep two runs apart; choose {option} on another one, or mount it with locks"
        ) from error


def _holder(descriptor: int) -> str:
    """Describe the holder of the lock, who may still be writing its description."""
    for _ in range(20):
        with contextlib.suppress(ValueError, KeyError, TypeError):
            holder = files.parse_json(os.pread(descriptor, 4096, 0))
            return f"pid {holder['pid']} on {holder['host']}, started {holder['start']}"
        time.sleep(0.05)
    return "holder unknown"
