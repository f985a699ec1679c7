"""The client of `worker`: starts the process, sends it questions, and ends it in time.

There is one such process, started on first use. It holds the tokenizer and template that were used
last. A question that kills it or takes too long is refused; the next one starts another process.
"""

import os
import signal
from typing import Any

from subliminal_jax.errors import InputError, RunError
from subliminal_jax.models.text import worker
from subliminal_jax.process.helper import PROGRAM, Died, Helper, Kept, ending

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
_PROGRAM = PROGRAM.format(module=worker.__name__)


class _Process(Helper):
    """The worker process, started and ready.

    Raises:
        RunError: it did not start.
    """

    def __init__(self) -> None:
        try:
            super().__init__(_PROGRAM, os.environ | _ENVIRONMENT, START)
        except Died as death:
            raise RunError(
                f"the process that reads tokenizers did not start ({ending(death.status)}); it "
                "needs about 1 GB of memory"
            ) from death
        if (failed := self.started.get("failed")) is not None:
            self.end()
            raise RunError(f"the process that reads tokenizers did not start ({failed})")


def load_seconds(size: int) -> float:
    """Seconds of processor time for loading files of `size` bytes."""
    return min(LOAD_SECONDS + LOAD_MORE * size / 1e6, LOAD_MOST)


_kept = Kept(_Process)


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
    with _kept.lock:
        try:
            reply = _kept.get().ask(question, WAIT)
            if reply.get("too_large"):
                _kept.end()  # the next one starts with its full memory
        except Died as death:
            if death.status in (None, -signal.SIGPROF):
                raise InputError(
                    f"{where}: its tokenizer or chat template takes longer than "
                    f"{opened['seconds']:.0f} s to load, or {SECONDS:.0f} s for a conversation; "
                    "refused"
                ) from None
            raise InputError(
                f"{where}: its tokenizer or chat template takes too much memory or crashes "
                f"its reader ({ending(death.status)}); refused"
            ) from None
    if reply.get("too_large"):
        raise InputError(
            f"{where}: its tokenizer or chat template takes too much memory (at most 1 GiB) or "
            "answers with too much; refused"
        )
    if "refused" in reply:
        raise InputError(reply["refused"])
    return reply["value"]
