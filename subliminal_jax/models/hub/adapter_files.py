"""LoRA adapters as PEFT directories, written and read without PEFT.

PEFT's factors are ours transposed: `lora_A` is `[rank, in]`, `lora_B` `[out, rank]`. For modules
that hold several targets, see `models.hub.adapter_modules`.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from subliminal_jax.batch import Params
from subliminal_jax.errors import InputError, RunError
from subliminal_jax.files import strict_json
from subliminal_jax.models.decoder.config import DecoderConfig
from subliminal_jax.models.decoder.lora import TARGETS, LoraConfig
from subliminal_jax.models.export import check_equal, write_checked
from subliminal_jax.models.hub.adapter_modules import (
    fused_targets,
    module_name,
    patterns,
    stored_factors,
)
from subliminal_jax.models.hub.adapter_settings import read_settings
from subliminal_jax.models.hub.families import Family
from subliminal_jax.models.hub.model_files import ADAPTER as CONFIG
from subliminal_jax.models.hub.model_files import ModelFiles, read_header, read_json, shown
from subliminal_jax.models.hub.tensor_names import FLOATS
from subliminal_jax.models.hub.weights import LanguageModel, read_config

WEIGHTS = "adapter_model.safetensors"
_BASE, _BLOCKS, _ADAPTER = "base_model_sha256", "block_targets", "adapter_sha256"
"""Metadata beside the tensors: the base model's digest, the targets that are blocks of one module,
and the adapter's own digest, which covers its settings and the other two."""


def write_adapter(directory: Path, model: LanguageModel, lora: LoraConfig, adapter: Params) -> None:
    """Writes an adapter for PEFT, and reads it back before renaming it into place.

    Args:
        directory: must be absent or empty.
        model: the adapted model.
        lora: the adapter's settings.
        adapter: its factors.

    Raises:
        InputError: the directory is not empty, the disk is full, or the model is part of a
            multimodal one.
        RunError: the adapter read back differs from the one written.
    """
    family, config = _read_family(model)
    tensors = {}
    for stored in stored_factors(family, config, lora, apart=True):
        arrays = [np.asarray(adapter[f.part][f.target][f.side][f.at]) for f in stored.factors]
        tensors[stored.name] = np.ascontiguousarray(stored.join(arrays).T)
    blocks = fused_targets(family, lora.targets)
    ranks, alphas = patterns(family, lora, blocks)
    stated = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": model.files.name.partition("@")[0],
        "revision": model.files.commit,
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "rank_pattern": ranks,
        "alpha_pattern": alphas,
        "use_rslora": lora.rank_stabilised,
        "target_modules": sorted({module_name(family, name) for name in lora.targets}),
        "layers_to_transform": None if lora.layers is None else list(lora.layers),
        "layers_pattern": None if lora.layers is None else _pattern(family),
        "fan_in_fan_out": not family.transposed,
        "lora_dropout": 0.0,
        "bias": "none",
        "inference_mode": True,
    }
    metadata = {"format": "pt", _BASE: digest(model.params)}
    metadata |= {_BLOCKS: ",".join(blocks)} if blocks else {}
    metadata[_ADAPTER] = _digest_of(lora, adapter, metadata)

    def write(partial: Path) -> None:
        (partial / CONFIG).write_text(strict_json(stated, indent=2) + "\n")
        save_file(tensors, partial / WEIGHTS, metadata=metadata)

    def check(partial: Path) -> None:
        try:
            read_lora, read = read_adapter(partial, model)
        except InputError as error:
            raise RunError(f"{directory}: the adapter read back differs: {error}") from error
        if read_lora != _in_order(lora):
            raise RunError(f"{directory}: the settings read back differ from those written")
        check_equal(directory, adapter, read)

    write_checked(directory, write, check)


