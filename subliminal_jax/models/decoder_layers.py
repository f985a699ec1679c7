"""The decoder's layers in Flax: projections, norms, attention with or without a cache, MLP."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from subliminal_jax.models.attention import attend
from subliminal_jax.models.decoder_config import DecoderConfig
from subliminal_jax.models.rope import rotate

ADAPTER = "adapter"
"""The collection of low-rank factors; see `subliminal_jax.models.lora`."""


class Places(NamedTuple):
    """Where the tokens stand, for every kind of layer.

    Attributes:
        cos, sin: rotations, `[kinds, B, T, head_dim / 2]`; None where positions are learned.
        mask: which keys a token sees, `[kinds, B, T, S]`.
        slots: where in the cache a token's key and value go, `[B, T]`; None without a cache.
    """

    cos: Float[Array, "k b t half"] | None
    sin: Float[Array, "k b t half"] | None
    mask: Bool[Array, "k b t s"]
    slots: Int[Array, "b t"] | None


class Projection(nn.Module):
    """`x W + b`, and `x A B` on top where there is an adapter."""

    config: DecoderConfig
    features: int
    bias: bool

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Projects the last axis."""
        shape = (x.shape[-1], self.features)
        dtype = self.config.compute.dtype
        init = nn.initializers.normal(self.config.initial_std)
        y = x @ self.param("kernel", init, shape).astype(dtype)
        if self.bias:
            bias = self.param("bias", nn.initializers.zeros, shape[1:]).astype(dtype)
            y += jnp.broadcast_to(bias, y.shape)
        if self.has_variable(ADAPTER, "a"):
            down, up = self.get_variable(ADAPTER, "a"), self.get_variable(ADAPTER, "b")
            y += (x @ down.astype(dtype)) @ up.astype(dtype)
        return y


class Norm(nn.Module):
    """RMS norm (Zhang & Sennrich 2019) or layer norm over the last axis, in float32."""

    config: DecoderConfig
    rms: bool | None = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Norms the last axis."""
        config, dtype = self.config, x.dtype
        rms = config.norm == "rms" if self.rms is None else self.rms
        x = x.astype(jnp.float32)
        if not rms:
            x -= jnp.mean(x, axis=-1, keepdims=True)
        x *= jax.lax.rsqrt(jnp.mean(x**2, axis=-1, keepdims=True) + config.norm_epsilon)
        one = nn.initializers.constant(1.0 - config.norm_offset)
        scale = self.param("scale", one, x.shape[-1:]).astype(jnp.float32)
        x *= jnp.broadcast_to(scale + config.norm_offset, x.shape)
        if not rms:
            bias = self.param("bias", nn.initializers.zeros, x.shape[-1:]).astype(jnp.float32)
            x += jnp.broadcast_to(bias, x.shape)
        return x.astype(dtype)


class Attention(nn.Module):
    """Attention of one layer."""

    config: DecoderConfig

    @nn.compact
    def __call__(self, x: Array, places: Places, stored: Any) -> tuple[Array, Any]:
        """The output and, where there was a cache, the keys and values with these tokens'."""
        config = self.config
        queries = self._heads(x, "query", config.heads)
        keys = self._heads(x, "key", config.kv_heads)
        values = self._heads(x, "value", config.kv_heads)
        if places.cos is not None and places.sin is not None:
            queries = rotate(queries, places.cos, places.sin)
            keys = rotate(keys, places.cos, places.sin)
        if stored is not None:
            rows = jnp.arange(x.shape[0])[:, None]
            old_keys, old_values = stored
            keys = old_keys.at[rows, places.slots].set(keys.astype(old_keys.dtype), mode="drop")
            values = old_values.at[rows, places.slots].set(
                values.astype(old_values.dtype), mode="drop"
            )
            stored = (keys, values)
        means = attend(
            config, queries, keys.astype(x.dtype), values.astype(x.dtype), places.mask
        ).reshape(*x.shape[:2], -1)
        return Projection(config, config.width, config.output_bias, name="output")(means), stored

    def _heads(self, x: Array, name: str, heads: int) -> Array:
        config = self.config
        y = Projection(config, heads * config.head_dim, config.qkv_bias, name=name)(x)
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
        """Transforms each token by itself."""
        config = self.config
        activation = {
            "silu": nn.silu,
            "gelu": lambda x: nn.gelu(x, approximate=False),
            "gelu_tanh": nn.gelu,
        }[config.activation]
        hidden = Projection(config, config.mlp_width, config.mlp_bias, name="up")(x)
        if config.gated:
            gate = Projection(config, config.mlp_width, config.mlp_bias, name="gate")(x)
            hidden *= activation(gate)
        else:
            hidden = activation(hidden)
        return Projection(config, config.width, config.mlp_bias, name="down")(hidden)


class Layer(nn.Module):
    """One layer; `kind` picks its row of `places`."""

    config: DecoderConfig

    @nn.compact
    def __call__(self, x: Array, kind: Array, stored: Any, places: Places) -> tuple[Array, Any]:
        """The residual stream after this layer, and its cache."""
        config = self.config
        here = places._replace(
            cos=None if places.cos is None else places.cos[kind],
            sin=None if places.sin is None else places.sin[kind],
            mask=places.mask[kind],
        )
        y = Norm(config, name="attention_norm")(x) if config.norm_before else x
        y, stored = Attention(config, name="attention")(y, here, stored)
        x += Norm(config, name="attention_after")(y) if config.norm_after else y
        y = Norm(config, name="mlp_norm")(x) if config.norm_before else x
        y = Mlp(config, name="mlp")(y)
        x += Norm(config, name="mlp_after")(y) if config.norm_after else y
        return x, stored


class Decoder(nn.Module):
    """Embedding, all layers in one scan, final norm."""

    config: DecoderConfig

    @nn.compact
    def __call__(self, tokens: Array, positions: Array, places: Places, stored: Any):
        """The final hidden states `[B, T, width]`, and the cache's keys and values."""
        config = self.config
        dtype = config.compute.dtype
        init = nn.initializers.normal(config.initial_std)
        x = self.param("embedding", init, (config.vocab, config.width)).astype(dtype)[tokens]
        x *= jnp.asarray(config.embedding_scale, dtype)
        if config.learned_positions:
            table = self.param("positions", init, (config.context, config.width))
            x += table.astype(dtype)[positions]
        if not config.tied:
            self.param("unembedding", init, (config.vocab, config.width))
        scanned = nn.scan(
            nn.remat(Layer, prevent_cse=False) if config.compute.remat else Layer,
            variable_axes={"params": 0, ADAPTER: 0},
            split_rngs={"params": True},
            in_axes=(0, 0, nn.broadcast),
            length=config.layers,
        )
        kinds = jnp.asarray(config.layer_kinds, jnp.int32)
        x, stored = scanned(config, name="layers")(x, kinds, stored, places)
        return Norm(config, name="norm")(x), stored
