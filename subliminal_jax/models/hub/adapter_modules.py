"""How our low-rank factors map to the modules that PEFT adapts.

Usually a module is one of our targets, and its two factors are ours. Where a family keeps several
targets in one module (GPT-2's `c_attn`: query, key and value), PEFT adapts them together. Our n
pairs of rank r then become one pair of rank n r: the `a` side by side, the `b` as blocks, each in
the columns of its own target, with zeros elsewhere.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import numpy as np

from subliminal_jax.keys import root_key
from subliminal_jax.models.decoder import lora as lora_tree
from subliminal_jax.models.decoder.config import DecoderConfig
from subliminal_jax.models.decoder.lora import TARGETS, LoraConfig
from subliminal_jax.models.hub.families import Family


class Factor(NamedTuple):
    """One of our factors in one layer.

    Attributes:
        part, target: the projection, as `attention`, `query`.
        side: "a" or "b".
        at: its index on the layer axis.
    """

    part: str
    target: str
    side: str
    at: int


@dataclass(frozen=True)
class StoredFactor:
    """One tensor of a PEFT adapter, and the factors that it holds.

    Attributes:
        name: of the tensor.
        shape: of the transposed tensor, `[in, rank]` or `[rank, out]`.
        factors: our factors in it.
        blocks: each factor's slices of the transposed tensor.
    """

    name: str
    shape: tuple[int, int]
    factors: tuple[Factor, ...]
    blocks: tuple[tuple[slice, slice], ...]

    def join(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        """The transposed tensor, from our factors."""
        joined = np.zeros(self.shape, np.float32)
        for block, array in zip(self.blocks, arrays, strict=True):
            joined[block] = array
        return joined

    def split(self, joined: np.ndarray) -> list[np.ndarray]:
        """Our factors, from the transposed tensor; values outside their blocks are dropped."""
        return [joined[block] for block in self.blocks]


def stored_factors(
    family: Family, config: DecoderConfig, lora: LoraConfig, apart: bool
) -> Iterator[StoredFactor]:
    """All tensors of an adapter.

    Args:
        family: of the model.
        config: of the model.
        lora: the adapter's settings.
        apart: whether targets of one module have ranks of their own, as in our adapters, or
            share one `a` and its ranks, as in PEFT's own.

    Raises:
        InputError: the model has no such layer or projection.
    """
    shapes = jax.eval_shape(lambda: lora_tree.init(config, lora, root_key(0)))
    layers = range(config.layers) if lora.layers is None else lora.layers
    modules: dict[str, list[str]] = {}
    for target in (target for target in TARGETS if target in lora.targets):
        modules.setdefault(family.modules[path_of(target)], []).append(target)
    for module, targets in modules.items():
        part = TARGETS[targets[0]]
        pair = shapes[part][targets[0]]
        inputs, outputs = pair["a"].shape[1], pair["b"].shape[2]
        ranks = [slice(lora.rank * i, lora.rank * (i + 1)) for i in range(len(targets))]
        ranks = ranks if apart else ranks[:1] * len(targets)
        columns, parts = [], 1
        for target in targets:
            place, parts = family.fused.get(path_of(target), (0, 1))
            columns.append(slice(outputs * place, outputs * (place + 1)))
        shape_of = {"a": (inputs, ranks[-1].stop), "b": (ranks[-1].stop, outputs * parts)}
        blocks_of = {
            "a": tuple((slice(None), rank) for rank in ranks),
            "b": tuple(zip(ranks, columns, strict=True)),
        }
        for at, layer in enumerate(layers):
            for side in ("a", "b"):
                name = f"base_model.model.{module.format(layer=layer)}.lora_{side.upper()}.weight"
                factors = tuple(Factor(part, target, side, at) for target in targets)
                yield StoredFactor(name, shape_of[side], factors, blocks_of[side])


def path_of(target: str) -> str:
    """The path of a target's module in our parameters."""
    return f"layers/{TARGETS[target]}/{target}"


def fused_targets(family: Family, targets: Sequence[str]) -> tuple[str, ...]:
    """Those of the targets that the family keeps in one module with others."""
    return tuple(t for t in TARGETS if t in targets and path_of(t) in family.fused)


def module_name(family: Family, target: str) -> str:
    """PEFT's name of a target: as much of the module's end as tells the targets apart."""
    name = family.modules[path_of(target)].split(".{layer}.")[1]
    return name.split(".")[-1] if family.transposed else name


def patterns(
    family: Family, lora: LoraConfig, blocks: Sequence[str]
) -> tuple[dict[str, int], dict[str, float]]:
    """PEFT's rank and alpha for a module of several blocks, so that each block keeps its scale.

    Args:
        family: of the model.
        lora: the adapter's settings.
        blocks: the targets that are blocks of one module.
    """
    if len(blocks) < 2:
        return {}, {}
    module, count = module_name(family, blocks[0]), len(blocks)
    times = block_factor(count, lora.rank_stabilised)
    return {module: count * lora.rank}, {module: times * lora.alpha}


def block_factor(count: int, rank_stabilised: bool) -> float:
    """The factor on alpha when `count` blocks share one module of their summed rank."""
    return math.sqrt(count) if rank_stabilised else float(count)
