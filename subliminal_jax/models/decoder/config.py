"""The configuration of a decoder: everything in which families of language models differ."""

import math
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from subliminal_jax.config import Precision
from subliminal_jax.errors import InputError

AttentionName: TypeAlias = Literal["xla", "cudnn"]

LARGEST_HEAD = 65_536
"""The largest head dimension; rotary frequencies are computed for all dimensions at once."""


@dataclass(frozen=True, kw_only=True)
class RopeScaling:
    """How rotary frequencies are slowed down for a longer context.

    Attributes:
        kind: "linear" divides every frequency by `factor`; "llama3" only the slow ones.
        factor: by how much.
        low, high: llama3: a frequency that turns fewer than `low` times in `original_context`
            is divided, one that turns more than `high` times is kept, in between is blended.
        original_context: llama3: the context before it was made longer.
    """

    kind: Literal["linear", "llama3"]
    factor: float
    low: float = 1.0
    high: float = 4.0
    original_context: int = 8192

    def __post_init__(self):
        if not 0 < self.factor < math.inf:
            raise InputError(f"rope factor={self.factor}: must be above 0 and finite")
        if not 0 < self.low < self.high < math.inf:
            raise InputError(f"rope low={self.low}, high={self.high}: must be 0 < low < high")
        if self.original_context < 1:
            raise InputError(f"rope original_context={self.original_context}: must be at least 1")


@dataclass(frozen=True, kw_only=True)
class LayerKind:
    """What layers of one model differ in: attention window and rotary frequencies.

    Attributes:
        window: a token sees itself and the `window - 1` tokens before it; None for all.
        theta: the base of the rotary frequencies.
        scaling: a change of these frequencies.
    """

    window: int | None = None
    theta: float = 10_000.0
    scaling: RopeScaling | None = None

    def __post_init__(self):
        if self.window is not None and not 1 <= self.window < 2**31:
            raise InputError(f"window={self.window}: must be at least 1 and below 2^31, or None")
        if not 0 < self.theta < math.inf:
            raise InputError(f"theta={self.theta}: must be above 0 and finite")


@dataclass(frozen=True, kw_only=True)
class Compute:
    """How a decoder is computed; the model stays the same.

    Attributes:
        dtype: of activations and of weights as they are multiplied. Norms, softmaxes, rotations,
            logits and losses are always float32.
        remat: recompute every layer in the backward pass instead of keeping its activations.
        attention: "xla" is the formula spelt out, "cudnn" that kernel, for which
            `jax.nn.dot_product_attention` asks (not where attention logits are soft-capped).
    """

    dtype: Precision = "float32"
    remat: bool = False
    attention: AttentionName = "xla"


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """A decoder-only transformer.

    Attributes:
        vocab: tokens, the rows of the embedding.
        width: of the residual stream.
        layers: how many.
        heads: query heads; a multiple of `kv_heads`.
        kv_heads: key and value heads.
        head_dim: of each head; even if positions are rotary.
        mlp_width: hidden units of the MLP.
        context: the most positions a sequence may have.
        kinds: the kinds of layers there are.
        pattern: which of `kinds` each layer is, repeated; `(0,)` if all are alike.
        tied: the unembedding is the embedding.
        activation: of the MLP.
        gated: the MLP multiplies its activations by a second projection.
        norm: "rms", or "layer" with mean and bias.
        norm_epsilon: added to the variance.
        norm_offset: added to a norm's stored scale (Gemma stores the scale minus 1).
        norm_before: attention and MLP see normed inputs.
        norm_after: attention's and MLP's outputs are normed before they join the residual.
        query_key_norm: RMS norm of queries and keys, by head or over all heads at once.
        qkv_bias, output_bias, mlp_bias: which projections have biases.
        learned_positions: an embedding of each position in place of rotation.
        attention_scale: of attention logits; None for `head_dim ** -0.5`.
        attention_softcap, logit_softcap: `cap * tanh(x / cap)` on attention logits, on logits.
        embedding_scale: of the embeddings as they enter the first layer.
        initial_std: standard deviation of initial weights.
        compute: how it is computed.
    """

    vocab: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp_width: int
    context: int
    kinds: tuple[LayerKind, ...] = (LayerKind(),)
    pattern: tuple[int, ...] = (0,)
    tied: bool = False
    activation: Literal["silu", "gelu", "gelu_tanh"] = "silu"
    gated: bool = True
    norm: Literal["rms", "layer"] = "rms"
    norm_epsilon: float = 1e-6
    norm_offset: float = 0.0
    norm_before: bool = True
    norm_after: bool = False
    query_key_norm: Literal["head", "all"] | None = None
    qkv_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    learned_positions: bool = False
    attention_scale: float | None = None
    attention_softcap: float | None = None
    logit_softcap: float | None = None
    embedding_scale: float = 1.0
    initial_std: float = 0.02
    compute: Compute = field(default_factory=Compute)

    def __post_init__(self):
        for name in ("vocab", "width", "layers", "heads", "kv_heads", "head_dim", "mlp_width",
                     "context"):  # fmt: skip
            if getattr(self, name) < 1:
                raise InputError(f"{name}={getattr(self, name)}: must be at least 1")
        for name in ("norm_epsilon", "initial_std"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"{name}={getattr(self, name)}: must be at least 0 and finite")
        for name in ("attention_scale", "attention_softcap", "logit_softcap", "embedding_scale"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise InputError(f"{name}={value}: must be above 0 and finite")
        if self.head_dim > LARGEST_HEAD:
            raise InputError(f"head_dim={self.head_dim}: must be at most {LARGEST_HEAD:,}")
        if self.heads % self.kv_heads:
            raise InputError(f"heads={self.heads}: must be a multiple of kv_heads={self.kv_heads}")
        if self.head_dim % 2 and not self.learned_positions:
            raise InputError(f"head_dim={self.head_dim}: must be even, for rotary positions")
        if not self.pattern or not set(self.pattern) <= set(range(len(self.kinds))):
            raise InputError(
                f"pattern={self.pattern}: must name some of the {len(self.kinds)} kinds, from 0"
            )

    @property
    def layer_kinds(self) -> tuple[int, ...]:
        """Which of `kinds` each layer is."""
        return tuple(self.pattern[i % len(self.pattern)] for i in range(self.layers))

    @property
    def scale(self) -> float:
        """The factor of attention logits."""
        return self.head_dim**-0.5 if self.attention_scale is None else self.attention_scale
