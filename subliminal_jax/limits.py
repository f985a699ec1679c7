"""The limits that the shell has put on this process, and which of them are too low to work in."""

import resource

from subliminal_jax.errors import InputError

LEAST_MEMORY = 2 * 10**9
"""Bytes of addresses, most of them never touched, that JAX needs for the smallest experiment."""


def memory_limit() -> int | None:
    """Bytes of addresses that the process may have (`ulimit -v`); None where all it wants."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if limit == resource.RLIM_INFINITY else limit


def check_memory_limit() -> None:
    """Refuse a limit in which no experiment runs: libraries in C++ abort where they meet it.

    Raises:
        InputError: the limit is below `LEAST_MEMORY`.
    """
    limit = memory_limit()
    if limit is not None and limit < LEAST_MEMORY:
        raise InputError(
            f"this process may have {limit:,} bytes of memory and needs {LEAST_MEMORY:,} or more; "
            f"raise the limit (ulimit -v {LEAST_MEMORY // 1000})"
        )
