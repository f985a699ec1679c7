"""Random keys: from one fixed generator, derived by name, so that no draw depends on another."""

import zlib

import jax
from jaxtyping import Array, Int

from subliminal_jax.batch import RandomKey

GENERATOR = "threefry2x32"
"""The generator of all random numbers, whatever JAX's default is."""


def root_key(seed: Int[Array, ""] | int) -> RandomKey:
    """The key of a seed."""
    return jax.random.key(seed, impl=GENERATOR)


def named_key(key: RandomKey, name: str) -> RandomKey:
    """The key for one purpose: `key` folded with the CRC-32 of its name."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def member_key(seed: Int[Array, ""] | int, member: Int[Array, ""] | int) -> RandomKey:
    """The root key of one member of an ensemble: a function of seed and member alone."""
    return jax.random.fold_in(root_key(seed), member)
