"""The decoder's layers in Flax: projections, norms, attention with or without a cache, MLP."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from subliminal_jax.models.decoder.attention import attend, softmax_attention
from subliminal_jax.models.decoder.bits import KEPT, from_bits, kept, lookup
from subliminal_jax.models.decoder.config import DecoderConfig
from subliminal_jax.models.decoder.rope import rotate
from subliminal_jax.models.product import adapted_product, product, scale_rows

ADAPTER = "adapter"
"""The collection of low-rank factors; see `subliminal_jax.models.decoder.lora`."""

KeysValues: TypeAlias = tuple[Any, Any]
"""Keys and values, `[B, kv_heads, tokens, head_dim]`; those of a model have a layer axis first, or
are tuples if its layers are apart. With one row in place of B, all rows see them."""


class Places(NamedTuple):
    """Rotations and masks of the tokens, for every kind of layer.

    Attributes:
        cos, sin: rotations, `[kinds, B, T, head_dim / 2]`; None where positions are learned.
        mask: which of these tokens a token sees, `[kinds, B, T, T]`.
        stored: which of the tokens read before a token sees, `[kinds, B, T, S]`, one mask for each
            pair of stored keys and values.
    """

    cos: Float[Array, "k b t half"] | None
    sin: Float[Array, "k b t half"] | None
    mask: Bool[Array, "k b t t"]
    stored: tuple[Bool[Array, "k b t s"], ...] = ()

    def of(self, kind: Int[Array, ""]) -> "Places":
        """Those of one kind of layer, without the leading axis."""
        # A single kind is the same in all layers, which a scan then neither copies nor saves.
        return jax.tree.map(lambda leaf: leaf[0 if leaf.shape[0] == 1 else kind], self)


def saving_inputs(config: DecoderConfig, fn: Callable[..., Array]) -> Callable[..., Array]:
    """An elementwise function whose backward pass saves its inputs only, in bfloat16.

    Its float32 intermediates would take twice the memory each, and more time than computing them
    again. In float32 the derivative stays as JAX has it.
    """
    return fn if config.compute.dtype == "float32" else jax.checkpoint(fn, prevent_cse=False)


def in_float32(fn: Callable[..., Array]) -> Callable[..., Array]:
    """An elementwise function computed in float32, whose result has the inputs' dtype."""
    return lambda *inputs: fn(*(x.astype(jnp.float32) for x in inputs)).astype(inputs[0].dtype)


QUERY_KEY_VALUE, GATE_UP = "query_key_value", "gate_up"
"""Names of projections of one input with their kernels side by side; see `forms.for_decoding`."""


class Projection(nn.Module):
    """`x W + b`, and `x A B` on top where there is an adapter."""

    config: DecoderConfig
    features: int
    bias: bool

    @nn.compact
    def __call__(self, x: Array, y: Array | None = None) -> Array:
        """Projects the last axis; `y` is `x W + b` if that is known."""
        dtype, factors = self.config.compute.dtype, None
        if self.has_variable(ADAPTER, "a"):
            factors = self.get_variable(ADAPTER, "a"), self.get_variable(ADAPTER, "b")
        if y is None:
            y = self._product(x, factors)
        elif factors is not None:
            y += product(product(x, factors[0], dtype), factors[1], dtype)
        return kept(y)

    def _product(self, x: Array, factors: tuple[Array, Array] | None) -> Array:
        shape, dtype = (x.shape[-1], self.features), self.config.compute.dtype
        init = nn.initializers.normal(self.config.initial_std)
        kernel = from_bits(self.param("kernel", init, shape))
        if factors is None:
            y = product(x, kernel, dtype)
        else:
            y = adapted_product(x, kernel, *factors, dtype)
        if self.bias:
            bias = from_bits(self.param("bias", nn.initializers.zeros, shape[1:])).astype(dtype)
            y += jnp.broadcast_to(bias, y.shape)
        return y


