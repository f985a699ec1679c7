"""Noise images, drawn from keys when they are needed and never stored.

Image `i` of a noise set is a function of the set's key and `i` alone, so a set of any size is
fixed, can be read in any order and takes no memory.
"""

import math
from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt32

from subliminal_jax.batch import RandomKey

NoiseLaw: TypeAlias = Literal["uniform", "gaussian", "blurred"]
WORD = 32


def noise_images(
    key: RandomKey,
    images: Int[Array, " batch"],
    pixels: int,
    law: NoiseLaw = "uniform",
    bits: int = 8,
    blur: float = 2.0,
) -> Float[Array, "batch {pixels}"]:
    """The noise images with the given numbers.

    Args:
        key: the key of the noise set.
        images: numbers of images in the set.
        pixels: pixels in an image.
        law: independent pixels, "uniform" on (-1, 1) or "gaussian" with mean 0 and the same
            variance 1/3; or "blurred": square images of uniform noise after a Gaussian blur that
            keeps mean and variance.
        bits: random bits in a pixel: 8 (256 grey levels, like a scanned image) or 16.
            The levels are symmetric around 0, with variance (1 - 4^-bits) / 3.
        blur: standard deviation of the blur, in pixels; it wraps around the edges.
    """
    keys = jax.vmap(lambda image: jax.random.fold_in(key, image))(images)
    per_word = WORD // bits
    words = jax.vmap(lambda key: jax.random.bits(key, (-(-pixels // per_word),)))(keys)
    uniform = _levels(words, bits)[:, :pixels]
    if law == "gaussian":
        return jax.lax.erf_inv(uniform) * jnp.sqrt(2.0 / 3.0)
    if law == "blurred":
        return _blurred(uniform, blur)
    return uniform


def _blurred(images: Float[Array, "batch p"], blur: float) -> Float[Array, "batch p"]:
    """Square images after a Gaussian blur that keeps their variance."""
    side = math.isqrt(images.shape[1])
    apart = jnp.abs(jnp.arange(side)[:, None] - jnp.arange(side)[None])
    kernel = jnp.exp(-0.5 * (jnp.minimum(apart, side - apart) / blur) ** 2)
    # Blurring multiplies the standard deviation by the norm of a kernel row: divide it out.
    kernel /= jnp.linalg.norm(kernel[0])
    square = images.reshape(-1, side, side)
    return jnp.einsum("ij,bjk,kl->bil", kernel, square, kernel).reshape(images.shape)


def _levels(words: UInt32[Array, "batch w"], bits: int) -> Float[Array, "batch p"]:
    """Each word as `32 // bits` numbers on (-1, 1)."""
    planes = [words >> shift for shift in range(0, WORD - bits + 1, bits)]
    integers = jnp.concatenate(planes, axis=1) & (2**bits - 1)
    return (integers.astype(jnp.float32) + 0.5) * 2.0 ** (1 - bits) - 1.0
