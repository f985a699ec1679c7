"""One run's directory: held by one process, of one config, and done when results.json is there."""

import contextlib
import fcntl
import json
import os
import re
import shutil
import socket
import time
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from subliminal_jax import files
from subliminal_jax.config import config_digest
from subliminal_jax.environment import environment
from subliminal_jax.errors import InputError

CONFIG, RESULTS, ENVIRONMENT = "config.json", "results.json", "environment.json"
LOCK, WRITTEN = "run.lock", "run.files.jsonl"
_RESERVED = {CONFIG, RESULTS, ENVIRONMENT, LOCK, WRITTEN}
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}\Z")


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, child in value.items():
        flat |= _flat(child, f"{prefix}.{key}" if prefix else key)
    return flat


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Each field in which plain values differ as `name old -> new`, nested ones by dotted names."""

    def show(values: dict[str, Any], name: str) -> str:
        return json.dumps(values[name]) if name in values else "(absent)"

    flat_old, flat_new = _flat(old), _flat(new)
    pairs = [(name, show(flat_old, name), show(flat_new, name)) for name in flat_old | flat_new]
    return [f"{name} {before} -> {after}" for name, before, after in pairs if before != after]


def _take_lock(path: Path) -> int:
    """Locks the run's lock file for this process and writes who holds it.

    The kernel frees such a lock when its process ends in whatever way, so none can be left behind;
    see flock(2). The file itself stays: removing it would let two processes lock two files.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(descriptor, 0)
        start = datetime.now(UTC).isoformat(timespec="seconds")
        holder = {"pid": os.getpid(), "host": socket.gethostname(), "start": start}
        os.pwrite(descriptor, files.strict_json(holder).encode(), 0)
    except BlockingIOError as error:
        raise InputError(
            f"--out {path.parent}: in use by another run ({_holder(descriptor)}); "
            "wait for it, stop it, or choose another --out"
        ) from error
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _holder(descriptor: int) -> str:
    """Who holds the lock, and closes the descriptor; the holder may just be writing it."""
    with open(descriptor, "rb") as file:
        for _ in range(20):
            file.seek(0)
            with contextlib.suppress(ValueError, KeyError, TypeError):
                holder = files.parse_json(file.read())
                return f"pid {holder['pid']} on {holder['host']}, started {holder['start']}"
            time.sleep(0.05)
    return "it has not said which"


