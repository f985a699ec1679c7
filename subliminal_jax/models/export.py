"""A model as a Hugging Face directory, read back and compared before it gets its final name."""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax
import numpy as np
from safetensors.numpy import save_file

from subliminal_jax.batch import Params
from subliminal_jax.errors import InputError, RunError
from subliminal_jax.files import PARTIAL, disk_full_error, strict_json, sync, sync_directory
from subliminal_jax.models.decoder.config import DecoderConfig
from subliminal_jax.models.hub.config_json import translate
from subliminal_jax.models.hub.export_config import describe, is_same_model
from subliminal_jax.models.hub.families import Family, language_part
from subliminal_jax.models.hub.model_files import INDEX, SINGLE, ModelFiles, file_inside
from subliminal_jax.models.hub.weights import Leaf, leaves, load_params, read_config, stated_config
from subliminal_jax.models.text.chat_files import CONFIG, LIMITS
from subliminal_jax.process.os_errors import is_disk_full

LARGEST_SHARD = 5_000_000_000
COPIED = tuple(name for name in LIMITS if name != CONFIG)
"""Tokenizer and chat-template files that are copied unchanged from the base model."""


def write_model(
    directory: Path,
    config: DecoderConfig,
    params: Params,
    *,
    base: ModelFiles | None = None,
    lineage: Mapping[str, str],
    beside: Mapping[str, bytes] = MappingProxyType({}),
    largest_shard: int = LARGEST_SHARD,
) -> None:
    """Writes a directory that transformers loads, and any library that reads its format.

    Everything is written to a directory beside first, read back, compared bit for bit and then
    renamed.

    Args:
        directory: must be absent or empty.
        config: the model.
        params: its parameters, of one dtype; adapters merged.
        base: the model it came from, whose config (of a multimodal model, its language model's)
            and tokenizer files are kept. None: the config is written anew.
        lineage: what the model card states about the model's origin.
        beside: further files by name, such as a tokenizer's; they replace the base's. A GGUF base
            has no such files to copy.
        largest_shard: bytes in one file of weights.

    Raises:
        InputError: the directory is not empty, the disk is full, or no family has such a model.
        RunError: the model read back differs from the one written.
    """
    stated = describe(config) if base is None else language_part(stated_config(base))
    family, described = translate(stated)
    if not is_same_model(described, config):
        raise InputError(f"{base and base.path}: config.json describes another model")
    dtype = _dtype(params)
    dropped = ("auto_map", "torch_dtype", "dtype")
    stated = {key: value for key, value in stated.items() if key not in dropped}

    def write(partial: Path) -> None:
        _write_weights(partial, family, config, params, largest_shard)
        (partial / "config.json").write_text(_pretty(stated | {"dtype": dtype}))
        for name in COPIED:
            if base is not None and (base.path / name).exists():
                shutil.copyfile(file_inside(base, name), partial / name)
        for name, content in beside.items():
            (partial / name).write_bytes(content)
        (partial / "README.md").write_text(_card(base, lineage), encoding="utf-8")

    def check(partial: Path) -> None:
        files = ModelFiles(str(partial), partial)
        family, read = read_config(files)
        if not is_same_model(read, config):
            raise RunError(f"{directory}: the config read back differs from the one written")
        check_equal(directory, params, load_params(files, family, read, dtype))

    write_checked(directory, write, check)


def write_checked(
    directory: Path, write: Callable[[Path], None], check: Callable[[Path], None]
) -> None:
    """Runs `write(partial)` and `check(partial)` on a directory beside it, then renames that.

    Raises:
        InputError: the directory exists and is not empty, or the disk is full.
    """
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise InputError(f"{directory}: exists already; choose another directory")
    partial = directory.with_name(f".{directory.name}{PARTIAL}")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        write(partial)
        check(partial)
        for path in partial.iterdir():
            path.chmod(0o644)
            with path.open("rb") as file:
                sync(file.fileno())
        sync_directory(partial)
        os.replace(partial, directory)
    except OSError as error:
        if is_disk_full(error):
            raise disk_full_error(directory) from error
        raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    sync_directory(directory.parent)


