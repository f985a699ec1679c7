"""How a script ends: one line and a status for what was refused, a traceback for our own bugs."""

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import NoReturn

from subliminal_jax import os_errors, output
from subliminal_jax.errors import InputError, RunError, Stopped
from subliminal_jax.interrupt import (
    LINES,
    STATUS,
    Terminated,
    interrupts_sent_again,
    terminations_raised,
)
from subliminal_jax.pinned import pin

OK, BROKE, REFUSED, UNREAD = 0, 1, 2, 141


def one_line(text: str) -> str:
    """Makes any text fit for one line of a terminal: no newline, no control character."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _no_device(error: BaseException) -> bool:
    """Whether something broke since JAX finds no device to run on; it asks in many places."""
    jax = sys.modules.get("jax")  # where that is not even imported, it is not the reason
    if jax is None or not isinstance(error, RuntimeError | AssertionError):
        return False
    try:
        jax.devices()
    except (RuntimeError, AssertionError):  # the latter where plugins find no device
        return True
    return False


def outcome(error: BaseException) -> tuple[str, int] | None:
    """What to say and the status to exit with, of an error that ends a script; None of a bug."""
    if isinstance(error, InputError):
        return str(error), REFUSED
    if isinstance(error, RunError):
        return str(error), BROKE
    if isinstance(error, Stopped):
        return str(error), error.status
    if isinstance(error, KeyboardInterrupt):
        number = signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT
        return LINES[number], STATUS[number]
    if os_errors.is_out_of_memory(error):
        return os_errors.out_of_memory_line(), BROKE
    if _no_device(error):
        asked = os.environ.get("JAX_PLATFORMS", "")
        line = f"JAX finds no device (JAX_PLATFORMS={asked!r}); unset it, or set it to cpu"
        return line, REFUSED
    if isinstance(error, ValueError) and "embedded null" in str(error):
        return "a path holds a zero byte, which no path can; correct it", REFUSED
    cause = os_errors.cause(error)
    if cause is None:
        return None
    return os_errors.line(cause), REFUSED if os_errors.can_be_mended(cause) else BROKE


class _Held(logging.Filter):
    """Holds back the tracebacks of threads whose error the main thread is going to tell in a line.

    Orbax writes in threads that log, or die of, what they also hand on. Where the script ends
    well, or by something that is not known, what was held is shown after all. A context manager.
    """

    _LOGGERS = ("absl", "asyncio")

    def __init__(self) -> None:
        super().__init__()
        self._held: list[Callable[[], object]] = []

    def __enter__(self) -> "_Held":
        self._before, threading.excepthook = threading.excepthook, self._died
        for name in self._LOGGERS:
            logging.getLogger(name).addFilter(self)
        return self

    def _died(self, arguments: threading.ExceptHookArgs) -> None:
        show = partial(self._before, arguments)
        if arguments.exc_value is None or outcome(arguments.exc_value) is None:
            show()
        else:
            self._held.append(show)

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is shown now."""
        error = record.exc_info[1] if record.exc_info else None
        if error is None or outcome(error) is None:
            return True
        self._held.append(partial(logging.getLogger(record.name).handle, record))
        return False

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        threading.excepthook = self._before
        for name in self._LOGGERS:
            logging.getLogger(name).removeFilter(self)
        if error is None or outcome(error) is None:
            for show in self._held:
                show()


def run_main(main: Callable[[], None]) -> NoReturn:
    """Runs a script's main function and exits with the status that says how it went.

    Args:
        main: Takes nothing and returns nothing; reads `sys.argv` itself.

    Raises:
        SystemExit: Always. Status 0: done. 2: refused (`InputError`), the operating system's error
            is one that the user can mend, as a full disk is, or there is no device. 1: broke on
            the way (`RunError`, a disk that fails, or memory ran out). 75: told to stop by
            SIGTERM, or `Stopped`. 130: interrupted from the keyboard. In these cases stderr gets
            the one line `error: ...`. 141: nobody reads stdout any more (`| head`), of which
            nothing is said.
            A `SystemExit` of `main` itself passes through.
        Exception: Anything else is a bug and keeps its traceback (Python's status 1).
    """
    output.prepare()
    for setting in pin():
        print(f"note: {one_line(setting)} changes numbers and is not followed", file=sys.stderr)
    try:
        try:
            with interrupts_sent_again(), terminations_raised(), _Held():
                main()
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()  # Here, where a full disk or a closed pipe still has an answer.
    except BrokenPipeError:
        raise SystemExit(UNREAD) from None
    except (Exception, KeyboardInterrupt) as error:
        known = outcome(error)
        if known is None:
            raise
        line, status = known
        print(f"error: {one_line(line)}", file=sys.stderr)
        raise SystemExit(status) from error
    raise SystemExit(OK)
