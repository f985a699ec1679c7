"""A Hugging Face model as files: where it is, which commit, which tensors. Nothing is run.

Only JSON and safetensors are read, and only regular files inside the model's directory.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from subliminal_jax.errors import InputError
from subliminal_jax.files import parse_json

LARGEST_JSON = 32 * 2**20
"""Bytes; the largest published index has about 3 MB."""

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"

_WANTED = ["*.safetensors", "*.json", "*.jinja", "merges.txt", "tokenizer.model"]
_UNWANTED = ["*/*", "consolidated*"]


@dataclass(frozen=True)
class ModelFiles:
    """A directory that holds a model.

    Attributes:
        name: what was asked for.
        path: the directory.
        commit: the hub's commit it is of; None for a directory of one's own.
    """

    name: str
    path: Path
    commit: str | None = None


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a safetensors file; nothing of it is read yet.

    Attributes:
        file: where it is.
        name: its name there.
        shape: its shape.
        dtype: as safetensors spells it, for example `BF16`.
    """

    file: Path
    name: str
    shape: tuple[int, ...]
    dtype: str


def find_model(model: str) -> ModelFiles:
    """Finds a model: a directory, `org/name` on the hub, or `org/name@revision`.

    A path that exists wins. A hub model is fetched unless it is cached already: safetensors,
    JSON and tokenizer files alone. With `HF_HUB_OFFLINE=1` only the cache is asked.

    Raises:
        InputError: there is no such directory, hub id or revision, or no way to fetch it.
    """
    path = Path(os.path.expanduser(model))
    if not model.strip() or "\0" in model:
        raise InputError(f"{model!r}: give a directory, or a hub id such as org/name")
    if path.is_dir():
        return ModelFiles(model, path, _cached_commit(path))
    if path.exists():
        raise InputError(f"{model}: is a file; give the directory that holds config.json")
    identity, _, revision = model.partition("@")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+|[\w.-]+", identity) or model.startswith((".", "/", "~")):
        raise InputError(f"{model}: no such directory, and no hub id of the form org/name@revision")
    snapshot = _fetch(identity, revision or None)
    return ModelFiles(model, snapshot, _cached_commit(snapshot))


def _fetch(identity: str, revision: str | None) -> Path:
    from huggingface_hub import errors, snapshot_download  # only where something is fetched

    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
    asked = identity if revision is None else f"{identity}@{revision}"
    try:
        return Path(
            snapshot_download(
                identity,
                revision=revision,
                allow_patterns=_WANTED,
                ignore_patterns=_UNWANTED,
                local_files_only=offline,
            )
        )
    except errors.GatedRepoError as error:
        raise InputError(
            f"{asked}: accept its terms on https://huggingface.co/{identity} and set HF_TOKEN"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise InputError(f"{asked}: the hub has no such revision of it") from error
    except errors.RepositoryNotFoundError as error:
        raise InputError(
            f"{asked}: no such directory, and no such model on the hub (a private one needs "
            "HF_TOKEN)"
        ) from error
    except errors.HFValidationError as error:
        raise InputError(f"{asked}: is no hub id of the form org/name@revision") from error
    except (errors.LocalEntryNotFoundError, errors.HfHubHTTPError, OSError) as error:
        why = "HF_HUB_OFFLINE is set" if offline else "the hub cannot be reached"
        raise InputError(
            f"{asked}: is not in the local cache and {why}; fetch it where there is a network "
            f"(hf download {identity}), or give a directory"
        ) from error


def _cached_commit(path: Path) -> str | None:
    """The commit whose snapshot in the hub's cache a directory is."""
    path = path.resolve()
    is_snapshot = path.parent.name == "snapshots" and re.fullmatch(r"[0-9a-f]{40}", path.name)
    return path.name if is_snapshot else None


def file_inside(files: ModelFiles, name: str) -> Path:
    """The path of one of a model's files.

    Raises:
        InputError: there is none, it is no regular file, its name is no plain name, or it is a
            link that leads out of the directory.
    """
    if name != Path(name).name or "\\" in name or "\0" in name or name in ("", ".", ".."):
        raise InputError(f"{files.path}: {name!r} is no plain file name; nothing is read there")
    path = files.path / name
    if not path.exists():
        raise InputError(f"{files.path}: has no {name}")
    root = files.path.resolve()
    if _cached_commit(root) is not None:
        root = root.parents[1]  # the snapshot's files are links to blobs beside it
    real = path.resolve()
    if not real.is_relative_to(root):
        raise InputError(f"{path}: leads out of the model's directory; nothing is read there")
    if not real.is_file():
        raise InputError(f"{path}: is not a regular file")
    return path


def read_json(files: ModelFiles, name: str) -> dict[str, Any]:
    """The object in one of a model's JSON files.

    Raises:
        InputError: as `file_inside`; or it is too large, or holds no JSON object.
    """
    path = file_inside(files, name)
    size = path.stat().st_size
    if size > LARGEST_JSON:
        raise InputError(f"{path}: {size:,} bytes is too large (at most {LARGEST_JSON:,})")
    try:
        value = parse_json(path.read_bytes())
    except ValueError as error:
        raise InputError(f"{path}: is not JSON ({error})") from error
    if not isinstance(value, dict):
        raise InputError(f"{path}: holds a {type(value).__name__}, not an object")
    return value


def stored_tensors(files: ModelFiles) -> Mapping[str, StoredTensor]:
    """All tensors of a model, from the headers of its safetensors files.

    Raises:
        InputError: there is no safetensors file, a file is damaged, a tensor is in two files, or
            the index and the files contradict each other.
    """
    if not (files.path / INDEX).exists() and not (files.path / SINGLE).exists():
        raise InputError(f"{files.path}: has neither {SINGLE} nor {INDEX}; no other format is read")
    if (files.path / INDEX).exists():
        indexed = read_json(files, INDEX).get("weight_map")
        if not isinstance(indexed, dict) or not all(isinstance(v, str) for v in indexed.values()):
            raise InputError(f"{files.path / INDEX}: has no weight_map from names to files")
        shards = sorted(set(indexed.values()))
    else:
        indexed, shards = None, [SINGLE]
    tensors: dict[str, StoredTensor] = {}
    for shard in shards:
        for name, tensor in read_header(files, shard)[0].items():
            if name in tensors:
                raise InputError(f"{tensor.file}: {name} is in {tensors[name].file.name} too")
            tensors[name] = tensor
    for name, shard in (indexed or {}).items():
        if name not in tensors or tensors[name].file.name != shard:
            raise InputError(f"{files.path / INDEX}: puts {name} into {shard}, which lacks it")
    return tensors


def read_header(
    files: ModelFiles, name: str
) -> tuple[Mapping[str, StoredTensor], Mapping[str, str]]:
    """The tensors of one safetensors file, and the texts stored with them.

    Raises:
        InputError: as `file_inside`; or it is damaged, or no safetensors file.
    """
    path = file_inside(files, name)
    if path.suffix != ".safetensors":
        raise InputError(f"{path}: is not a safetensors file; no other format is read")
    try:
        with safe_open(path, "numpy", backend="pread") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            tensors = {
                name: StoredTensor(path, name, tuple(part.get_shape()), part.get_dtype())
                for name, part in slices.items()
            }
            return tensors, file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: is damaged, or no safetensors file ({error})") from error
