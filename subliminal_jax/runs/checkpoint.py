"""Training checkpoints: written atomically, and verified leaf by leaf when read.

Orbax writes the arrays, each host its own shards, and renames a finished step into place. It does
not detect bits that change later, casts dtypes silently, and knows nothing of configs. So every
step has a manifest: layout, config, and the shape, dtype and digest of every leaf.
"""

import contextlib
import hashlib
import re
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from orbax.checkpoint import v1 as ocp

from subliminal_jax.entry import one_line
from subliminal_jax.errors import InputError, RunError
from subliminal_jax.execution import hosts
from subliminal_jax.files import parse_json, strict_json
from subliminal_jax.process import os_errors
from subliminal_jax.runs.digest import describe, digests
from subliminal_jax.runs.refusals import differences

LAYOUT = 1
"""Version of the manifest; a reader refuses any other."""

_STEP = re.compile(r"\d{8}\Z")
_LEFT_OVER = ("*.orbax-checkpoint-tmp*", "*.removed")
_ORBAX = "_CHECKPOINT_METADATA"


class DamagedCheckpointWarning(UserWarning):
    """A checkpoint is damaged; it was renamed, and an older one is used."""


class _Damaged(Exception):
    """A checkpoint is damaged; the message says how."""


class Checkpoints:
    """The checkpoints of one run, in their own directory; all hosts make the same calls.

    A step is a subdirectory such as `00000100`; only the newest are kept. A damaged one is renamed
    to `00000100.damaged` and the one before it is used, with a warning.
    """

    def __init__(
        self, directory: Path, config: dict[str, Any], *, keep: int = 2, background: bool = False
    ):
        """Open the directory, and remove what a killed run left unfinished.

        Args:
            directory: created if missing. On several hosts, one that all of them see.
            config: the run's config as plain values; a checkpoint of another one is refused.
            keep: how many checkpoints to keep.
            background: write while training continues; the next call raises an error of the write.

        Raises:
            InputError: the directory is a single step, or the run directory; or `keep` is below 1.
        """
        self.directory, self.config = Path(directory).resolve(), config
        if keep < 1:
            raise InputError(f"keep: {keep}; keep at least one checkpoint")
        self.keep, self.background = keep, background
        self._writing: tuple[Path, Any] | None = None
        _check_level(self.directory)
        if hosts.is_first():
            self.directory.mkdir(parents=True, exist_ok=True)
            self._clear()
        hosts.meet("checkpoints are open")

    def steps(self) -> list[int]:
        """The complete steps, oldest first."""
        return sorted(int(path.name) for path in self._paths())

    def save(self, step: int, state: Any) -> None:
        """Write a state.

        Raises:
            RunError: a leaf is not finite (it is named, and nothing is written), or a write failed:
                this one, or in the background the previous one.
            InputError: the disk is full. Earlier checkpoints are intact.
        """
        self.wait()
        by_leaf, not_finite = digests(state)
        if not_finite:
            raise RunError(
                f"step {step}: {not_finite[0]} is not finite, so no checkpoint is written; "
                f"{self._newest()}"
            )
        leaves = describe(state)
        for name, digest in by_leaf.items():
            leaves[name]["digest"] = digest
        manifest = {"layout": LAYOUT, "step": step, "config": self.config, "leaves": leaves}
        text = strict_json(manifest)
        path = self.directory / f"{step:08d}"
        metadata: Any = {"manifest": text, "sha256": hashlib.sha256(text.encode()).hexdigest()}
        try:
            response = ocp.save_async(str(path), state, overwrite=True, custom_metadata=metadata)
        except Exception as error:
            raise self._failed(path, error) from error
        self._writing = (path, response)
        if not self.background:
            self.wait()

    def check(self) -> None:
        """Raise the error of a background write that has already failed; errors as of `wait`."""
        if self._writing is not None:
            with contextlib.suppress(TimeoutError):
                self._finish(timeout=0.0)

    def wait(self) -> None:
        """Wait for the write in progress, then remove checkpoints beyond `keep`.

        Raises:
            RunError: the write failed.
            InputError: the disk is full.
        """
        if self._writing is not None:
            self._finish(timeout=None)

    def restore(self, like: Any) -> tuple[int, Any] | None:
        """Return step and state of the newest intact checkpoint; None if there is no checkpoint.

        Args:
            like: the abstract state, with the shardings to restore to; devices and hosts may differ
                from those it was written on.

        Raises:
            InputError: the checkpoint has another config, tree or layout (field or leaf are named),
                or all checkpoints are damaged.
        """
        self.wait()
        faults = []
        for step in reversed(hosts.from_first(self.steps())):
            path = self.directory / f"{step:08d}"
            state, fault = None, None
            try:
                state = self._load(path, like)
            except _Damaged as error:
                fault = str(error)
            if hosts.all_agree(fault is None):
                self._drop_old()
                return step, state
            faults.append(f"{path}: {fault or 'damaged on another host'}")
            if hosts.is_first():
                path.rename(_unused(path, "damaged"))
            warnings.warn(
                f"{faults[-1]}; renamed to {path.name}.damaged, the one before it is used",
                DamagedCheckpointWarning,
                stacklevel=2,
            )
        if faults:
            raise InputError(f"no checkpoint can be used: {faults[0]}; restore it, or start over")
        return None

    def close(self) -> None:
        """Wait for the write in progress; errors as of `wait`."""
        self.wait()

    def _load(self, path: Path, like: Any) -> Any:
        _check_files(path)
        manifest = _read_manifest(path)
        if changed := differences(manifest["config"], self.config):
            raise InputError(f"{path}: belongs to another config: {'; '.join(changed)}")
        _check_form(path, manifest["leaves"], describe(like))
        try:
            state = ocp.load(str(path), like)
        except (MemoryError, InputError):
            raise
        except Exception as error:
            if "RESOURCE_EXHAUSTED" in str(error):
                raise
            raise _Damaged(f"cannot be read ({_first_line(error)})") from error
        by_leaf, _ = digests(state)
        for name, digest in by_leaf.items():
            if digest != manifest["leaves"][name]["digest"]:
                raise _Damaged(f"{name} changed since it was written")
        return state

    def _finish(self, timeout: float | None) -> None:
        path, response = self._writing or (self.directory, None)
        try:
            if response is not None:
                response.result(timeout=timeout)
        except TimeoutError:
            raise
        except Exception as error:
            self._writing = None
            raise self._failed(path, error) from error
        self._writing = None
        self._drop_old()

    def _drop_old(self) -> None:
        if hosts.is_first():
            for step in self.steps()[: -self.keep]:
                _remove(self.directory / f"{step:08d}")

    def _failed(self, path: Path, error: Exception) -> Exception:
        """Remove what a failed write left, and return the error to raise."""
        if hosts.is_first():
            self._clear()
        reason = os_errors.cause(error)
        if reason is not None and os_errors.can_be_mended(reason):
            named = OSError(reason.errno, reason.strerror, reason.filename or str(path))
            return InputError(os_errors.line(named))
        return RunError(f"{path}: could not be written ({_first_line(error)}); {self._newest()}")

    def _newest(self) -> str:
        steps = self.steps()
        return f"the newest checkpoint is step {steps[-1]}" if steps else "no checkpoint exists yet"

    def _paths(self) -> list[Path]:
        return [path for path in self.directory.iterdir() if _STEP.match(path.name)]

    def _clear(self) -> None:
        for pattern in _LEFT_OVER:
            for path in self.directory.glob(pattern):
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()


