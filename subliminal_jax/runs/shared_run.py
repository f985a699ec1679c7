"""A run directory shared by all hosts: the first one opens, reads and writes it for all.

All hosts make the same calls, and get the same results and errors. On one host this is the
`RunDirectory` itself.
"""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from subliminal_jax.entry import one_line
from subliminal_jax.execution import hosts
from subliminal_jax.runs.locks import InUse
from subliminal_jax.runs.refusals import OUT, Wording
from subliminal_jax.runs.run_directory import RunDirectory

RETRY_SECONDS = 0.5
"""Seconds between two attempts to open a directory that another process holds."""


class SharedRun:
    """A run directory shared by all hosts; made by `shared_run`.

    Attributes:
        path: path of the directory.
    """

    def __init__(self, held: RunDirectory | None):
        """Use `shared_run`."""
        self._held = held
        self.path = Path(hosts.from_first(str(held.path) if held else ""))

    def results(self) -> dict[str, Any] | None:
        """As `RunDirectory.results`."""
        return self._by_first(lambda run: run.results())

    @property
    def finished(self) -> bool:
        """As `RunDirectory.finished`."""
        return self._by_first(lambda run: run.finished)

    def subdirectory(self, name: str) -> Path:
        """As `RunDirectory.subdirectory`."""
        return Path(self._by_first(lambda run: str(run.subdirectory(name))))

    def write(self, name: str, data: bytes | str) -> None:
        """As `RunDirectory.write_bytes`, or `write_text`."""
        whole = data if isinstance(data, bytes) else data.encode()
        self._by_first(lambda run: str(run.write_bytes(name, whole)))

    def append_row(self, name: str, row: dict[str, Any]) -> None:
        """As `RunDirectory.append_row`."""
        self._by_first(lambda run: run.append_row(name, row))

    def read_rows(self, name: str) -> list[dict[str, Any]]:
        """As `RunDirectory.read_rows`."""
        return self._by_first(lambda run: run.read_rows(name))

    def discard(self, name: str) -> None:
        """As `RunDirectory.discard`."""
        self._by_first(lambda run: run.discard(name))

    def finish(self, results: dict[str, Any]) -> None:
        """As `RunDirectory.finish`."""
        self._by_first(lambda run: run.finish(results))

    def _by_first(self, act: Callable[[RunDirectory], Any]) -> Any:
        held = self._held
        return hosts.by_first(lambda: None if held is None else act(held))


@contextlib.contextmanager
def shared_run(
    path: Path,
    config: dict[str, Any],
    *,
    overwrite: bool = False,
    wording: Wording = OUT,
    makes: str | None = None,
) -> Iterator[SharedRun]:
    """Open a run directory for the block.

    Args:
        path: as of `RunDirectory.open`.
        config: likewise.
        overwrite: likewise.
        wording: likewise.
        makes: what the runs that share the directory make there; this one then waits for a process
            that holds it, and says so. None: refuse a directory that is held.

    Raises:
        InputError: as `RunDirectory.open`.
    """

    def attempt() -> RunDirectory:
        return RunDirectory.open(path, config, overwrite=overwrite, wording=wording)

    held = hosts.on_first(attempt) if makes is None else _in_turn(attempt, f"{makes} in {path}")
    with held if held is not None else contextlib.nullcontext():
        yield SharedRun(held)


def _in_turn(attempt: Callable[[], RunDirectory], makes: str) -> RunDirectory | None:
    """Return the directory once no other process holds it; None on all hosts but the first."""
    told = None

    def look() -> RunDirectory | None:
        nonlocal told
        try:
            return attempt()
        except InUse as busy:
            if told != busy.holder:
                say(f"waiting for another run ({busy.holder}), which makes {makes}")
                told = busy.holder
            time.sleep(RETRY_SECONDS)
            return None

    # In short attempts, since hosts that wait for the first one time out.
    while True:
        held = hosts.on_first(look)
        if hosts.from_first(held is not None):
            return held


def say(line: str) -> None:
    """Print a line on stderr, on the first host only."""
    if hosts.is_first():
        print(one_line(line), file=sys.stderr, flush=True)
