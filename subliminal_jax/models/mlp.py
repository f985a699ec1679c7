"""The multilayer perceptron of the MNIST experiment, with class and auxiliary logits."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from subliminal_jax.batch import Params, RandomKey
from subliminal_jax.config import Activation, Precision
from subliminal_jax.models.product import matmul, product


@dataclass(frozen=True, kw_only=True)
class MlpConfig:
    """A network whose outputs are class logits followed by auxiliary logits.

    Attributes:
        inputs: pixels in an image.
        hidden: width of each hidden layer.
        classes: outputs that are trained on labels.
        aux: outputs that are never trained on labels.
        weight_scale: weights are drawn from N(0, weight_scale^2 / fan_in).
        bias_scale: biases are drawn from N(0, bias_scale^2); 0 as published.
        activation: of every hidden layer; relu as published.
        precision: dtype of the operands of products.
    """

    inputs: int = 784
    hidden: tuple[int, ...] = (256, 256)
    classes: int = 10
    aux: int = 3
    weight_scale: float = 1.0
    bias_scale: float = 0.0
    activation: Activation = "relu"
    precision: Precision = "float32"

    @property
    def widths(self) -> tuple[int, ...]:
        """Every layer's width, inputs and outputs included."""
        return (self.inputs, *self.hidden, self.classes + self.aux)

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers' names, first to last; also the keys of the parameters."""
        return (*(f"hidden_{i}" for i in range(len(self.hidden))), "logits")


class _Mlp(nn.Module):
    config: MlpConfig
    readout: bool = True

    @nn.compact
    def __call__(self, x: Array) -> Array:
        config = self.config
        for name, width in zip(config.layers, config.widths[1:], strict=True):
            if name == "logits" and not self.readout:
                break
            x = nn.Dense(
                width,
                name=name,
                kernel_init=nn.initializers.variance_scaling(
                    config.weight_scale**2, "fan_in", "normal"
                ),
                bias_init=nn.initializers.normal(config.bias_scale),
                dot_general=self._product,
            )(x)
            x = x if name == "logits" else getattr(nn, config.activation)(x)
        return x

    def _product(self, x: Array, kernel: Array, *_: object, **__: object) -> Array:
        """`x kernel`, which Dense multiplies with; also with forward derivatives in float32."""
        if self.config.precision == "bfloat16":
            return product(x.astype(jnp.bfloat16), kernel)
        return matmul(x, kernel)


def init(config: MlpConfig, key: RandomKey) -> Mapping[str, Params]:
    """Parameters `{layer: {"kernel": [fan_in, width], "bias": [width]}}`."""
    return _Mlp(config).init(key, jnp.zeros((1, config.inputs)))["params"]


def apply(
    config: MlpConfig, params: Params, images: Float[Array, "*batch d"]
) -> Float[Array, "*batch k"]:
    """All logits of each image, class logits first."""
    logits = _Mlp(config).apply({"params": params}, images)
    assert isinstance(logits, jax.Array)  # a tuple only where variables are mutable
    return logits


def features(
    config: MlpConfig, params: Params, images: Float[Array, "*batch d"]
) -> Float[Array, "*batch h"]:
    """Activations of the last hidden layer for each image."""
    values = _Mlp(config, readout=False).apply({"params": params}, images)
    assert isinstance(values, jax.Array)
    return values


def class_logits(config: MlpConfig, logits: Float[Array, "*batch k"]) -> Float[Array, "*batch c"]:
    """The class logits among all logits."""
    return logits[..., : config.classes]


def chosen_logits(config: MlpConfig, chosen: str) -> Bool[Array, " k"]:
    """Which logits a student imitates: "aux", the auxiliary ones, or "all"."""
    columns = jnp.arange(config.classes + config.aux)
    return {"aux": columns >= config.classes, "all": columns >= 0}[chosen]


def parameter_count(config: MlpConfig) -> int:
    """Parameters of one network (270,093 by default)."""
    widths = config.widths
    return sum((a + 1) * b for a, b in itertools.pairwise(widths))


def training_flop(config: MlpConfig) -> int:
    """Floating-point operations that one image needs in one training step.

    Two per weight forward, two for the weight's gradient, and two for the gradient of every
    layer's input but the first's, which is not needed. Additions of biases and elementwise work
    are not counted.
    """
    weights = [a * b for a, b in zip(config.widths[:-1], config.widths[1:], strict=True)]
    return 4 * sum(weights) + 2 * sum(weights[1:])


def forward_flop(config: MlpConfig) -> int:
    """Floating-point operations of one image's logits: two per weight."""
    return 2 * sum(a * b for a, b in zip(config.widths[:-1], config.widths[1:], strict=True))
