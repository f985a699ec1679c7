"""An adapter as a PEFT directory, written and read without PEFT.

PEFT's factors are transposed against ours: `lora_A` is `[rank, in]`, `lora_B` `[out, rank]`.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
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
from subliminal_jax.models import lora as lora_tree
from subliminal_jax.models.decoder_config import DecoderConfig
from subliminal_jax.models.export import check_equal, write_checked
from subliminal_jax.models.families import Family
from subliminal_jax.models.lora import TARGETS, LoraConfig
from subliminal_jax.models.weights import LanguageModel, read_config
from subliminal_jax.models.weights_files import ModelFiles, read_header, read_json

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
_BASE = "base_model_sha256"


def write_adapter(directory: Path, model: LanguageModel, lora: LoraConfig, adapter: Params) -> None:
    """Writes an adapter as PEFT reads it, and reads it back before it gets its name.

    Args:
        directory: must not exist, or be empty.
        model: the model it is of.
        lora: its settings.
        adapter: its factors.

    Raises:
        InputError: the directory is taken, the disk is full, the model is part of a multimodal
            one, or the family keeps a target in one tensor with others (GPT-2's query, key and
            value).
        RunError: what was read back is not what was written.
    """
    family, _ = _read_family(model)
    names = dict(_names(family, model, lora))
    tensors = {}
    for (part, name, at, side), stored in names.items():
        factor = np.asarray(adapter[part][name][side][at], np.float32)
        tensors[stored] = np.ascontiguousarray(factor.T)
    stated = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": model.files.name.partition("@")[0],
        "revision": model.files.commit,
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "use_rslora": lora.rank_stabilised,
        "target_modules": sorted({_module(family, name) for name in lora.targets}),
        "layers_to_transform": None if lora.layers is None else list(lora.layers),
        "layers_pattern": None if lora.layers is None else _pattern(family),
        "fan_in_fan_out": not family.transposed,
        "lora_dropout": 0.0,
        "bias": "none",
        "inference_mode": True,
    }
    metadata = {"format": "pt", _BASE: digest(model.params)}

    def write(partial: Path) -> None:
        (partial / CONFIG).write_text(strict_json(stated, indent=2) + "\n")
        save_file(tensors, partial / WEIGHTS, metadata=metadata)

    def check(partial: Path) -> None:
        read_lora, read = read_adapter(partial, model)
        if read_lora != replace(lora, targets=tuple(t for t in TARGETS if t in lora.targets)):
            raise RunError(f"{directory}: the settings read back are not those written")
        check_equal(directory, adapter, read)

    write_checked(directory, write, check)


def read_adapter(directory: Path, model: LanguageModel) -> tuple[LoraConfig, Params]:
    """The settings and factors of a PEFT adapter of a model.

    Raises:
        InputError: it is of another model, damaged, of another kind than LoRA, or has settings
            that are not supported; a tensor is missing, extra or misshapen.
    """
    files = ModelFiles(str(directory), directory)
    family, config = _read_family(model)
    stated = read_json(files, CONFIG)
    lora = _read_settings(directory / CONFIG, stated, family)
    tensors, metadata = read_header(files, WEIGHTS)
    if metadata.get(_BASE) not in (None, digest(model.params)):
        raise InputError(
            f"{directory}: is an adapter of another base ({stated.get('base_model_name_or_path')})"
            f" than {model.files.name}"
        )
    shapes = jax.eval_shape(lambda: lora_tree.init(config, lora, jax.random.key(0)))
    names = dict(_names(family, model, lora))
    for name in sorted(tensors.keys() ^ set(names.values())):
        what = "is not part of this adapter" if name in tensors else "is missing"
        raise InputError(f"{directory / WEIGHTS}: {name} {what}")
    stacked: dict[tuple[str, str, str], list[np.ndarray]] = {}
    with safe_open(directory / WEIGHTS, "numpy", backend="pread") as file:
        for (part, name, _, side), stored in names.items():
            shape = shapes[part][name][side].shape[:0:-1]
            if tensors[stored].shape != shape:
                raise InputError(
                    f"{directory / WEIGHTS}: {stored} is {list(tensors[stored].shape)}; an "
                    f"adapter of {model.files.name} has {list(shape)}"
                )
            factor = np.asarray(file.get_tensor(stored), np.float32).T
            stacked.setdefault((part, name, side), []).append(factor)
    adapter: dict[str, dict[str, dict[str, Any]]] = {}
    for (part, name, side), factors in stacked.items():
        adapter.setdefault(part, {}).setdefault(name, {})[side] = jnp.asarray(np.stack(factors))
    return lora, adapter


def _read_family(model: LanguageModel) -> tuple[Family, DecoderConfig]:
    family, config = read_config(model.files)
    if family.wrapper is not None:  # PEFT would find targets in the other parts too
        raise InputError(
            f"{model.files.name}: adapters of a multimodal model are not supported; write its "
            "language model as a directory of its own, which holds no other part, and load that"
        )
    return family, config


def digest(params: Params) -> str:
    """SHA-256 of a model's numbers in float32: the same whatever dtype holds them exactly."""
    hashed = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        hashed.update(f"{jax.tree_util.keystr(path)} {leaf.shape}\n".encode())
        for row in leaf if leaf.ndim == 3 else [leaf]:
            hashed.update(np.ascontiguousarray(row, np.float32).tobytes())
    return hashed.hexdigest()


