"""SIGTERM and SIGINT: noted, so that a loop can finish its step and save; never lost."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

from subliminal_jax.errors import Stopped

STATUS = {signal.SIGTERM: 75, signal.SIGINT: 130}
"""Exit statuses: EX_TEMPFAIL of sysexits.h, and the shell's number for an interrupt."""

LINES = {
    signal.SIGTERM: "stopped by SIGTERM; run the same command again to resume",
    signal.SIGINT: "interrupted; run the same command again to resume",
}
"""The message if nothing had to be saved."""

_at_start: dict[signal.Signals, Any] = {}


def end_at_once() -> None:
    """Let both signals end the process with one line, until `terminations_raised` takes over.

    For a script that is still importing. An exception would be less reliable: modules catch what
    they do not expect. A signal that is ignored, or has another handler, is left alone.
    """
    for number, usual in {
        signal.SIGTERM: signal.SIG_DFL,
        signal.SIGINT: signal.default_int_handler,
    }.items():
        if signal.getsignal(number) == usual:
            _at_start[number] = signal.signal(number, _end)


def _end(number: int, frame: FrameType | None) -> None:
    with contextlib.suppress(OSError):
        os.write(2, f"error: {LINES[signal.Signals(number)]}\n".encode())
    os._exit(STATUS[signal.Signals(number)])


class StopSignals:
    """Notes SIGTERM and SIGINT while it is open; a second signal goes to the earlier handler.

    A context manager, for the main thread. Schedulers send SIGTERM some seconds before they take
    a machine away. A signal that came too late for the loop goes to the earlier handler on exit.
    """

    def __init__(self) -> None:
        self.noted: signal.Signals | None = None
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> "StopSignals":
        for number in STATUS:
            self._before[number] = signal.signal(number, self._note)
        return self

    def stopped(self, how_far: str) -> Stopped:
        """Return the exception that ends the run; names the signal and the progress saved."""
        number = self.noted or signal.SIGTERM
        return Stopped(
            f"stopped by {number.name} after {how_far}, which is saved; run the same command "
            "again to resume",
            STATUS[number],
        )

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.noted = signal.Signals(number)
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # pyrefly: ignore
        self._before = {}

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._restore()
        if self.noted is not None and kind is None:
            signal.raise_signal(self.noted)


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived; it unwinds the stack as an interrupt from the keyboard does."""


@contextmanager
def terminations_raised() -> Iterator[None]:
    """Let SIGTERM raise `Terminated`, as an interrupt raises `KeyboardInterrupt`.

    During an import, either ends the process at once: C++ libraries abort on an exception there,
    or report another error. Does nothing outside the main thread, where Python's signals arrive.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if _is_importing(frame):
            _end(number, frame)
        raise Terminated if number == signal.SIGTERM else KeyboardInterrupt

    before: dict[signal.Signals, Any] = {}
    for number in STATUS:
        handler = _at_start.pop(number, signal.getsignal(number))
        if number == signal.SIGTERM or handler == signal.default_int_handler:
            signal.signal(number, handle)
            before[number] = handler
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


@contextmanager
def interrupts_sent_again(after: float = 0.2) -> Iterator[None]:
    """Send an interrupt or a termination again if Python dropped its exception.

    Python raises it wherever the main thread happens to be. Inside a destructor or a callback of
    the garbage collector (JAX installs one) it is printed as "Exception ignored" and lost: the run
    would continue as if nobody had pressed a key.

    Args:
        after: seconds to wait, so that the callback has returned.
    """
    before, timers = sys.unraisablehook, list[threading.Timer]()
    here = threading.get_ident()

    def hook(unraisable: "sys.UnraisableHookArgs") -> None:
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            return before(unraisable)
        terminated = issubclass(unraisable.exc_type, Terminated)
        number = signal.SIGTERM if terminated else signal.SIGINT
        timers.append(threading.Timer(after, signal.pthread_kill, (here, number)))
        timers[-1].start()

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before
        for timer in timers:
            timer.cancel()
