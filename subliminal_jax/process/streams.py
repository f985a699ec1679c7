"""Standard output and standard error of a script: any text can be shown, and a loss is handled.

What goes to stderr is for whoever watches. If it cannot be written, for example to a full disk, it
is dropped: it must not end a run that has worked for hours. What goes to stdout is a result, and
losing it is an error.
"""

import errno
import io
import os
import sys
from typing import Any

STDOUT = "<standard output>"


class _Stream(io.FileIO):
    """A file descriptor that drops what it cannot write, or raises an error that names the stream.

    Args:
        descriptor: stays open.
        lost: the stream's name in the error of a failed write; None to drop without an error, but
            not on a closed pipe. After an error the rest is dropped too, or the interpreter would
            fail again at exit.
    """

    def __init__(self, descriptor: int, lost: str | None):
        super().__init__(descriptor, "w", closefd=False)
        self._lost, self._dropping = lost, False

    def write(self, data: Any, /) -> int | None:
        try:
            return super().write(data)
        except OSError as error:
            if self._dropping or (self._lost is None and error.errno != errno.EPIPE):
                return len(data)
            self._dropping = True
            raise OSError(error.errno, os.strerror(error.errno or 0), self._lost) from error


def prepare() -> None:
    """Replace the process's own streams; streams that others replaced are left alone.

    A descriptor that the shell closed (`2>&-`) is opened on the null device. Otherwise the next
    file would get its number, and with it what C++ libraries print to stderr.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number
    sys.stdout = _prepared(sys.stdout, sys.__stdout__, 1, STDOUT)
    sys.stderr = _prepared(sys.stderr, sys.__stderr__, 2, None)


def _prepared(stream: Any, own: Any, descriptor: int, lost: str | None) -> Any:
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")  # which also flushes it
    if stream is not own or not isinstance(stream, io.TextIOWrapper | None):
        return stream
    return io.TextIOWrapper(
        io.BufferedWriter(_Stream(descriptor, lost)),
        encoding="utf-8" if stream is None else stream.encoding,
        errors="backslashreplace",
        line_buffering=stream is None or stream.line_buffering,
    )
