"""What a stage leaves behind: a directory with a manifest that says what it was made from.

A manifest holds the stage's settings, the digests of the artifacts it read and of the files it
wrote, what else was found, and a digest of itself. An artifact is used only if all of it agrees:
one of other settings, or made from other inputs, or with a file or the manifest changed since, is
refused by name. It is whole when its manifest is there, which is written last; before that the
directory holds `begun.json`, with the digests of the files that are whole by then, so that a stage
that was stopped goes on with what it has.

On several hosts all make the same calls; the first one alone reads and writes.
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
from subliminal_jax.runs.differences import differences
from subliminal_jax.runs.environment import environment
from subliminal_jax.runs.sealed import sealed, unsealed

MANIFEST, BEGUN = "manifest.json", "begun.json"
SEAL = "digest"
"""In both: of everything else that stands there."""


@runtime_checkable
class Place(Protocol):
    """A directory of artifacts."""

    @property
    def path(self) -> Path:
        """Where it is."""
        ...

    def subdirectory(self, name: str) -> Path:
        """Makes a directory in it."""
        ...


@dataclass(frozen=True)
class Artifact:
    """A stage's output.

    Attributes:
        name: of its directory.
        path: the directory.
        digest: SHA-256 of settings, inputs, files and facts; other artifacts refer to it.
    """

    name: str
    path: Path
    digest: str


@dataclass(frozen=True)
class Recipe:
    """What an artifact is made from.

    Attributes:
        name: of its directory, unique in the run.
        settings: the part of the config that it depends on.
        inputs: the artifacts it is made from.
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


def find(run: Place, recipe: Recipe) -> Artifact | None:
    """The finished artifact of a recipe, every file of it checked; None if there is none yet.

    Raises:
        InputError: what is there was made from something else, or was changed since.
    """
    path = run.path / recipe.name
    digest = hosts.by_first(lambda: _checked(path, recipe))
    return None if digest is None else Artifact(recipe.name, path, digest)


def _checked(path: Path, recipe: Recipe) -> str | None:
    """The digest of the finished artifact in a directory, if there is one."""
    manifest = _read(path / MANIFEST)
    if manifest is None:
        return None
    _check_origin(path, manifest, recipe)
    for name, digest in manifest.get("files", {}).items():
        if not (path / name).is_file() or file_digest(path / name) != digest:
            raise InputError(
                f"{path / name}: missing or changed since it was written; remove the directory "
                f"{recipe.name} to make it anew"
            )
    return _digest(manifest)


def begin(run: Place, recipe: Recipe) -> Path:
    """The directory in which an artifact is made; it may hold what a stopped run left of it.

    Raises:
        InputError: what is there was begun from something else, or was changed since.
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
    """Settings and inputs of an artifact that is being made."""
    begun = hosts.by_first(lambda: _read(path / BEGUN) or {})
    return {part: value for part, value in begun.items() if part != "files"}


def write_part(path: Path, data: bytes) -> None:
    """Writes a file that the rest of an artifact relies on; the first host alone calls it.

    Its digest is on record before the file is there, so that `has_part` tells it from another's.
    """
    begun = _read(path.parent / BEGUN) or {}
    begun["files"] = begun.get("files", {}) | {path.name: hashlib.sha256(data).hexdigest()}
    _write(path.parent / BEGUN, begun)
    files.write_whole(path, data)


def has_part(path: Path) -> bool:
    """Whether `write_part` has written this file of an artifact that is being made.

    Raises:
        InputError: another file is in its place, or it was changed since.
    """

    def look() -> bool:
        if not path.exists():
            return False
        begun = _read(path.parent / BEGUN) or {}
        if file_digest(path) != begun.get("files", {}).get(path.name):
            raise InputError(
                f"{path}: is not what this stage wrote; remove the file, and it is made anew"
            )
        return True

    return hosts.by_first(look)


def commit(run: Place, recipe: Recipe, facts: Mapping[str, Any] | None = None) -> Artifact:
    """Declares an artifact whole: writes its manifest, with the digests of all its files.

    Args:
        run: where it is.
        recipe: what it was made from.
        facts: what else was found, for those who use it.
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
        "files": {name: file_digest(path / name) for name in names},
        "facts": dict(facts),
        "environment": environment(),
    }
    _write(path / MANIFEST, manifest)
    (path / BEGUN).unlink(missing_ok=True)
    return _digest(manifest)


def facts_of(artifact: Artifact) -> dict[str, Any]:
    """What was found when an artifact was made, besides its files.

    Raises:
        InputError: the manifest is gone, or was changed since the artifact was found or made.
    """

    def read() -> dict[str, Any]:
        manifest = _read(artifact.path / MANIFEST)
        if manifest is None or _digest(manifest) != artifact.digest:
            raise _changed(artifact.path / MANIFEST)
        return manifest["facts"]

    return hosts.by_first(read)


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest(manifest: Mapping[str, Any]) -> str:
    parts = ("settings", "inputs", "files", "facts")
    return config_digest({part: manifest.get(part) for part in parts})


def _write(path: Path, value: Mapping[str, Any]) -> None:
    """Writes an object with a digest of itself."""
    text = files.strict_json(sealed(value, SEAL), indent=2) + "\n"
    files.write_whole(path, text.encode())


def _read(path: Path) -> dict[str, Any] | None:
    """What `_write` wrote, without its digest; None where nothing is."""
    try:
        stored = files.read_object(path)
    except InputError:
        raise
    except ValueError as error:
        raise InputError(
            f"{path}: damaged ({error}); remove the directory {path.parent.name} to make it anew"
        ) from error
    if stored is None:
        return None
    value = unsealed(stored, SEAL)
    if value is None:
        raise _changed(path)
    return value


def _changed(path: Path) -> InputError:
    return InputError(
        f"{path}: is not as it was written; restore it, or remove the directory "
        f"{path.parent.name} to make it anew"
    )


def _check_origin(path: Path, found: Mapping[str, Any], recipe: Recipe) -> None:
    """Refuses what was made from something else than the recipe's settings and inputs."""
    there = {part: found.get(part, {}) for part in ("settings", "inputs")}
    if different := differences(there, recipe.origin):
        shown = "; ".join(different[:3]) + ("; ..." if len(different) > 3 else "")
        raise InputError(
            f"{path}: does not belong to this run ({shown}); move it away, and it will be made anew"
        )
