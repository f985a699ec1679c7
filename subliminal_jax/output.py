"""Standard output and standard error of a script: any text is shown, and what cannot be is named.

What a script says on stderr is for whoever watches. Where it cannot be written, as on a full disk,
it is dropped: it must not end a run that has worked for hours. What stdout gets is a result, and
its loss is an error.
"""

import errno
import io
import os
import sys
from typing import Any

STDOUT = "<standard output>"


class _Stream(io.FileIO):
    """A file descriptor whose errors are those of a stream.

    Args:
        descriptor: stays open.
        lost: its name for the error of a write; None to drop what cannot be written. After an
            error the rest is dropped too, or the interpreter's exit would meet it again.
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
    """Takes over the process's own streams; those that somebody put in their place are left.

    A descriptor that the shell closed (`2>&-`) is opened on nothing: else the next file would get
    its number, and what libraries in C++ say on stderr.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
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
