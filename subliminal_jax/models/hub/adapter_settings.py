"""The settings of a PEFT adapter: read as PEFT reads them, or refused by name.

A setting that is not listed here must be absent, null, false or an empty list, PEFT's defaults for
what is turned off. An empty object is refused: it may turn a method on (`kasa_config`).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from subliminal_jax.errors import InputError
from subliminal_jax.models.decoder.config import DecoderConfig
from subliminal_jax.models.decoder.lora import TARGETS, LoraConfig
from subliminal_jax.models.hub.adapter_modules import block_factor, fused_targets, path_of
from subliminal_jax.models.hub.families import Family
from subliminal_jax.models.hub.model_files import shown
from subliminal_jax.models.hub.pattern_matching import matches

LARGEST_RANK = 65_536

_READ = (
    "peft_type", "task_type", "r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora",
    "target_modules", "exclude_modules", "layers_to_transform", "layers_pattern",
    "init_lora_weights", "bias",
)  # fmt: skip
HARMLESS = (
    # Where it comes from, and how it was trained.
    "base_model_name_or_path", "revision", "peft_version", "auto_mapping", "inference_mode",
    "lora_dropout", "runtime_config",
    # PEFT decides it by the kind of module.
    "fan_in_fan_out",
    # Read only by methods that are refused.
    "megatron_core", "qalora_group_size", "loftq_config", "eva_config", "corda_config",
    "lora_ga_config",
)  # fmt: skip
"""Settings that do not change what a trained adapter computes."""

_INITS = (None, True, False, "gaussian", "eva", "orthogonal", "mica")
"""Initialisations that leave the base weights alone: after training they no longer matter."""


def read_settings(
    path: Path,
    stated: Mapping[str, Any],
    family: Family,
    config: DecoderConfig,
    blocks: Sequence[str],
) -> LoraConfig:
    """Our settings of an `adapter_config.json`.

    Args:
        path: of the file.
        stated: what is in it.
        family: of the model.
        config: of the model.
        blocks: the targets that are blocks of one module.

    Raises:
        InputError: it is not LoRA, is malformed, or has unsupported settings; names the setting.
    """
    if stated.get("peft_type") != "LORA":
        raise InputError(
            f"{path}: peft_type {_short(stated.get('peft_type'))} is not supported; LORA is"
        )
    _check_known(path, stated)
    fused = fused_targets(family, tuple(TARGETS))
    if not set(blocks) <= set(fused):
        raise InputError(
            f"{path.parent}: block_targets={','.join(blocks)} is not supported; supported are "
            f"{', '.join(fused) or 'none'}"
        )
    left_out = set(fused) - set(blocks) if blocks else set()
    try:
        adapted = {
            name: (layer, [target for target in targets if target not in left_out])
            for name, (layer, targets) in _adapted(stated, family, config).items()
        }
        targets, layers = _rectangle(stated, adapted, config)
        rank, alpha = _size(stated, adapted, blocks)
        return LoraConfig(
            rank=rank,
            alpha=alpha,
            targets=targets,
            rank_stabilised=bool(stated.get("use_rslora")),
            layers=layers,
        )
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _check_known(path: Path, stated: Mapping[str, Any]) -> None:
    def refuse(name: str) -> None:
        raise InputError(f"{path}: {shown(name)}={_short(stated[name])} is not supported")

    for name, value in stated.items():
        off = value is None or value is False or value == []
        if name not in _READ and name not in HARMLESS and not off:
            refuse(name)
    for name, known in (
        ("bias", (None, "none")),
        ("task_type", (None, "CAUSAL_LM")),
        ("use_rslora", (None, False, True)),
        ("init_lora_weights", _INITS),
    ):
        value = stated.get(name)
        value = value.lower() if name == "init_lora_weights" and isinstance(value, str) else value
        if not any(value is one or (isinstance(value, str) and value == one) for one in known):
            refuse(name)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 120 else text[:120] + "..."


def _adapted(
    stated: Mapping[str, Any], family: Family, config: DecoderConfig
) -> dict[str, tuple[int, list[str]]]:
    """The modules that PEFT adapts: name -> (layer, our targets in it)."""
    ours: dict[str, tuple[int, list[str]]] = {}
    for target in TARGETS:
        for layer in range(config.layers if path_of(target) in family.modules else 0):
            name = family.modules[path_of(target)].format(layer=layer)
            ours.setdefault(name, (layer, []))[1].append(target)
    names = sorted({part for name in _modules(family, config) for part in _within(name)})
    reached = set(_included(stated, names, list(ours), config.layers))
    reached -= set(_named("exclude_modules", stated.get("exclude_modules") or [], names))
    if others := sorted(reached - ours.keys()):
        raise InputError(
            f"target_modules={_short(stated.get('target_modules'))} reaches {others[0]}, where "
            "adapters are not supported"
        )
    if not reached:
        known = dict.fromkeys(name.rpartition(".")[2] for name in ours)
        raise InputError(
            f"target_modules={_short(stated.get('target_modules'))} matches no module; supported "
            f"are {', '.join(known)}"
        )
    return {name: ours[name] for name in ours if name in reached}


def _modules(family: Family, config: DecoderConfig) -> list[str]:
    """All modules of a model that have weights."""
    names = []
    for path, module in family.modules.items():
        layers = range(config.layers) if path.startswith("layers/") else range(1)
        names += [module.format(layer=layer) for layer in layers]
    return names


def _within(name: str) -> list[str]:
    """The names of a module and of all modules that contain it."""
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts) + 1)]


def _included(
    stated: Mapping[str, Any], names: Sequence[str], linear: Sequence[str], count: int
) -> list[str]:
    """The names that `target_modules` selects, in the layers of `layers_to_transform`."""
    targets: Any = stated.get("target_modules")
    layers: Any = stated.get("layers_to_transform")
    if isinstance(targets, str):
        if layers not in (None, []) or stated.get("layers_pattern"):
            raise InputError("layers_to_transform has no effect where target_modules is text")
        return (
            list(linear)
            if targets.lower() == "all-linear"
            else (_named("target_modules", targets, names))
        )
    matched = _named("target_modules", targets, names)
    if layers in (None, []):
        return matched
    wanted = [layers] if _is_count(layers) else layers
    if not isinstance(wanted, list) or not all(map(_is_count, wanted)):
        raise InputError(f"is malformed: layers_to_transform={_short(layers)}")
    if beyond := [layer for layer in wanted if not 0 <= layer < count]:
        raise InputError(
            f"layers_to_transform names {_short(beyond[0])}; the model has layers 0 to {count - 1}"
        )
    pattern = stated.get("layers_pattern") or []
    pattern = [pattern] if isinstance(pattern, str) else pattern
    holders = {name.split(".")[1] for name in linear}
    if pattern and not (
        isinstance(pattern, list)
        and all(isinstance(one, str) and one.isidentifier() for one in pattern)
        and holders <= set(pattern)
    ):
        raise InputError(
            f"layers_pattern={_short(pattern)} is not supported; supported is {', '.join(holders)}"
        )
    prefixes = {f"{name.split('.')[0]}.{name.split('.')[1]}.{layer}."
                for name in linear for layer in wanted}  # fmt: skip
    return [name for name in matched if name in targets or any(map(name.startswith, prefixes))]


def _named(field: str, picked: Any, names: Sequence[str]) -> list[str]:
    """The names that a list selects by their ends, or a regular expression as a whole."""
    if isinstance(picked, str):
        try:
            (row,) = matches([picked], names)
        except InputError as error:
            raise InputError(f"{field}: {error}") from error
        return [name for name, chosen in zip(names, row, strict=True) if chosen]
    if not isinstance(picked, list) or not all(isinstance(one, str) for one in picked):
        raise InputError(f"{field}={_short(picked)} is neither a list of names nor text")
    ends = set(picked)
    return [name for name in names if not ends.isdisjoint(_ends(name))]


def _ends(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[start:]) for start in range(len(parts))]


def _rectangle(
    stated: Mapping[str, Any],
    adapted: Mapping[str, tuple[int, list[str]]],
    config: DecoderConfig,
) -> tuple[tuple[str, ...], tuple[int, ...] | None]:
    """The targets, and the layers that have them; None for all layers."""
    pairs = {(target, layer) for layer, targets in adapted.values() for target in targets}
    layers = sorted({layer for _, layer in pairs})
    targets = {target for target, _ in pairs}
    if len(pairs) != len(targets) * len(layers):
        raise InputError(
            f"target_modules={_short(stated.get('target_modules'))} adapts different modules "
            "in different layers; supported are the same modules in every adapted layer"
        )
    asked = stated.get("layers_to_transform")
    if isinstance(asked, list) and sorted(set(asked)) == layers:
        layers = list(dict.fromkeys(asked))  # our factors are stored in this order
    elif len(layers) == config.layers:
        layers = None
    return tuple(target for target in TARGETS if target in targets), (
        None if layers is None else tuple(layers)
    )


def _size(
    stated: Mapping[str, Any],
    adapted: Mapping[str, tuple[int, list[str]]],
    blocks: Sequence[str],
) -> tuple[int, float]:
    """The rank and alpha that all targets share."""
    names = list(adapted)
    ranks = _patterned(stated, "rank_pattern", "r", names)
    alphas = _patterned(stated, "alpha_pattern", "lora_alpha", names)
    sizes = set()
    for name, rank, alpha in zip(names, ranks, alphas, strict=True):
        if not _is_count(rank) or not 1 <= rank <= LARGEST_RANK:
            raise InputError(
                f"is malformed: r={_short(rank)} of {name}: must be a count from 1 to "
                f"{LARGEST_RANK:,}"
            )
        if isinstance(alpha, bool) or not isinstance(alpha, int | float):
            raise InputError(f"is malformed: lora_alpha={_short(alpha)} of {name} is not a number")
        count = sum(target in blocks for target in adapted[name][1]) or 1
        times = block_factor(count, bool(stated.get("use_rslora")))
        if rank % count:
            raise InputError(f"rank_pattern: {rank} of {name} is not a multiple of {count} blocks")
        # The stated alpha, if it is exactly what was multiplied: dividing would round.
        part = stated.get("lora_alpha")
        exact = isinstance(part, int | float) and times * part == alpha
        sizes.add((rank // count, float(part if exact else alpha / times)))
    if len(sizes) > 1:
        ranks_differ = len({rank for rank, _ in sizes}) > 1
        name = "rank_pattern" if ranks_differ else "alpha_pattern"
        raise InputError(
            f"{name}={_short(stated.get(name))} is not supported: modules differ; supported is one "
            f"{'rank' if ranks_differ else 'alpha'} for all"
        )
    ((rank, alpha),) = sizes
    return rank, alpha


def _patterned(stated: Mapping[str, Any], field: str, plain: str, names: Sequence[str]) -> list:
    """Each module's value: of the first pattern that matches its end, else the plain one."""
    patterns = stated.get(field) or {}
    if not isinstance(patterns, dict):
        raise InputError(f"is malformed: {field}={_short(patterns)} is not an object")
    if plain not in stated:
        raise InputError(f"is malformed: there is no {plain}")
    values = [stated[plain]] * len(names)
    try:
        rows = matches(list(patterns), names, ends=True)
    except InputError as error:
        raise InputError(f"{field}: {error}") from error
    for row, value in reversed(list(zip(rows, patterns.values(), strict=True))):
        values = [value if hit else old for hit, old in zip(row, values, strict=True)]
    return values


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
