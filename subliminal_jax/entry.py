"""How a script ends: one line and a status for what was refused, a traceback for our own bugs."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from subliminal_jax.errors import InputError, RunError, Stopped
from subliminal_jax.files import disk_full_error, is_disk_full
from subliminal_jax.interrupt import (
    STATUS,
    Terminated,
    interrupts_sent_again,
    terminations_raised,
)
from subliminal_jax.pinned import pin

OK, BROKE, REFUSED, INTERRUPTED, UNREAD = 0, 1, 2, 130, 141


def one_line(text: str) -> str:
    """Makes any text fit for one line of a terminal: no newline, no control character."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _disk_full_cause(error: BaseException | None) -> OSError | None:
    """The full disk behind an error; libraries wrap it in errors of their own."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        if isinstance(error, OSError) and is_disk_full(error):
            return error
        seen.append(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return None


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, in Python or (told by its message alone) in JAX."""
    return isinstance(error, MemoryError) or (
        type(error).__name__ == "JaxRuntimeError" and "RESOURCE_EXHAUSTED" in str(error)
    )


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


def _prepare_output() -> None:
    """Lets a path of any bytes be printed on a terminal of any encoding."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def outcome(error: BaseException) -> tuple[str, int] | None:
    """What to say and the status to exit with, of an error that ends a script; None of a bug."""
    if isinstance(error, InputError):
        return str(error), REFUSED
    if isinstance(error, RunError):
        return str(error), BROKE
    if isinstance(error, Stopped):
        return str(error), error.status
    if isinstance(error, Terminated):
        line = "stopped by SIGTERM; run the same command again to go on"
        return line, STATUS[signal.SIGTERM]
    if isinstance(error, KeyboardInterrupt):
        return "interrupted; run the same command again to go on", INTERRUPTED
    if _is_out_of_memory(error):
        return "out of memory; take fewer or smaller networks, images or blocks", BROKE
    if _no_device(error):
        asked = os.environ.get("JAX_PLATFORMS", "")
        line = f"JAX finds no device (JAX_PLATFORMS={asked!r}); unset it, or set it to cpu"
        return line, REFUSED
    full = _disk_full_cause(error)
    if full is None:
        return None
    path = Path(full.filename) if isinstance(full.filename, str) else None
    return str(disk_full_error(path)), REFUSED


def run_main(main: Callable[[], None]) -> NoReturn:
    """Runs a script's main function and exits with the status that says how it went.

    Args:
        main: Takes nothing and returns nothing; reads `sys.argv` itself.

    Raises:
        SystemExit: Always. Status 0: done. 2: refused (`InputError`), the disk is full, or there
            is no device. 1: broke on the way (`RunError`, or memory ran out). 75: told to stop by
            SIGTERM, or `Stopped`. 130: interrupted from the keyboard. In these cases stderr gets
            the one line `error: ...`. 141: nobody reads stdout any more (`| head`), of which
            nothing is said.
            A `SystemExit` of `main` itself passes through.
        Exception: Anything else is a bug and keeps its traceback (Python's status 1).
    """
    _prepare_output()
    for setting in pin():
        print(f"note: {one_line(setting)} changes numbers and is not followed", file=sys.stderr)
    try:
        try:
            with interrupts_sent_again(), terminations_raised():
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