def check_step(directory: Path, step: int, counted: Any) -> None:
    """Refuse a state with another step count than its checkpoint.

    Args:
        directory: directory of the checkpoints, for the message.
        step: as returned by `Checkpoints.restore`.
        counted: the state's own step count, one or several.

    Raises:
        InputError: they differ.
    """
    for wrong in np.ravel(counted)[np.ravel(counted) != step][:1]:
        raise InputError(
            f"{directory}: the checkpoint of step {step} holds a state after {wrong} steps; remove "
            "the directory to start over"
        )


def _check_level(directory: Path) -> None:
    """Refuse a directory that is one level too deep or too shallow."""
    if (directory / _ORBAX).exists():
        raise InputError(f"{directory}: is a single checkpoint; give {directory.parent}")
    if (directory.parent / _ORBAX).exists():
        raise InputError(f"{directory}: is a part of a checkpoint; give {directory.parent.parent}")
    inside = directory / "checkpoints"
    if inside.is_dir() and any(_STEP.match(path.name) for path in inside.iterdir()):
        raise InputError(f"{directory}: holds checkpoints one level deeper; give {inside}")


def _check_files(path: Path) -> None:
    """Refuse links, pipes and devices: opening a pipe would wait for its other end."""
    for one in path.rglob("*"):
        if one.is_symlink() or not (one.is_file() or one.is_dir()):
            raise _Damaged(f"holds {one.relative_to(path)}, which is not a regular file")


