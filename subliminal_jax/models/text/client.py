"""The client of `worker`: starts the process, sends it questions, and ends it in time.

There is one such process, started on first use. It holds the tokenizer and template that were used
last. A question that kills it or takes too long is refused; the next one starts another process.
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
from pathlib import Path
from typing import Any, BinaryIO, cast

import subliminal_jax
from subliminal_jax.errors import InputError, RunError

LOAD_SECONDS, LOAD_MORE, LOAD_MOST = 4.0, 0.2, 10.0
"""Seconds of processor time to load a tokenizer: at least, more per megabyte, and at most.

Gemma 2's, of 20 MB, takes 4 s.
"""

SECONDS = 4.0
"""Seconds of processor time for one conversation; most take less than a millisecond."""

WAIT, START = 60.0, 300.0
"""Seconds of wall time for a reply and for a start; generous, as the machine may be busy."""

_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    # One thread each, or they reserve memory that counts against the limit.
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"), "1"),
    "TOKENIZERS_PARALLELISM": "false",
    "MALLOC_ARENA_MAX": "1",
}
# An isolated interpreter ignores PYTHONPATH and the like: this package's path goes first, the
# others behind its own.
_PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv[1]); sys.path += sys.argv[2:]; "
    "from subliminal_jax.models.text.worker import main; main()"
)


class _Died(Exception):
    """The process ended, with this status, or did not answer in time."""

    def __init__(self, status: int | None):
        super().__init__(status)
        self.status = status


class _Process:
    """The worker process; it answers one question at a time."""

    def __init__(self) -> None:
        package = str(Path(subliminal_jax.__file__).resolve().parents[1])
        paths = [path for path in sys.path if os.path.isabs(path)]
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-c", _PROGRAM, package, *paths],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | _ENVIRONMENT,
            start_new_session=True,  # Ctrl-C reaches the parent alone, which ends it
        )
        self._questions = cast(BinaryIO, self._process.stdin)
        self._replies = cast(BinaryIO, self._process.stdout)
        self.owner = os.getpid()
        try:
            failed = self._read(START).get("failed")
        except _Died as death:
            raise RunError(
                f"the process that reads tokenizers did not start ({_ending(death.status)}); it "
                "needs about 1 GB of memory"
            ) from death
        except BaseException:
            self.end()
            raise
        if failed is not None:
            self.end()
            raise RunError(f"the process that reads tokenizers did not start ({failed})")

    @property
    def ended(self) -> bool:
        """Whether the process has ended."""
        return self._process.poll() is not None

    def ask(self, question: dict[str, Any]) -> Any:
        """The reply; after any exception the process has ended."""
        try:
            with contextlib.suppress(BrokenPipeError):  # its death is noticed when reading
                self._questions.write(json.dumps(question).encode() + b"\n")
                self._questions.flush()
            return self._read(WAIT)
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
                    raise _Died(None)
                parts.append(os.read(descriptor, 1 << 20))
                if not parts[-1]:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        self._process.wait(5)  # its own status tells what ended it
                    raise _Died(self.end())
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


def load_seconds(size: int) -> float:
    """Seconds of processor time for loading files of `size` bytes."""
    return min(LOAD_SECONDS + LOAD_MORE * size / 1e6, LOAD_MOST)


_lock = threading.Lock()
_running: list[_Process] = []


def ask(opened: dict[str, Any], what: str, about: Any = None) -> Any:
    """The worker's answer to a question about a tokenizer and a template.

    Args:
        opened: which tokenizer and template, as `worker` opens them.
        what: the question, such as "prompt".
        about: its argument, as plain values.

    Raises:
        InputError: the question is refused, or takes too much time or memory.
        RunError: the process cannot be started.
    """
    question = {"opened": opened, "what": what, "about": about, "seconds": SECONDS}
    where = opened["directory"]
    with _lock:
        try:
            reply = _process().ask(question)
            if reply.get("too_large"):
                _running.pop().end()  # the next one starts with its full memory
        except _Died as death:
            if death.status in (None, -signal.SIGPROF):
                raise InputError(
                    f"{where}: its tokenizer or chat template takes longer than "
                    f"{opened['seconds']:.0f} s to load, or {SECONDS:.0f} s for a conversation; "
                    "refused"
                ) from None
            raise InputError(
                f"{where}: its tokenizer or chat template takes too much memory or crashes "
                f"its reader ({_ending(death.status)}); refused"
            ) from None
    if reply.get("too_large"):
        raise InputError(
            f"{where}: its tokenizer or chat template takes too much memory (at most 1 GiB) or "
            "answers with too much; refused"
        )
    if "refused" in reply:
        raise InputError(reply["refused"])
    return reply["value"]


def _process() -> _Process:
    if _running and _running[0].owner != os.getpid():
        _running.clear()  # after a fork it belongs to the parent
    if _running and _running[0].ended:
        _running.pop().end()
    if not _running:
        _running.append(_Process())
    return _running[0]


def _ending(status: int | None) -> str:
    if status is None:
        return "no answer"
    if status < 0:
        return f"ended by {signal.Signals(-status).name}"
    return f"exit status {status}"


@atexit.register
def _end() -> None:
    for process in _running:
        if process.owner == os.getpid():
            process.end()
