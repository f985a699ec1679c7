"""The client of `worker`: asks it about untrusted functions.

One worker serves all questions. A function that kills it, or does not end in time, is refused, and
the next question starts another worker.
"""

import signal
from collections.abc import Sequence
from typing import NamedTuple

from subliminal_jax.errors import RunError
from subliminal_jax.process.helper import PROGRAM, Died, Helper, Kept, ending
from subliminal_jax.process.untrusted import worker

WAIT, START = 30.0, 60.0
"""Seconds of wall time for a reply and for a start; generous, as the machine may be busy."""
_PROGRAM = PROGRAM.format(module=worker.__name__)


class Call(NamedTuple):
    """A call that a function must answer rightly.

    Attributes:
        arguments: a tuple of its arguments, as a Python literal.
        result: its result, as a Python literal.
    """

    arguments: str
    result: str


def _start() -> Helper:
    try:
        return Helper(_PROGRAM, {}, START, options=("-S",))
    except Died as death:
        raise RunError(
            f"the process that runs code did not start ({ending(death.status)})"
        ) from death


_kept = Kept(_start)


def refusal(source: str, calls: Sequence[Call], function: str | None = None) -> str | None:
    """Why untrusted source is refused; None if it is allowed and gives the right results.

    Args:
        source: text of one or several functions.
        calls: calls with their results.
        function: name of the function to call; None for the last one.

    Raises:
        RunError: the worker cannot be started.
    """
    question = {"source": source, "function": function, "tests": [list(one) for one in calls]}
    with _kept.lock:
        helper = _kept.get()
        try:
            return helper.ask(question, WAIT)["reason"]
        except Died as death:
            late = death.status in (None, -signal.SIGPROF)
            return "takes too long" if late else "crashes"