def _read_manifest(path: Path) -> dict[str, Any]:
    """Read and verify the manifest; the directory's name is not trusted."""
    try:
        metadata = parse_json((path / _ORBAX).read_bytes())["custom_metadata"]
        text = metadata["manifest"]
        if hashlib.sha256(text.encode()).hexdigest() != metadata["sha256"]:
            raise _Damaged(f"the manifest in {_ORBAX} changed since it was written")
        manifest = dict(parse_json(text.encode()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _Damaged(f"has no manifest in {_ORBAX} ({_first_line(error)})") from error
    if type(layout := manifest.get("layout")) is not int or layout != LAYOUT:
        raise InputError(
            f"{path}: has layout {layout}, but this version reads layout {LAYOUT}; use the "
            "version that wrote it"
        )
    match manifest:
        case {"step": int(step), "config": dict(), "leaves": dict(leaves)} if len(manifest) == 4:
            form = {"shape": list, "dtype": str, "digest": str}
            for name, leaf in leaves.items():
                there = {f: type(v) for f, v in leaf.items()} if isinstance(leaf, dict) else leaf
                if there != form:
                    raise _Damaged(f"the manifest in {_ORBAX} does not describe {name}")
            if step != int(path.name):
                raise _Damaged(f"its manifest is that of step {step}: it was renamed")
            return manifest
    raise _Damaged(f"the manifest in {_ORBAX} must hold exactly layout, step, config and leaves")


def _check_form(path: Path, there: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Refuse missing or extra leaves, and leaves of another shape or dtype."""
    for name in sorted(there | wanted):
        if name not in there or name not in wanted:
            what = "lacks" if name in wanted else "has a leaf that the run lacks,"
            raise InputError(f"{path}: {what} {name}; it belongs to another model or optimizer")
        for field in ("shape", "dtype"):
            old, new = there[name][field], wanted[name][field]
            if old != new:
                raise InputError(
                    f"{path}: {name} has {field} {old}, but the run needs {new}; "
                    "it belongs to another model or optimizer"
                )


def _remove(path: Path) -> None:
    """Remove a checkpoint; rename it first, so that a partly removed one never looks complete."""
    gone = _unused(path, "removed")
    path.rename(gone)
    shutil.rmtree(gone)


def _unused(path: Path, ending: str) -> Path:
    names = [f"{path.name}.{ending}", *(f"{path.name}.{n}.{ending}" for n in range(1, 1000))]
    return next(path.with_name(name) for name in names if not path.with_name(name).exists())


def _first_line(error: BaseException) -> str:
    return one_line(str(error) or type(error).__name__)[:300]