class Norm(nn.Module):
    """RMS norm (Zhang & Sennrich 2019) or layer norm over the last axis, in float32."""

    config: DecoderConfig
    rms: bool | None = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Norms the last axis."""
        config = self.config
        rms = config.norm == "rms" if self.rms is None else self.rms
        one = nn.initializers.constant(1.0 - config.norm_offset)
        scale = from_bits(self.param("scale", one, x.shape[-1:]))
        bias = None if rms else from_bits(self.param("bias", nn.initializers.zeros, x.shape[-1:]))

        return saving_inputs(config, partial(_normed, config, rms))(x, scale, bias)


def _normed(config: DecoderConfig, rms: bool, x: Array, scale: Array, bias: Array | None) -> Array:
    dtype, x = x.dtype, x.astype(jnp.float32)
    if not rms:
        x -= jnp.mean(x, axis=-1, keepdims=True)
    x = scale_rows(x, jax.lax.rsqrt(jnp.mean(x**2, axis=-1) + config.norm_epsilon))
    x *= jnp.broadcast_to(scale.astype(jnp.float32) + config.norm_offset, x.shape)
    if bias is not None:
        x += jnp.broadcast_to(bias.astype(jnp.float32), x.shape)
    return x.astype(dtype)


class Attention(nn.Module):
    """Attention of one layer."""

    config: DecoderConfig

    @nn.compact
    def __call__(
        self, x: Array, places: Places, stored: Sequence[KeysValues]
    ) -> tuple[Array, KeysValues]:
        """The output, and these tokens' keys and values `[B, kv_heads, T, head_dim]`.

        Stored keys and values are only read. The caller writes the new ones for all layers at
        once, so that no layer copies its part of the cache.
        """
        config = self.config
        counts = (config.heads, config.kv_heads, config.kv_heads)
        together: Sequence[Array | None] = (None, None, None)
        if self.has_variable("params", QUERY_KEY_VALUE):
            widths = [count * config.head_dim for count in counts]
            all_three = Projection(config, sum(widths), config.qkv_bias, name=QUERY_KEY_VALUE)(x)
            together = jax.lax.split(all_three, widths, axis=-1)
        queries, keys, values = (
            self._heads(x, *each)
            for each in zip(("query", "key", "value"), counts, together, strict=True)
        )
        if places.cos is not None and places.sin is not None:
            queries = rotate(queries, places.cos, places.sin)
            keys = rotate(keys, places.cos, places.sin)
        new = (keys.swapaxes(1, 2), values.swapaxes(1, 2))
        if stored:
            old = [
                (keys.astype(x.dtype), values.astype(x.dtype), mask)
                for (keys, values), mask in zip(stored, places.stored, strict=True)
            ]
            means = softmax_attention(config, queries, [*old, (*new, places.mask)])
        else:
            means = attend(config, queries, keys, values, places.mask)
        means = kept(means.reshape(*x.shape[:2], -1))
        return Projection(config, config.width, config.output_bias, name="output")(means), new

    def _heads(self, x: Array, name: str, heads: int, y: Array | None) -> Array:
        config = self.config
        y = Projection(config, heads * config.head_dim, config.qkv_bias, name=name)(x, y)
        norm = None if name == "value" else config.query_key_norm
        if norm == "all":
            y = Norm(config, rms=True, name=f"{name}_norm")(y)
        y = y.reshape(*x.shape[:2], heads, config.head_dim)
        if norm == "head":
            y = Norm(config, rms=True, name=f"{name}_norm")(y)
        return y


class Mlp(nn.Module):
    """The feed-forward part of one layer, gated (Shazeer 2020) or not."""

    config: DecoderConfig

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Transforms each token separately."""
        config = self.config
        activation = {
            "silu": nn.silu,
            "gelu": lambda x: nn.gelu(x, approximate=False),
            "gelu_tanh": nn.gelu,
        }[config.activation]
        width, bias, gate, hidden = config.mlp_width, config.mlp_bias, None, None
        if self.has_variable("params", GATE_UP):
            both = Projection(config, 2 * width, bias, name=GATE_UP)(x)
            gate, hidden = jax.lax.split(both, [width, width], axis=-1)
        hidden = Projection(config, width, bias, name="up")(x, hidden)
        if config.gated:
            gate = Projection(config, width, bias, name="gate")(x, gate)
            gated = lambda hidden, gate: hidden * activation(gate)
            hidden = saving_inputs(config, in_float32(gated))(hidden, gate)
        else:
            hidden = saving_inputs(config, in_float32(activation))(hidden)
        return Projection(config, config.width, config.mlp_bias, name="down")(hidden)


