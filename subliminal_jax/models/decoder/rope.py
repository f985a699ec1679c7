"""Rotary positions (Su et al. 2021), in the halves layout that Hugging Face weights have."""

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from subliminal_jax.models.decoder.config import LayerKind, RopeScaling


def frequencies(kind: LayerKind, head_dim: int) -> np.ndarray:
    """Radians per position of each pair of dimensions, `[head_dim / 2]`, float32."""
    exponents = np.arange(0, head_dim, 2, dtype=np.float32) / head_dim
    inverse = (1.0 / np.power(np.float32(kind.theta), exponents)).astype(np.float32)
    return inverse if kind.scaling is None else _slowed(inverse, kind.scaling)


def _slowed(inverse: np.ndarray, scaling: RopeScaling) -> np.ndarray:
    if scaling.kind == "linear":
        return inverse / np.float32(scaling.factor)
    turns = scaling.original_context * inverse / (2 * math.pi)
    kept = np.clip((turns - scaling.low) / (scaling.high - scaling.low), 0, 1)
    return (inverse * (kept + (1 - kept) / scaling.factor)).astype(np.float32)


def rotations(
    kinds: tuple[LayerKind, ...], head_dim: int, positions: Int[Array, "b t"]
) -> tuple[Float[Array, "k b t half"], Float[Array, "k b t half"]]:
    """Cosines and sines of every position's angles, for every kind of layer, float32."""
    inverse = jnp.asarray(np.stack([frequencies(kind, head_dim) for kind in kinds]))
    angles = positions[None, :, :, None].astype(jnp.float32) * inverse[:, None, None, :]
    return jnp.cos(angles), jnp.sin(angles)


def rotate(
    x: Float[Array, "b t n d"], cos: Float[Array, "b t half"], sin: Float[Array, "b t half"]
) -> Float[Array, "b t n d"]:
    """Turns dimension i and dimension i + d / 2 of each head by its position's angle i."""
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    cos, sin = cos[:, :, None, :], sin[:, :, None, :]
    turned = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return turned.astype(x.dtype)