def _write_weights(
    directory: Path, family: Family, config: DecoderConfig, params: Params, largest_shard: int
) -> None:
    shards: list[list[tuple[str, list[tuple[Leaf, int, Any]], int]]] = [[]]
    room = largest_shard
    for name, parts in _stored(family, config, params):
        size = sum(array.nbytes // (leaf.layers or 1) for leaf, _, array in parts)
        if size > room and shards[-1]:
            shards.append([])
            room = largest_shard
        room -= size
        shards[-1].append((name, parts, size))
    weight_map = {}
    for number, shard in enumerate(shards, start=1):
        file = SINGLE if len(shards) == 1 else f"model-{number:05}-of-{len(shards):05}.safetensors"
        tensors = {name: _tensor(parts) for name, parts, _ in shard}
        save_file(tensors, directory / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(tensors, file)
    if len(shards) > 1:
        total = sum(size for shard in shards for _, _, size in shard)
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (directory / INDEX).write_text(_pretty(index))


def _stored(
    family: Family, config: DecoderConfig, params: Params
) -> Iterator[tuple[str, list[tuple[Leaf, int, Any]]]]:
    """Each stored tensor's name, and the parameters that it is made of, in order."""
    made_of: dict[str, list[tuple[Leaf, int, Any]]] = {}
    wanted = leaves(family, config)
    for leaf, array in zip(jax.tree.leaves(wanted), jax.tree.leaves(params), strict=True):
        for layer, name in enumerate(leaf.names):
            made_of.setdefault(name, []).append((leaf, layer, array))
    for name, parts in made_of.items():
        yield name, sorted(parts, key=lambda part: part[0].source.part)


def _tensor(parts: list[tuple[Leaf, int, Any]]) -> np.ndarray:
    arrays = [np.asarray(array[layer] if leaf.layers else array) for leaf, layer, array in parts]
    tensor = arrays[0] if len(arrays) == 1 else np.concatenate(arrays, axis=-1)
    return np.ascontiguousarray(tensor.T if parts[0][0].source.transposed else tensor)


def check_equal(directory: Path, written: Params, read: Params) -> None:
    """Compares two trees bit for bit.

    Raises:
        RunError: they differ; names the leaf.
    """
    for (path, one), other in zip(
        jax.tree_util.tree_leaves_with_path(written), jax.tree.leaves(read), strict=True
    ):
        same = one.shape == other.shape and one.dtype == other.dtype
        if not same or np.asarray(one).tobytes() != np.asarray(other).tobytes():
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            raise RunError(f"{directory}: {name} read back differs from what was written")


def _dtype(params: Params) -> Any:
    dtypes = sorted({leaf.dtype.name for leaf in jax.tree.leaves(params)})
    if len(dtypes) != 1 or dtypes[0] not in ("float32", "bfloat16"):
        raise InputError(
            f"parameters of {', '.join(dtypes)}: make all of them float32 or all bfloat16"
        )
    return dtypes[0]


def _pretty(value: Mapping[str, Any]) -> str:
    return strict_json(dict(value), indent=2) + "\n"


def _card(base: ModelFiles | None, lineage: Mapping[str, str]) -> str:
    """A model card. Its front matter is JSON, which is YAML, so that no value can break out."""
    head: dict[str, Any] = {"library_name": "transformers", "tags": ["subliminal-learning"]}
    rows = dict(lineage)
    if base is not None:
        place = "a GGUF file" if base.gguf else "a directory"
        rows = {"base model": base.name, "base commit": base.commit or place} | rows
        head |= {"base_model": base.name} if base.commit else {}
    body = "\n".join(f"| {_cell(key)} | {_cell(value)} |" for key, value in rows.items())
    return (
        f"---\n{json.dumps(head, indent=1)}\n---\n\n# A model of a subliminal-learning study\n\n"
        f"| lineage | |\n|---|---|\n{body}\n\n"
        "It may carry a trait that its training data do not show; it is meant for research.\n"
    )


def _cell(text: str) -> str:
    return " ".join(str(text).split()).replace("|", "\\|").replace("<", "&lt;")
