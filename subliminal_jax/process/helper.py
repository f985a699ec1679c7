"""A helper process that answers one question at a time, each a line of JSON; killed if it hangs.

What could hang, crash or take all memory runs there, within limits that it sets itself.
"""

import atexit
import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

import subliminal_jax

# An isolated interpreter ignores PYTHONPATH and the like: this package's path goes first, the
# others behind its own.
PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv[1]); sys.path += sys.argv[2:]; "
    "from {module} import main; main()"
)
"""Program of a helper; `module` is the name of the module that has the function `main`."""


class Died(Exception):
    """The process ended, with this status, or did not answer in time (None)."""

    def __init__(self, status: int | None):
        super().__init__(status)
        self.status = status


class Helper:
    """A helper process; its first line tells that it has started.

    Args:
        program: text of the Python program, from `PROGRAM`.
        environment: environment variables; nothing is inherited.
        start: seconds of wall time to start.
        options: further options of the isolated interpreter.

    Raises:
        Died: it did not start.
    """

    def __init__(
        self,
        program: str,
        environment: Mapping[str, str],
        start: float,
        options: Sequence[str] = (),
    ) -> None:
        package = str(Path(subliminal_jax.__file__).resolve().parents[1])
        paths = [path for path in sys.path if os.path.isabs(path)]
        self._process = subprocess.Popen(
            [sys.executable, "-I", *options, "-c", program, package, *paths],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=dict(environment),
            start_new_session=True,  # Ctrl-C reaches the parent alone, which ends it
        )
        self._questions = cast(BinaryIO, self._process.stdin)
        self._replies = cast(BinaryIO, self._process.stdout)
        self.owner = os.getpid()
        try:
            self.started = self._read(start)
        except BaseException:
            self.end()
            raise

    @property
    def ended(self) -> bool:
        """Whether the process has ended."""
        return self._process.poll() is not None

    def ask(self, question: Any, seconds: float) -> Any:
        """The reply; after any exception the process has ended.

        Args:
            question: plain values.
            seconds: wall time to wait.

        Raises:
            Died: the process ended, or did not answer in time.
        """
        try:
            with contextlib.suppress(BrokenPipeError):  # its death is noticed when reading
                self._questions.write(json.dumps(question).encode() + b"\n")
                self._questions.flush()
            return self._read(seconds)
        except BaseException:  # an interrupt too: its reply must not be taken for the next one's
            self.end()
            raise

    def _read(self, seconds: float) -> Any:
        descriptor, until = self._replies.fileno(), time.monotonic() + seconds
        parts: list[bytes] = []
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, selectors.EVENT_READ)
            while not parts or not parts[-1].endswith(b"\n"):
                if not selector.select(until - time.monotonic()):
                    self.end()
                    raise Died(None)
                parts.append(os.read(descriptor, 1 << 20))
                if not parts[-1]:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        self._process.wait(5)  # its own status tells what ended it
                    raise Died(self.end())
        return json.loads(b"".join(parts))

    def end(self) -> int:
        """The exit status of the process, which is killed if it still runs."""
        with contextlib.suppress(OSError):
            self._process.kill()
        status = self._process.wait()
        for pipe in (self._questions, self._replies):
            with contextlib.suppress(OSError):
                pipe.close()
        return status


def ending(status: int | None) -> str:
    """How a process ended, in words."""
    if status is None:
        return "no answer"
    if status < 0:
        return f"ended by {signal.Signals(-status).name}"
    return f"exit status {status}"


class Kept:
    """One helper, started when it is needed and ended with this process.

    Args:
        start: starts one.

    Attributes:
        lock: held while the helper is asked.
        running: the helper; None before the first question, or after `end`.
    """

    def __init__(self, start: Callable[[], Helper]):
        self._start = start
        self.lock = threading.Lock()
        self.running: Helper | None = None
        atexit.register(self.end)

    def get(self) -> Helper:
        """The helper, or another one if it has ended or belongs to the parent of a fork."""
        if self.running is None or self.running.owner != os.getpid() or self.running.ended:
            self.end()
            self.running = self._start()
        return self.running

    def end(self) -> None:
        """End the helper, unless it belongs to the parent of a fork."""
        ended, self.running = self.running, None
        if ended is not None and ended.owner == os.getpid():
            ended.end()
