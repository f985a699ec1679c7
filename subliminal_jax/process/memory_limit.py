"""The shell's memory limit on this process, refused if no experiment fits in it."""

import resource

from subliminal_jax.errors import InputError

LEAST_MEMORY = 2 * 10**9
"""Bytes of address space, mostly never touched, that JAX needs for the smallest experiment."""


def memory_limit() -> int | None:
    """Bytes of address space that the process may use (`ulimit -v`); None if unlimited."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if limit == resource.RLIM_INFINITY else limit


def check_memory_limit() -> None:
    """Refuse a limit in which no experiment runs: C++ libraries abort when they reach it.

    Raises:
        InputError: the limit is below `LEAST_MEMORY`.
    """
    limit = memory_limit()
    if limit is not None and limit < LEAST_MEMORY:
        raise InputError(
            f"this process may have {limit:,} bytes of memory but needs {LEAST_MEMORY:,} or more; "
            f"raise the limit (ulimit -v {LEAST_MEMORY // 1000})"
        )
