"""Random keys: of one generator alone, and by name, so that no draw depends on other draws."""

import zlib

import jax
from jaxtyping import Array, Int

from subliminal_jax.batch import RandomKey

GENERATOR = "threefry2x32"
"""What draws all random numbers, whatever JAX is told to take by default."""


def root_key(seed: Int[Array, ""] | int) -> RandomKey:
    """The key of a seed."""
    return jax.random.key(seed, impl=GENERATOR)


def named_key(key: RandomKey, name: str) -> RandomKey:
    """The key for one purpose, `key` folded with the name's CRC-32."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def member_key(seed: Int[Array, ""] | int, member: Int[Array, ""] | int) -> RandomKey:
    """The root key of one member of an ensemble: a function of seed and member alone."""
    return jax.random.fold_in(root_key(seed), member)
