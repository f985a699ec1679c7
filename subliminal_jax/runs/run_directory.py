"""The directory of one run: one config, one writing process, finished when results.json is there.

results.json and every row of a JSON Lines file carry a digest that is checked when they are read;
see `sealed` for what it guards against.
"""

import contextlib
import json
import os
import re
import shutil
from pathlib import Path
from types import TracebackType
from typing import Any

from subliminal_jax import files
from subliminal_jax.config import config_digest
from subliminal_jax.errors import InputError
from subliminal_jax.runs import locks
from subliminal_jax.runs.environment import compiler_flags, environment
from subliminal_jax.runs.refusals import OUT, Wording, differences
from subliminal_jax.runs.sealed import own_row, sealed, sealed_row, unsealed

CONFIG, RESULTS, ENVIRONMENT = "config.json", "results.json", "environment.json"
LOCK, WRITTEN = "run.lock", "run.files.jsonl"
BOOKKEEPING = frozenset({CONFIG, RESULTS, ENVIRONMENT, LOCK, WRITTEN})
RESULTS_DIGEST, CONFIG_DIGEST = "results_digest", "config_digest"
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}\Z")


class RunDirectory:
    """The directory of one run; a context manager, made by `open`.

    An unfinished run's directory is locked while it is open. A finished one is only read, without
    a lock: by many processes at once, and from a read-only disk. Writing to it locks it.

    Files are written whole (`write_text`, `write_bytes`) or row by row (`append_row`). Their names
    are listed in `run.files.jsonl` before they are written, so that `overwrite` can distinguish
    them from files that somebody else put there.
    """

    def __init__(self, path: Path, config: dict[str, Any], wording: Wording):
        """Use `open`."""
        self.path, self.config = path, config
        self._wording, self._digest = wording, config_digest(config)
        self._lock: int | None = None
        self._closed = False
        self._written: set[str] = set()

    @classmethod
    def open(
        cls,
        path: Path,
        config: dict[str, Any],
        *,
        overwrite: bool = False,
        wording: Wording = OUT,
    ) -> "RunDirectory":
        """Opens a directory for a run of this config: a new one, or that of the same run to resume.

        Args:
            path: The directory; made if it is missing. Relative to the working directory.
            config: The resolved config as plain values, see `config.config_dict`.
            overwrite: Remove what an earlier run wrote here and start over. Files that no run wrote
                stay.
            wording: How refusals name the directory.

        Raises:
            InUse: If another process holds the directory; the message names it.
            InputError: If the directory cannot be made or written; if it holds something else than
                a run, a run of another config (the message names each differing field), or a
                finished run that was changed since; or if the disk is full.
        """
        # Compare what will be read back: JSON turns tuples into lists.
        config = json.loads(files.strict_json(config))
        with wording.told(Path(path)):
            run = cls(Path(os.path.realpath(path)), config, wording)
            if not overwrite and run._is_done():
                return run
            run.path.mkdir(parents=True, exist_ok=True)
            run._refuse_foreign()
            run._hold(overwrite)
            if run.finished:  # by another process, since `_is_done`
                run._release()
        return run

    def _is_done(self) -> bool:
        """Whether the run is finished; locks and writes nothing.

        Raises:
            InputError: As `open`.
        """
        if not os.path.lexists(self.path / RESULTS):
            return False
        self._refuse_foreign()
        self._check_config()
        return self.finished

    def _hold(self, overwrite: bool = False) -> None:
        """Locks the directory and prepares it for this config, or refuses it."""
        self._lock = locks.take(self.path / LOCK, self._wording.option)
        try:
            self._settle(overwrite)
            self.results()  # refuses results that were changed
        except BaseException:
            self._release()
            raise

    def _settle(self, overwrite: bool) -> None:
        for partial in self.path.glob(f".*{files.PARTIAL}"):
            # A file is what a killed `files.write_whole` left. A directory of that name belongs to
            # an export, which may be running, and which cleans up after a killed one itself.
            if partial.is_symlink() or not partial.is_dir():
                partial.unlink()
        rows = files.read_rows(self.path / WRITTEN)
        self._written = {row["file"] for row in rows if _PLAIN_NAME.match(str(row.get("file")))}
        if overwrite:
            self._remove_written()
        if self._check_config():
            self._check_flags()
            return
        if self._written:
            raise self._wording.refusal(self.path, "holds files of a run but no config.json")
        self._write(ENVIRONMENT, environment())
        self._write(CONFIG, self.config)

    def _check_config(self) -> bool:
        """Whether there is a config.json; it must be of this config.

        Raises:
            InputError: It is of another config, or damaged.
        """
        try:
            old = files.read_object(self.path / CONFIG)
        except InputError:
            raise
        except ValueError as error:
            raise self._wording.refusal(self.path, f"config.json is damaged ({error})") from error
        if old is None:
            return False
        if different := differences(old, self.config):
            what = f"holds a run of another config: {'; '.join(different)}"
            raise self._wording.refusal(self.path, what)
        return True

    def _check_flags(self) -> None:
        """Refuses to resume under other compiler flags, which may change rounding."""
        try:
            begun = (files.read_object(self.path / ENVIRONMENT) or {}).get("variables")
        except ValueError as error:
            raise self._wording.refusal(self.path, f"{ENVIRONMENT} is damaged ({error})") from error
        now = compiler_flags(os.environ)
        if isinstance(begun, dict) and (old := compiler_flags(begun)) != now:
            shown = [" ".join(flags) or "no flag" for flags in (old, now)]
            what = f"was begun with {shown[0]} of XLA and would resume with {shown[1]}"
            raise self._wording.refusal(self.path, what)

    def _refuse_foreign(self) -> None:
        """Refuses a directory that holds files but no run."""
        names = {name for name in os.listdir(self.path) if not name.endswith(files.PARTIAL)}
        if names <= {LOCK, ENVIRONMENT} or (LOCK in names and names & {CONFIG, WRITTEN}):
            return
        raise InputError(
            f"{self._wording.option} {self.path}: holds files but no run; choose a new or an "
            "empty directory"
        )

    def _remove_written(self) -> None:
        # In this order an interrupted removal leaves no run that looks finished or resumable.
        for name in (RESULTS, CONFIG, ENVIRONMENT, *sorted(self._written), WRITTEN):
            path = self.path / name
            if name in BOOKKEEPING and path.is_dir() and not path.is_symlink():
                raise InputError(f"{path}: a directory that no run made; move it elsewhere")
            _remove(path)
        files.sync_directory(self.path)
        self._written = set()

    def _checked(self, name: str) -> Path:
        if not _PLAIN_NAME.match(name) or name in BOOKKEEPING:
            raise InputError(
                f"{name[:80]!r} cannot be a file of a run; use up to 200 of A-Z a-z 0-9 . _ -, "
                f"beginning with a letter or digit, and none of {', '.join(sorted(BOOKKEEPING))}"
            )
        return self.path / name

    def _begin_writing(self) -> None:
        if self._closed:
            raise ValueError(f"the run directory {self.path} is closed")
        if self._lock is None:
            with self._wording.told(self.path):
                self._hold()

    def _list(self, name: str) -> Path:
        """Checks a name and adds it to the list of the files that this run writes."""
        path = self._checked(name)
        self._begin_writing()
        if name not in self._written:
            if os.path.lexists(path):
                raise InputError(f"{path}: not written by this run; move it elsewhere")
            files.append_row(self.path / WRITTEN, {"file": name})
            self._written.add(name)
        return path

    def _write(self, name: str, value: Any) -> None:
        text = files.strict_json(value, indent=2) + "\n"
        files.write_whole(self.path / name, text.encode())

    def write_bytes(self, name: str, data: bytes) -> Path:
        """Writes or replaces a file in one step and returns its path.

        Raises:
            InputError: If the name is not a plain file name, belongs to a file that no run wrote,
                or the disk is full. An older file of that name is then unchanged.
        """
        path = self._list(name)
        files.write_whole(path, data)
        return path

    def write_text(self, name: str, text: str) -> Path:
        """Writes or replaces a UTF-8 file; as `write_bytes`."""
        return self.write_bytes(name, text.encode())

    def append_row(self, name: str, row: dict[str, Any]) -> None:
        """Appends a row, with its digest, to a JSON Lines file; see `files.append_row`."""
        row = sealed_row(row, self._digest, name)
        files.append_row(self._list(name), row)

    def read_rows(self, name: str) -> list[dict[str, Any]]:
        """Reads the rows of a JSON Lines file, without their digests; see `files.read_rows`.

        Raises:
            InputError: If this run did not write a line there; gives the line's number.
        """
        path, rows = self._checked(name), []
        for line, row in enumerate(files.read_rows(path), start=1):
            own = own_row(row, self._digest, name)
            if own is None:
                raise InputError(
                    f"{path}: line {line} changed since it was written (or another run's, "
                    "or an older version's); restore the file, or remove that line; or "
                    f"{self._wording.anew}"
                )
            rows.append(own)
        return rows

    def subdirectory(self, name: str) -> Path:
        """Makes a directory that belongs to the run, such as `checkpoints`, and returns it."""
        path = self._list(name)
        path.mkdir(exist_ok=True)
        return path

    def discard(self, name: str) -> None:
        """Removes a file or directory, if it is there and the directory can be written."""
        path = self._checked(name)
        # Another process may hold the directory, or the disk may be read-only.
        with contextlib.suppress(InputError, OSError):
            if os.path.lexists(path):
                self._begin_writing()
                _remove(path)

    def results(self) -> dict[str, Any] | None:
        """Returns what `finish` was given; None if this run is not finished.

        Raises:
            InputError: If results.json changed since it was written, or is another run's.
        """
        try:
            stored = files.read_object(self.path / RESULTS)
        except InputError:
            raise
        except ValueError:
            stored = {}
        if stored is None:
            return None
        own = unsealed_results(stored, self._digest)
        if own is None:
            raise InputError(
                f"{self.path / RESULTS}: changed since it was written (or another run's, or an "
                "older version's); remove it and run the same command again; or "
                f"{self._wording.anew}"
            )
        return own

    @property
    def finished(self) -> bool:
        """Whether this run is finished; raises as `results`."""
        return self.results() is not None

    def finish(self, results: dict[str, Any]) -> None:
        """Writes results.json, which marks the run as finished; write everything else before.

        Raises:
            InputError: If the disk is full.
            RunError: If a number is not finite; names its key path.
        """
        if CONFIG_DIGEST in results:
            raise ValueError("config_digest is not a result: it ties the results to the config")
        self._begin_writing()
        self._write(RESULTS, sealed({CONFIG_DIGEST: self._digest, **results}, RESULTS_DIGEST))

    def _release(self) -> None:
        if self._lock is not None:
            lock, self._lock = self._lock, None
            locks.release(lock)

    def close(self) -> None:
        """Releases the directory; called at the end of a `with` block."""
        self._release()
        self._closed = True

    def __enter__(self) -> "RunDirectory":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        there = self._written or os.path.lexists(self.path / RESULTS)
        if error is not None and self._lock is not None and not there:
            # No work was done yet, so the next attempt may have another config.
            for name in (CONFIG, ENVIRONMENT):
                (self.path / name).unlink(missing_ok=True)
        self.close()


def unsealed_results(stored: dict[str, Any], digest: str) -> dict[str, Any] | None:
    """What `RunDirectory.finish` was given, from results.json; None if that changed since.

    Args:
        stored: the content of results.json.
        digest: of the run's config.
    """
    own = unsealed(stored, RESULTS_DIGEST)
    return own if own is not None and own.pop(CONFIG_DIGEST, None) == digest else None


def _remove(path: Path) -> None:
    """Removes a file, a link or a whole directory, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