class Layer(nn.Module):
    """One layer; `kind` picks its row of `places`."""

    config: DecoderConfig
    keep: bool

    @nn.compact
    def __call__(
        self, x: Array, kind: Array, stored: Sequence[KeysValues], places: Places
    ) -> tuple[Array, KeysValues | None]:
        """The residual stream after this layer, and with `keep` its new keys and values."""
        config, carried = self.config, x.dtype
        x = x.astype(config.compute.dtype)
        y = Norm(config, name="attention_norm")(x) if config.norm_before else x
        y, new = Attention(config, name="attention")(y, places.of(kind), stored)
        x += Norm(config, name="attention_after")(y) if config.norm_after else y
        y = Norm(config, name="mlp_norm")(x) if config.norm_before else x
        y = Mlp(config, name="mlp")(y)
        x += Norm(config, name="mlp_after")(y) if config.norm_after else y
        x, new = jax.tree.map(lambda leaf: leaf.astype(carried), (x, new))
        return x, new if self.keep else None


class Decoder(nn.Module):
    """Embedding, all layers in one scan, final norm; `keep` returns keys and values too.

    If the layers' parameters are a tuple of trees, one tree each, there is no scan, and keys and
    values are tuples of layers too. With `bits`, a stack of bfloat16 is given as its bits.
    """

    config: DecoderConfig
    keep: bool = False
    bits: bool = False

    @nn.compact
    def __call__(
        self,
        tokens: Array,
        positions: Array,
        places: Places,
        stored: Sequence[KeysValues] = (),
    ) -> tuple[Array, KeysValues | None]:
        """The final hidden states `[B, T, width]`, and with `keep` all new keys and values."""
        config = self.config
        dtype = config.compute.dtype
        init = nn.initializers.normal(config.initial_std)
        table = self.param("embedding", init, (config.vocab, config.width))
        x = lookup(table, tokens).astype(dtype)
        x *= jnp.asarray(config.embedding_scale, dtype)
        if config.learned_positions:
            table = self.param("positions", init, (config.context, config.width))
            x += lookup(table, positions).astype(dtype)
        if not config.tied:
            self.param("unembedding", init, (config.vocab, config.width))
        kinds = jnp.asarray(config.layer_kinds, jnp.int32)
        if isinstance(self.get_variable("params", "layers"), tuple):
            x, new = self._one_by_one(x, kinds, stored, places)
            return Norm(config, name="norm")(x), new
        scanned = nn.scan(
            self._in_scan(),
            variable_axes={"params": 0, ADAPTER: 0},
            split_rngs={"params": True},
            in_axes=(0, 0, nn.broadcast),
            length=config.layers,
        )
        # A scan also stacks each layer's input, and keys and values: float32 is not converted.
        x = x.astype(jnp.float32) if self.bits else x
        x, new = scanned(config, self.keep, name="layers")(x, kinds, stored, places)
        return Norm(config, name="norm")(x.astype(dtype)), new

    def _in_scan(self) -> type[Layer]:
        if self.config.compute.remat:
            return nn.remat(Layer, prevent_cse=False)
        if self.bits:
            policy = jax.checkpoint_policies.save_only_these_names(KEPT)
            return nn.remat(Layer, prevent_cse=False, policy=policy)
        return Layer

    def _one_by_one(
        self, x: Array, kinds: Array, stored: Sequence[KeysValues], places: Places
    ) -> tuple[Array, KeysValues | None]:
        config, apart = self.config, self.get_variable("params", "layers")
        # The derivative of a split is one concatenation; that of an index pads to the whole stack.
        each = partial(_split, count=config.layers)
        adapters = each(self.get_variable(ADAPTER, "layers", {}))
        layer, new_of_each = Layer(config, self.keep, parent=None), []
        if config.compute.remat:
            # Outside of a scan, XLA may merge equal expressions, and `jax.checkpoint` prevents it.
            layer = nn.remat(Layer)(config, self.keep, parent=None)
        for index, params in enumerate(apart):
            variables = {"params": params, ADAPTER: adapters[index]}
            old = [(keys[index], values[index]) for keys, values in stored]
            x, new = layer.apply(variables, x, kinds[index], old, places)
            new_of_each.append(new)
        if not self.keep:
            return x, None
        keys, values = zip(*new_of_each, strict=True)
        return x, (keys, values)


def _split(tree: Any, count: int) -> list[Any]:
    """The trees of which a tree of stacks `[count, ...]` is made."""
    leaves, form = jax.tree.flatten(tree)
    columns = [jax.lax.split(leaf, [1] * count) for leaf in leaves]
    return [
        jax.tree.unflatten(form, [jnp.squeeze(column[index], 0) for column in columns])
        for index in range(count)
    ]
