"""Leaving a process without waiting for JAX, which first finishes what it computes."""

import atexit
import contextlib
import os
import sys
from typing import NoReturn


def exit_now(status: int) -> NoReturn:
    """Exit now, without waiting for threads or for JAX."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(status)


def leave_jax_behind(status: int) -> None:
    """Let the process end with this status once its threads have, whatever JAX computes.

    JAX would wait, for minutes, for a program that an interrupt left running. It cannot be stopped.
    """
    atexit.register(exit_now, status)
