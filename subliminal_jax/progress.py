"""Progress of a run: a bar on a terminal, a line every few seconds in a log."""

import sys
import time
from types import TracebackType

from tqdm import tqdm

INTERVAL = 5.0
"""Seconds between two lines if stderr is not a terminal."""


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


class Progress:
    """Reports on stderr how many of `total` steps are done; a context manager.

    Args:
        total: number of steps.
        description: what is being done, such as `distil students`.
        done: number of steps that a resumed run had already done; the pace ignores them.
        silent: report nothing, for processes other than the first, and for tests.
    """

    def __init__(self, total: int, description: str, *, done: int = 0, silent: bool = False):
        self.total, self.description, self.done = total, description, done
        self._first, self._note, self._silent = done, "", silent
        self._bar: tqdm | None = None

    def __enter__(self) -> "Progress":
        self._start = self._printed = time.monotonic()
        self._stale = True
        if not self._silent and sys.stderr is not None and sys.stderr.isatty():
            self._bar = tqdm(
                total=self.total, desc=self.description, initial=self.done, file=sys.stderr
            )
        return self

    def update(self, n: int = 1, note: str = "") -> None:
        """Count `n` more steps as done; `note` is shown at the end, for example the loss."""
        self.done += n
        self._note, self._stale = note, True
        if self._bar is not None:
            self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(n)
        elif time.monotonic() - self._printed >= INTERVAL:
            self._print_line()

    def line(self) -> str:
        """Return the state in words: count, share, time elapsed and, once known, time left."""
        elapsed, here = time.monotonic() - self._start, self.done - self._first
        share = 100 * self.done // self.total if self.total else 100
        text = f"{self.description}: {self.done}/{self.total} ({share}%), {_clock(elapsed)} elapsed"
        if here > 0:
            left = elapsed / here * max(0, self.total - self.done)
            text += f", {_clock(left)} left"
        return f"{text}, {self._note}" if self._note else text

    def _print_line(self) -> None:
        if not self._silent:
            print(self.line(), file=sys.stderr, flush=True)
        self._printed, self._stale = time.monotonic(), False

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()
        elif self._stale:
            self._print_line()
