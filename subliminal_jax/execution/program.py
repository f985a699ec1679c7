"""A member function, compiled ahead of time so that compiling and running are timed apart."""

import time
from collections.abc import Callable
from typing import Any

import jax

from subliminal_jax.execution.protocol import Execution, MemberFn
from subliminal_jax.process.freed_memory import give_back_memory


class Program:
    """A member function that is compiled at its first call; every call is timed.

    Attributes:
        compile_seconds: time spent tracing and compiling.
        seconds: time spent running, until the outputs are ready.
    """

    def __init__(self, fn: MemberFn, execution: Execution):
        self._fn, self._execution = fn, execution
        self._compiled: Callable[..., Any] | None = None
        self.compile_seconds = 0.0
        self.seconds = 0.0

    def __call__(self, carry: Any, members: Any, shared: Any) -> tuple[Any, Any]:
        """Run over all members; the carry is consumed."""
        if self._compiled is None:
            start = time.perf_counter()
            self._compiled = self._execution.compile(self._fn, carry, members, shared)
            give_back_memory()
            self.compile_seconds = time.perf_counter() - start
        start = time.perf_counter()
        result = jax.block_until_ready(self._compiled(carry, members, shared))
        self.seconds += time.perf_counter() - start
        return result
