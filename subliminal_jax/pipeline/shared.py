"""A run directory that several hosts see: the first one holds and writes it, all know what it says.

All hosts make the same calls. What is refused is refused on every host.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from subliminal_jax.execution import hosts
from subliminal_jax.runs import RunDirectory


class SharedRun:
    """A run directory as all hosts have it; made by `shared_run`.

    Attributes:
        path: where it is.
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

    def finish(self, results: dict[str, Any]) -> None:
        """As `RunDirectory.finish`."""
        self._by_first(lambda run: run.finish(results))

    def _by_first(self, act: Callable[[RunDirectory], Any]) -> Any:
        held = self._held
        return hosts.by_first(lambda: None if held is None else act(held))


@contextlib.contextmanager
def shared_run(
    path: Path, config: dict[str, Any], *, overwrite: bool = False
) -> Iterator[SharedRun]:
    """Open a run directory for a while; arguments and errors as of `RunDirectory.open`."""
    held = hosts.on_first(lambda: RunDirectory.open(path, config, overwrite=overwrite))
    with held if held is not None else contextlib.nullcontext():
        yield SharedRun(held)