def read_adapter(directory: Path, model: LanguageModel) -> tuple[LoraConfig, Params]:
    """The settings and factors of a PEFT adapter of a model.

    Where PEFT itself adapted a module that holds several targets, each of them gets the module's
    `a` and its own columns of the module's `b`.

    Raises:
        InputError: it belongs to another model, is damaged or not LoRA, or has unsupported
            settings; a tensor is missing, extra or misshapen.
    """
    files = ModelFiles(str(directory), directory)
    family, config = _read_family(model)
    stated = read_json(files, CONFIG)
    tensors, metadata = read_header(files, WEIGHTS)
    blocks = metadata.get(_BLOCKS, "").split(",") if _BLOCKS in metadata else []
    lora = read_settings(directory / CONFIG, stated, family, config, blocks)
    if metadata.get(_BASE) not in (None, digest(model.params)):
        base = str(stated.get("base_model_name_or_path"))
        raise InputError(
            f"{directory}: is an adapter of another base ({shown(base)}), not of {model.files.name}"
        )
    wanted = list(stored_factors(family, config, lora, apart=bool(blocks)))
    for name in sorted(tensors.keys() ^ {stored.name for stored in wanted}):
        what = "is not part of this adapter" if name in tensors else "is missing"
        raise InputError(f"{directory / WEIGHTS}: {shown(name)} {what}")
    stacked: dict[tuple[str, str, str], list[np.ndarray]] = {}
    with safe_open(directory / WEIGHTS, "numpy", backend="pread") as file:
        for stored in wanted:
            where = f"{directory / WEIGHTS}: {stored.name}"
            if tensors[stored.name].shape != stored.shape[::-1]:
                raise InputError(
                    f"{where} is {list(tensors[stored.name].shape)}; an adapter of "
                    f"{model.files.name} has {list(stored.shape[::-1])}"
                )
            if tensors[stored.name].dtype not in FLOATS:
                raise InputError(
                    f"{where} is {tensors[stored.name].dtype}; supported are {', '.join(FLOATS)}"
                )
            with np.errstate(over="ignore"):  # an overflow is infinite, and so refused
                joined = np.asarray(file.get_tensor(stored.name), np.float32).T
            if not np.isfinite(joined).all():
                raise InputError(f"{where} holds NaN or infinite numbers; its training diverged")
            arrays = stored.split(joined)
            if not np.array_equal(stored.join(arrays), joined):
                raise InputError(f"{where} is not 0 outside the blocks of {', '.join(blocks)}")
            for factor, array in zip(stored.factors, arrays, strict=True):
                stacked.setdefault(factor[:3], []).append(array)
    adapter: dict[str, dict[str, dict[str, Any]]] = {}
    for (part, name, side), factors in stacked.items():
        adapter.setdefault(part, {}).setdefault(name, {})[side] = jnp.asarray(np.stack(factors))
    ours = {_BASE, _BLOCKS, _ADAPTER} & metadata.keys()
    if ours and metadata.get(_ADAPTER) != _digest_of(lora, adapter, metadata):
        raise InputError(
            f"{directory}: its settings or its weights were changed since it was written; write it "
            "again"
        )
    return lora, adapter


def _read_family(model: LanguageModel) -> tuple[Family, DecoderConfig]:
    family, config = read_config(model.files)
    if family.wrapper is not None:  # PEFT would find targets in the other parts too
        raise InputError(
            f"{model.files.name}: adapters of a multimodal model are not supported; save its "
            "language model alone in a directory and load that"
        )
    return family, config


def _in_order(lora: LoraConfig) -> LoraConfig:
    return replace(lora, targets=tuple(target for target in TARGETS if target in lora.targets))


def _digest_of(lora: LoraConfig, adapter: Params, metadata: Mapping[str, str]) -> str:
    """SHA-256 of all that determines what an adapter computes, its base model included."""
    beside = {name: metadata.get(name) for name in (_BASE, _BLOCKS)}
    decides = {"lora": asdict(_in_order(lora)), "factors": digest(adapter), **beside}
    return hashlib.sha256(strict_json(decides).encode()).hexdigest()


def digest(params: Params) -> str:
    """SHA-256 of parameters as float32: the same for every dtype that holds them exactly."""
    hashed = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        hashed.update(f"{jax.tree_util.keystr(path)} {leaf.shape}\n".encode())
        for row in leaf if leaf.ndim == 3 else [leaf]:
            hashed.update(np.ascontiguousarray(row, np.float32).tobytes())
    return hashed.hexdigest()


def _pattern(family: Family) -> str:
    return family.modules["layers/mlp/up"].split(".{layer}.")[0].split(".")[-1]
