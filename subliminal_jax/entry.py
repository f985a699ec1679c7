"""How a script ends: one line and a status for a refusal or failure, a traceback for a bug."""

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import NoReturn

from subliminal_jax.errors import InputError, RunError, Stopped
from subliminal_jax.interrupt import (
    LINES,
    STATUS,
    Terminated,
    interrupts_sent_again,
    terminations_raised,
)
from subliminal_jax.process import os_errors
from subliminal_jax.process import streams as output
from subliminal_jax.process.compile_cache import keep_programs
from subliminal_jax.process.jax_settings import pin
from subliminal_jax.process.leaving import leave_jax_behind

OK, BROKE, REFUSED, UNREAD = 0, 1, 2, 141


def one_line(text: str) -> str:
    """Return a text as one terminal line, without newlines and control characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def no_device() -> str:
    """Return what is wrong if JAX finds no device, with the platforms that it was asked for."""
    return f"JAX finds no device (JAX_PLATFORMS={os.environ.get('JAX_PLATFORMS', '')!r})"


def _for_want_of_a_device(error: BaseException) -> bool:
    """Whether an error arose because JAX finds no device; many calls of JAX look for one."""
    jax = sys.modules.get("jax")  # if JAX is not imported, it is not the reason
    if jax is None or not isinstance(error, RuntimeError | AssertionError):
        return False
    try:
        jax.devices()
    except (RuntimeError, AssertionError):  # AssertionError if plugins find no device
        return True
    return False


def outcome(error: BaseException) -> tuple[str, int] | None:
    """Return the message and exit status of an error that ends a script; None for a bug."""
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
    if _for_want_of_a_device(error):
        return f"{no_device()}; unset it, or set it to cpu", REFUSED
    if isinstance(error, ValueError) and "embedded null" in str(error):
        return "a path contains a zero byte; correct the path", REFUSED
    cause = os_errors.cause(error)
    if cause is None:
        return None
    return os_errors.line(cause), REFUSED if os_errors.can_be_mended(cause) else BROKE


class _Held(logging.Filter):
    """Holds back tracebacks of threads whose error the main thread will report in one line.

    Orbax's writer threads log an error, or die of it, and also hand it to the main thread. If the
    script ends well, or with a bug, the tracebacks are shown after all. A context manager.
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
        """Whether to show a record now."""
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
    """Run a script's main function and exit with the status that says how it went.

    Args:
        main: reads `sys.argv` itself.

    Raises:
        SystemExit: always. Status 0: done. 2: refused (`InputError`), an error of the operating
            system that the user can fix, such as a full disk, or no device. 1: failed (`RunError`,
            a failing disk, or out of memory). 75: stopped by SIGTERM. 130: interrupted from the
            keyboard. In these cases stderr gets one line, `error: ...`. 141: the reader of stdout
            is gone (`| head`); nothing is printed.
            A `SystemExit` of `main` itself passes through.
        Exception: anything else is a bug and keeps its traceback (Python's status 1).
    """
    output.prepare()
    for setting in pin():
        print(f"note: {one_line(setting)} would change results and is ignored", file=sys.stderr)
    if "jax" not in sys.modules:
        keep_programs()
    try:
        try:
            with interrupts_sent_again(), terminations_raised(), _Held():
                main()
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()  # here, a full disk or a closed pipe can still be reported
    except BrokenPipeError:
        raise SystemExit(UNREAD) from None
    except (Exception, KeyboardInterrupt) as error:
        known = outcome(error)
        if known is None:
            raise
        line, status = known
        print(f"error: {one_line(line)}", file=sys.stderr)
        if isinstance(error, KeyboardInterrupt):
            leave_jax_behind(status)
        raise SystemExit(status) from error
    raise SystemExit(OK)
