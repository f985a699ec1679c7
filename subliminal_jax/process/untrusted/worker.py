"""The process that runs untrusted functions; started by `client`, with which it speaks JSON.

It imports the standard library alone. Two timers limit the processor time of each question: one
raises an exception, and one ends the process where that does not help. The system limits memory,
and allows no file, no process and, where it can, no network.
"""

import ast
import builtins
import contextlib
import ctypes
import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from subliminal_jax.process.untrusted.syntax import BUILTINS, parsed

SECONDS, LAST_SECONDS = 0.3, 1.0
"""Processor time of a question: until it is given up, and until the process ends."""
MEMORY = 200 << 20
"""Bytes on top of the bare process's."""
_NEW_USER, _NEW_NETWORK = 0x10000000, 0x40000000

_ALLOWED = {name: getattr(builtins, name) for name in BUILTINS}


class _Late(BaseException):
    """The time is over."""


def main() -> None:
    """Answers until its input ends."""
    questions, replies = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    signal.signal(signal.SIGVTALRM, _late)
    _limit_process()
    replies.write(b"{}\n")
    replies.flush()
    for line in questions:
        question = json.loads(line)
        reason = _timed(lambda asked=question: _reason(**asked))
        replies.write(json.dumps({"reason": reason}).encode() + b"\n")
        replies.flush()


def _late(*_: Any) -> None:
    raise _Late


def _timed(answer: Callable[[], str | None]) -> str | None:
    """A question's answer within its time."""
    try:
        signal.setitimer(signal.ITIMER_PROF, LAST_SECONDS)
        signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
        try:
            return answer()
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            signal.setitimer(signal.ITIMER_PROF, 0)
    except _Late:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        return "takes too long"


def _reason(source: str, function: str | None, tests: list[list[str]]) -> str | None:
    """Why a source is refused; None if it is allowed and passes its tests.

    Args:
        source: text of one or several functions.
        function: name of the function to call; None for the last one.
        tests: arguments and result of each call, as Python literals.
    """
    tree = parsed(source)
    if isinstance(tree, str):
        return tree
    space: dict[str, Any] = {"__builtins__": dict(_ALLOWED)}
    try:
        exec(compile(tree, "<completion>", "exec"), space)
        defined = [name for name, value in space.items() if callable(value)]
        if function not in (None, *defined) or not defined:
            return "no such function" if function else "no function"
        call = space[function or defined[-1]]
        for given, expected in tests:
            returned, wanted = call(*ast.literal_eval(given)), ast.literal_eval(expected)
            if type(returned) is not type(wanted) or returned != wanted:
                return "wrong result"
    except MemoryError:
        return "takes too much memory"
    except RecursionError:
        return "recurses too deeply"
    except Exception as error:
        return f"fails: {type(error).__name__}"
    return None


def _limit_process() -> None:
    """Sets all limits; one that the system does not have is left out."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).unshare(_NEW_USER | _NEW_NETWORK)
    limits = [(resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_NPROC, 0)]
    with contextlib.suppress(OSError):  # without /proc the system has no limit of memory
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        limits.append((resource.RLIMIT_AS, used + MEMORY))
    limits.append((resource.RLIMIT_NOFILE, 0))
    for kind, most in limits:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(kind, (most, most))