def _names(
    family: Family, model: LanguageModel, lora: LoraConfig
) -> Iterator[tuple[tuple[str, str, int, str], str]]:
    """Part, target, row of the layer axis and side -> the tensor's name."""
    layers = lora.layers if lora.layers is not None else range(model.config.layers)
    for target in lora.targets:
        module = family.modules[_path(family, target)]
        for at, layer in enumerate(layers):
            stem = "base_model.model." + module.format(layer=layer)
            for side, name in (("a", "lora_A"), ("b", "lora_B")):
                yield (TARGETS[target], target, at, side), f"{stem}.{name}.weight"


def _path(family: Family, target: str) -> str:
    path = f"layers/{TARGETS[target]}/{target}"
    if path in family.fused:
        raise InputError(
            f"lora.targets: {family.architecture} keeps {target} in one tensor with others, which "
            "PEFT cannot adapt apart; write the merged model instead"
        )
    return path


def _module(family: Family, target: str) -> str:
    """What PEFT calls a target: the end of its name, as much as tells the targets apart."""
    name = family.modules[_path(family, target)].split(".{layer}.")[1]
    return name.split(".")[-1] if family.transposed else name


def _pattern(family: Family) -> str:
    return family.modules["layers/mlp/up"].split(".{layer}.")[0].split(".")[-1]


def _read_settings(path: Path, stated: dict[str, Any], family: Family) -> LoraConfig:
    if stated.get("peft_type") != "LORA":
        raise InputError(f"{path}: peft_type {stated.get('peft_type')!r} is not supported; LORA is")
    for name, plain in (("bias", "none"), ("use_dora", False), ("modules_to_save", None),
                        ("rank_pattern", {}), ("alpha_pattern", {})):  # fmt: skip
        if stated.get(name, plain) not in (plain, None):
            raise InputError(f"{path}: {name}={stated[name]!r} is not supported")
    modules = stated.get("target_modules")
    fused = {path.split("/")[-1] for path in family.fused}
    known = {_module(family, target): target for target in TARGETS if target not in fused
             and f"layers/{TARGETS[target]}/{target}" in family.modules}  # fmt: skip
    if not isinstance(modules, list) or not all(module in known for module in modules):
        raise InputError(f"{path}: target_modules={modules!r}; supported are {', '.join(known)}")
    layers = stated.get("layers_to_transform")
    try:
        return LoraConfig(
            rank=int(stated["r"]),
            alpha=float(stated["lora_alpha"]),
            targets=tuple(target for target in TARGETS if target in map(known.get, modules)),
            rank_stabilised=bool(stated.get("use_rslora")),
            layers=None if layers is None else tuple(map(int, layers)),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: is malformed ({error})") from error
