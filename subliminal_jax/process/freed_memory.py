"""Memory that a process has freed and its C library still holds."""

import ctypes
from functools import cache


def give_back_memory() -> None:
    """Give freed memory back to the system, where the C library is glibc.

    It keeps what lies between blocks in use: after a program for a CPU is compiled, hundreds of MB.
    """
    trim = _trim()
    if trim is not None:
        trim(0)


@cache
def _trim() -> "ctypes._NamedFuncPointer | None":
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # another C library
        return None
