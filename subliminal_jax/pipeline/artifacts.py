"""What a stage leaves behind: a directory with a manifest that says what it was made from.

A manifest holds the stage's settings, the digests of the artifacts it read and of the files it
wrote. An artifact is used only if all of it agrees: one of other settings, or made from other
inputs, or with a file changed since, is refused by name. It is whole when its manifest is there,
which is written last; before that the directory holds `begun.json`, so that a stage that was
stopped goes on with the rows it has.

On several hosts all make the same calls; the first one alone reads and writes.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from subliminal_jax import files
from subliminal_jax.config import config_digest
from subliminal_jax.differences import differences
from subliminal_jax.environment import environment
from subliminal_jax.errors import InputError
from subliminal_jax.execution import hosts

MANIFEST, BEGUN = "manifest.json", "begun.json"


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
        digest: SHA-256 of settings, inputs and files; other artifacts refer to it.
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
        InputError: what is there was begun from something else.
    """
    path = run.subdirectory(recipe.name)

    def open_it() -> None:
        begun = _read(path / BEGUN)
        if begun is None:
            files.write_whole(path / BEGUN, files.strict_json(recipe.origin, indent=2).encode())
        else:
            _check_origin(path, begun, recipe)

    hosts.on_first(open_it)
    return path


def begun_from(path: Path) -> dict[str, Any]:
    """Settings and inputs of an artifact that is being made."""
    return hosts.by_first(lambda: _read(path / BEGUN) or {})


def commit(run: Place, recipe: Recipe, facts: Mapping[str, Any] | None = None) -> Artifact:
    """Declares an artifact whole: writes its manifest, with the digests of all its files.

    Args:
        run: where it is.
        recipe: what it was made from.
        facts: what else is to be known of it; not part of its digest.
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
    files.write_whole(path / MANIFEST, (files.strict_json(manifest, indent=2) + "\n").encode())
    (path / BEGUN).unlink(missing_ok=True)
    return _digest(manifest)


def facts_of(artifact: Artifact) -> dict[str, Any]:
    """What was to be known of an artifact besides its files."""
    return hosts.by_first(lambda: (_read(artifact.path / MANIFEST) or {}).get("facts", {}))


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest(manifest: Mapping[str, Any]) -> str:
    return config_digest({part: manifest.get(part) for part in ("settings", "inputs", "files")})


def _read(path: Path) -> dict[str, Any] | None:
    try:
        value = files.parse_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise InputError(
            f"{path}: damaged ({error}); remove the directory {path.parent.name} to make it anew"
        ) from error
    if not isinstance(value, dict):
        raise InputError(f"{path}: no JSON object; remove the directory {path.parent.name}")
    return value


def _check_origin(path: Path, found: Mapping[str, Any], recipe: Recipe) -> None:
    """Refuses what was made from something else than the recipe's settings and inputs."""
    there = {part: found.get(part, {}) for part in ("settings", "inputs")}
    if different := differences(there, recipe.origin):
        shown = "; ".join(different[:3]) + ("; ..." if len(different) > 3 else "")
        raise InputError(
            f"{path}: does not belong to this run ({shown}); move it away, and it will be made anew"
        )
