"""Low-rank adapters (Hu et al. 2021) as a parameter tree beside a frozen model.

The tree holds what is trained and nothing else: `{"attention": {"query": {"a", "b"}}, ...}`
with `a` `[layers, in, rank]` and `b` `[layers, rank, out]`. Several adapters of one model are
`jax.vmap` over such trees, the model itself unmapped.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array

from subliminal_jax.batch import Params, RandomKey
from subliminal_jax.errors import InputError
from subliminal_jax.keys import named_key
from subliminal_jax.models.decoder import decoder, forms
from subliminal_jax.models.decoder.config import DecoderConfig

TARGETS: Mapping[str, str] = {
    "query": "attention",
    "key": "attention",
    "value": "attention",
    "output": "attention",
    "gate": "mlp",
    "up": "mlp",
    "down": "mlp",
}
"""The projections of a layer -> the part they belong to."""


@dataclass(frozen=True, kw_only=True)
class LoraConfig:
    """Which kernels get an adapter, and of what size.

    Attributes:
        rank: of each product `a b`.
        alpha: the product is scaled by `alpha / rank`.
        targets: names of `TARGETS`.
        rank_stabilised: scale by `alpha / sqrt(rank)` instead (Kalajdzievski 2023).
        layers: which layers, from 0; None for all.
    """

    rank: int = 8
    alpha: float = 8.0
    targets: tuple[str, ...] = tuple(TARGETS)
    rank_stabilised: bool = False
    layers: tuple[int, ...] | None = None

    def __post_init__(self):
        if self.rank < 1:
            raise InputError(f"lora.rank={self.rank}: must be at least 1")
        if not math.isfinite(self.alpha) or self.alpha <= 0:
            raise InputError(f"lora.alpha={self.alpha}: must be positive and finite")
        unknown = sorted(set(self.targets) - set(TARGETS))
        if unknown or not self.targets or len(set(self.targets)) < len(self.targets):
            raise InputError(
                f"lora.targets={','.join(self.targets)}: choose some of {', '.join(TARGETS)}, "
                "each once"
            )

    @property
    def scale(self) -> float:
        """The factor of the product `a b`."""
        return self.alpha / (math.sqrt(self.rank) if self.rank_stabilised else self.rank)


def init(config: DecoderConfig, lora: LoraConfig, key: RandomKey) -> Params:
    """A fresh adapter, float32: `a` uniform between `-1 / sqrt(in)` and `1 / sqrt(in)`, `b` zero.

    With `b` zero the adapted model is the model itself.

    Raises:
        InputError: the model has no such layer or projection.
    """
    layers = _layers(config, lora)
    adapter: dict[str, dict[str, Params]] = {}
    for part, name, (_, inputs, outputs) in _kernels(config, lora):
        bound = inputs**-0.5
        adapter.setdefault(part, {})[name] = {
            "a": jax.random.uniform(
                named_key(key, name), (len(layers), inputs, lora.rank), minval=-bound, maxval=bound
            ),
            "b": jnp.zeros((len(layers), lora.rank, outputs)),
        }
    return adapter


def scaled(config: DecoderConfig, lora: LoraConfig, adapter: Params) -> Params:
    """The adapter as `decoder.apply` takes it: scaled, and zero in layers without one."""
    layers = jnp.asarray(_layers(config, lora))

    def spread(leaf: Array) -> Array:
        if lora.layers is None:
            return leaf
        return jnp.zeros((config.layers, *leaf.shape[1:]), leaf.dtype).at[layers].set(leaf)

    def scale(pair: Params) -> Params:
        return {"a": spread(pair["a"]), "b": spread(pair["b"] * lora.scale)}

    return {
        "layers": {
            part: {name: scale(pair) for name, pair in pairs.items()}
            for part, pairs in adapter.items()
        }
    }


def merge(config: DecoderConfig, lora: LoraConfig, params: Params, adapter: Params) -> Params:
    """The parameters with the adapter merged in: each kernel plus its scaled product.

    The sum is taken in float32 and rounded once, to the kernel's dtype.
    """
    params = forms.stacked(params)
    layers = params["layers"]
    merged = {part: dict(projections) for part, projections in layers.items()}
    for part, pairs in scaled(config, lora, adapter)["layers"].items():
        for name, pair in pairs.items():
            kernel = layers[part][name]["kernel"]
            product = jnp.einsum(
                "lir,lro->lio", pair["a"], pair["b"], precision=jax.lax.Precision.HIGHEST
            )
            total = (kernel.astype(jnp.float32) + product).astype(kernel.dtype)
            merged[part][name] = {**layers[part][name], "kernel": total}
    return {**params, "layers": merged}


def _layers(config: DecoderConfig, lora: LoraConfig) -> tuple[int, ...]:
    if lora.layers is None:
        return tuple(range(config.layers))
    layers = lora.layers
    if (
        not layers
        or len(set(layers)) < len(layers)
        or not all(0 <= n < config.layers for n in layers)
    ):
        raise InputError(
            f"lora.layers={','.join(map(str, layers))}: the model has layers 0 to "
            f"{config.layers - 1}; name some, each once"
        )
    return layers


def _kernels(
    config: DecoderConfig, lora: LoraConfig
) -> Iterator[tuple[str, str, tuple[int, int, int]]]:
    """Part, name and kernel shape of each target."""
    shapes = decoder.shapes(config)["layers"]
    for name in lora.targets:
        part = TARGETS[name]
        if name not in shapes[part]:
            raise InputError(f"lora.targets: this model has no projection {name!r}")
        yield part, name, shapes[part][name]["kernel"].shape