class RunDirectory:
    """The directory of one run, locked while open; a context manager, made by `open`.

    Files go in whole (`write_json`, `write_text`, `write_bytes`) or row by row (`append_row`).
    Their names are listed in `run.files.jsonl` before they are written, so that `overwrite` can
    tell them from files that somebody else put there.
    """

    def __init__(self, path: Path, config: dict[str, Any], lock: int):
        """Use `open`."""
        self.path, self.config = path, config
        self._lock: int | None = lock
        self._written: set[str] = set()

    @classmethod
    def open(cls, path: Path, config: dict[str, Any], *, overwrite: bool = False) -> "RunDirectory":
        """Opens a directory for a run of this config: a new one, or the same run's to go on.

        Args:
            path: Where; made if need be. Relative paths count from the working directory.
            config: The resolved config as plain values, see `config.config_dict`.
            overwrite: Remove what an earlier run wrote here and begin anew. Files that no run
                wrote stay.

        Raises:
            InputError: If the directory cannot be made or written, holds other things than a run,
                holds a run of another config (each differing field is named), or is in use by
                another process (which is named); or if the disk is full.
        """
        # What is compared must be what will be read back: tuples are lists there.
        config = json.loads(files.strict_json(config))
        try:
            path = Path(path).resolve()
            path.mkdir(parents=True, exist_ok=True)
            _refuse_foreign(path)
            run = cls(path, config, _take_lock(path / LOCK))
        except InputError:
            raise
        except (OSError, ValueError) as error:
            if files.is_disk_full(error):
                raise files.disk_full_error(Path(path)) from error
            reason = error.strerror if isinstance(error, OSError) else error
            raise InputError(
                f"--out {path}: cannot be used ({reason}); choose a directory you can write to"
            ) from error
        try:
            run._settle(overwrite)
        except BaseException:
            run.close()
            raise
        return run

    def _settle(self, overwrite: bool) -> None:
        """Brings the locked directory to this config's state, or refuses it."""
        for partial in self.path.glob(f".*{files.PARTIAL}"):
            partial.unlink()
        rows = files.read_rows(self.path / WRITTEN)
        self._written = {row["file"] for row in rows if _PLAIN_NAME.match(str(row.get("file")))}
        if overwrite:
            self._remove_written()
        try:
            old = files.parse_json((self.path / CONFIG).read_bytes())
        except FileNotFoundError:
            if self._written:
                raise self._refusal("holds files of a run but no config.json") from None
            self._write(ENVIRONMENT, environment())
            self._write(CONFIG, self.config)
            return
        except ValueError as error:
            raise self._refusal(f"config.json is damaged ({error})") from error
        if different := differences(old, self.config):
            raise self._refusal(f"holds a run of another config: {'; '.join(different)}")

    def _refusal(self, what: str) -> InputError:
        return InputError(
            f"--out {self.path}: {what}; choose another --out, or add --overwrite to begin anew"
        )

    def _remove_written(self) -> None:
        # In this order a removal that is cut short leaves neither a run that looks done, nor one
        # that looks as if it could go on.
        for name in (RESULTS, CONFIG, ENVIRONMENT, *sorted(self._written), WRITTEN):
            path = self.path / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        files.sync_directory(self.path)
        self._written = set()

    def _checked(self, name: str) -> Path:
        if not _PLAIN_NAME.match(name) or name in _RESERVED:
            raise InputError(
                f"{name[:80]!r} cannot be a file of a run; use up to 200 of A-Z a-z 0-9 . _ -, "
                f"beginning with a letter or digit, and none of {', '.join(sorted(_RESERVED))}"
            )
        return self.path / name

    def _list(self, name: str) -> Path:
        """Checks a name and puts it on the list of what this run writes."""
        path = self._checked(name)
        if self._lock is None:
            raise ValueError(f"the run directory {self.path} is closed")
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
            InputError: If the name is not a plain file name, stands for a file that no run wrote,
                or the disk is full. An older file of that name is then untouched.
        """
        path = self._list(name)
        files.write_whole(path, data)
        return path

    def write_text(self, name: str, text: str) -> Path:
        """Writes or replaces a UTF-8 file; as `write_bytes`."""
        return self.write_bytes(name, text.encode())

    def write_json(self, name: str, value: Any) -> Path:
        """Writes or replaces a JSON file; as `write_bytes`.

        Raises:
            RunError: If a number is not finite; names its key path.
        """
        return self.write_text(name, files.strict_json(value, indent=2) + "\n")

    def append_row(self, name: str, row: dict[str, Any]) -> None:
        """Appends a row to a JSON Lines file; see `files.append_row`."""
        files.append_row(self._list(name), row)

    def write_rows(self, name: str, rows: list[dict[str, Any]]) -> Path:
        """Writes or replaces a JSON Lines file; as `write_bytes`."""
        return self.write_text(name, "".join(files.strict_json(row) + "\n" for row in rows))

    def read_rows(self, name: str) -> list[dict[str, Any]]:
        """Reads a JSON Lines file, cutting off an unfinished row; see `files.read_rows`."""
        return files.read_rows(self._checked(name))

    def subdirectory(self, name: str) -> Path:
        """Makes a directory that belongs to the run, such as `checkpoints`, and returns it."""
        path = self._list(name)
        path.mkdir(exist_ok=True)
        return path

    def results(self) -> dict[str, Any] | None:
        """What `finish` was given, or None if this config's run is not done."""
        try:
            stored = files.parse_json((self.path / RESULTS).read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        if not isinstance(stored, dict) or stored.pop("config_digest", None) != self._digest:
            return None
        return stored

    @property
    def _digest(self) -> str:
        return config_digest(self.config)

    @property
    def finished(self) -> bool:
        """Whether this config's run is done: a whole results.json of the same digest is there."""
        return self.results() is not None

    def finish(self, results: dict[str, Any]) -> None:
        """Writes results.json, which says that the run is done; everything else comes before.

        Raises:
            InputError: If the disk is full.
            RunError: If a number is not finite; names its key path.
        """
        if "config_digest" in results:
            raise ValueError("config_digest is not a result: it ties the results to the config")
        self._write(RESULTS, {"config_digest": self._digest, **results})

    def close(self) -> None:
        """Gives the directory free; called at the end of a `with` block."""
        if self._lock is not None:
            os.ftruncate(self._lock, 0)
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> "RunDirectory":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None and not (self._lock is None or self._written or self.finished):
            # Nothing is lost, so the next try may have another config.
            for name in (CONFIG, ENVIRONMENT):
                (self.path / name).unlink(missing_ok=True)
        self.close()


def _refuse_foreign(path: Path) -> None:
    """Refuses a directory with things in it that are no run of ours; nothing is written there."""
    names = {name for name in os.listdir(path) if not name.endswith(files.PARTIAL)}
    if names <= {LOCK, ENVIRONMENT} or (LOCK in names and names & {CONFIG, WRITTEN}):
        return
    raise InputError(
        f"--out {path}: holds files but no run of ours; choose a new or an empty directory"
    )
