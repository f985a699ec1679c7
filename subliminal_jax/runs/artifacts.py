"""The output of a stage: a directory with a manifest that records what it was made from.

A manifest holds the stage's settings, the digests of its input artifacts and of its own files,
further facts, and a digest of itself. An artifact made with other settings or from other inputs, or
with a file or the manifest changed since, is refused by name. The manifest is written last: an
artifact without one is unfinished. Until then the directory holds `begun.json`, with the digests of
the files that are complete, so that an interrupted stage resumes from them.

On several hosts all make the same calls; only the first one reads and writes.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from subliminal_jax import files
from subliminal_jax.config import config_digest
from subliminal_jax.errors import InputError
from subliminal_jax.execution import hosts
from subliminal_jax.runs.environment import environment
from subliminal_jax.runs.refusals import differences
from subliminal_jax.runs.sealed import sealed, unsealed

MANIFEST, BEGUN = "manifest.json", "begun.json"
SEAL = "digest"
"""Key of the digest of all other entries, in both files."""


@runtime_checkable
class Folder(Protocol):
    """A directory that holds artifacts."""

    @property
    def path(self) -> Path:
        """Path of the directory."""
        ...

    def subdirectory(self, name: str) -> Path:
        """Creates a directory in it and returns its path."""
        ...


@dataclass(frozen=True)
class Artifact:
    """A finished artifact.

    Attributes:
        name: name of its directory.
        path: the directory.
        digest: SHA-256 of settings, inputs, files and facts; identifies it as an input of others.
    """

    name: str
    path: Path
    digest: str


@dataclass(frozen=True)
class Recipe:
    """What an artifact is made from.

    Attributes:
        name: name of its directory, unique in the run.
        settings: the part of the config that it depends on.
        inputs: the artifacts that it is made from.
    """

    name: str
    settings: Mapping[str, Any]
    inputs: tuple[Artifact, ...] = ()

    @property
    def origin(self) -> dict[str, Any]:
        """Settings and inputs as plain values."""
        return {
            "settings": dict(self.settings),
            "inputs": {artifact.name: artifact.digest for artifact in self.inputs},
        }


def find(run: Folder, recipe: Recipe) -> Artifact | None:
    """Returns a recipe's finished artifact, after checking every file; None if it is not finished.

    Raises:
        InputError: its directory holds an artifact of another recipe, or changed since.
    """
    path = run.path / recipe.name
    digest = hosts.by_first(lambda: _checked(path, recipe))
    return None if digest is None else Artifact(recipe.name, path, digest)


def _checked(path: Path, recipe: Recipe) -> str | None:
    """Returns the digest of the finished artifact in a directory; None without one."""
    manifest = _read(path / MANIFEST)
    if manifest is None:
        return None
    _check_origin(path, manifest, recipe)
    for name, digest in manifest.get("files", {}).items():
        if not (path / name).is_file() or files.file_digest(path / name) != digest:
            raise InputError(
                f"{path / name}: missing or changed since it was written; remove the directory "
                f"{recipe.name} and rerun its stage"
            )
    return _digest(manifest)


def begin(run: Folder, recipe: Recipe) -> Path:
    """Returns the directory in which to make an artifact; it may hold an interrupted stage's files.

    Raises:
        InputError: it was begun with another recipe, or `begun.json` changed since.
    """
    path = run.subdirectory(recipe.name)

    def open_it() -> None:
        begun = _read(path / BEGUN)
        if begun is None:
            _write(path / BEGUN, {**recipe.origin, "files": {}})
        else:
            _check_origin(path, begun, recipe)

    hosts.on_first(open_it)
    return path


def begun_from(path: Path) -> dict[str, Any]:
    """Returns settings and inputs of an unfinished artifact."""
    begun = hosts.by_first(lambda: _read(path / BEGUN) or {})
    return {part: value for part, value in begun.items() if part != "files"}


def write_part(path: Path, data: bytes) -> None:
    """Writes a file that a resumed stage reuses; only the first host calls it.

    Its digest is recorded before the file is written, so that `has_part` detects a foreign file.
    """
    begun = _read(path.parent / BEGUN) or {}
    begun["files"] = begun.get("files", {}) | {path.name: hashlib.sha256(data).hexdigest()}
    _write(path.parent / BEGUN, begun)
    files.write_whole(path, data)


def has_part(path: Path) -> bool:
    """Whether `write_part` has written this file of an unfinished artifact.

    Raises:
        InputError: the file was written by something else, or changed since.
    """

    def look() -> bool:
        if not path.exists():
            return False
        begun = _read(path.parent / BEGUN) or {}
        if files.file_digest(path) != begun.get("files", {}).get(path.name):
            raise InputError(
                f"{path}: not written by this stage, or changed since; remove the file to redo it"
            )
        return True

    return hosts.by_first(look)


def commit(run: Folder, recipe: Recipe, facts: Mapping[str, Any] | None = None) -> Artifact:
    """Finishes an artifact: writes its manifest, with the digests of all its files.

    Args:
        run: directory of the run.
        recipe: what the artifact was made from.
        facts: further values for later stages.
    """
    path = run.path / recipe.name
    return Artifact(recipe.name, path, hosts.by_first(lambda: _written(path, recipe, facts or {})))


def _written(path: Path, recipe: Recipe, facts: Mapping[str, Any]) -> str:
    names = sorted(
        str(file.relative_to(path))
        for file in path.rglob("*")
        if file.is_file() and file.name not in (MANIFEST, BEGUN)
    )
    manifest = {
        "name": recipe.name,
        **recipe.origin,
        "files": {name: files.file_digest(path / name) for name in names},
        "facts": dict(facts),
        "environment": environment(),
    }
    _write(path / MANIFEST, manifest)
    (path / BEGUN).unlink(missing_ok=True)
    return _digest(manifest)


def facts_of(artifact: Artifact) -> dict[str, Any]:
    """Returns the facts in an artifact's manifest.

    Raises:
        InputError: the manifest is missing, or changed since the artifact was found or made.
    """

    def read() -> dict[str, Any]:
        manifest = _read(artifact.path / MANIFEST)
        if manifest is None or _digest(manifest) != artifact.digest:
            raise _changed(artifact.path / MANIFEST)
        return manifest["facts"]

    return hosts.by_first(read)


def _digest(manifest: Mapping[str, Any]) -> str:
    parts = ("settings", "inputs", "files", "facts")
    return config_digest({part: manifest.get(part) for part in parts})


def _write(path: Path, value: Mapping[str, Any]) -> None:
    """Writes an object together with its digest."""
    text = files.strict_json(sealed(value, SEAL), indent=2) + "\n"
    files.write_whole(path, text.encode())


def _read(path: Path) -> dict[str, Any] | None:
    """Returns the object that `_write` wrote, without its digest; None if there is no file."""
    try:
        stored = files.read_object(path)
    except InputError:
        raise
    except ValueError as error:
        raise InputError(
            f"{path}: damaged ({error}); remove the directory {path.parent.name} and rerun its "
            "stage"
        ) from error
    if stored is None:
        return None
    value = unsealed(stored, SEAL)
    if value is None:
        raise _changed(path)
    return value


def _changed(path: Path) -> InputError:
    return InputError(
        f"{path}: changed since it was written; restore it, or remove the directory "
        f"{path.parent.name} and rerun its stage"
    )


def _check_origin(path: Path, recorded: Mapping[str, Any], recipe: Recipe) -> None:
    """Refuses an artifact whose settings or inputs differ from the recipe's."""
    there = {part: recorded.get(part, {}) for part in ("settings", "inputs")}
    if different := differences(there, recipe.origin):
        shown = "; ".join(different[:3]) + ("; ..." if len(different) > 3 else "")
        raise InputError(
            f"{path}: does not belong to this run ({shown}); move it away and rerun its stage"
        )
