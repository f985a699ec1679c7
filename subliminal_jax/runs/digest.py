"""Name, shape, dtype and digest of every leaf of a tree of arrays.

A digest is a sum over elements, so each device sums its own shard, and the result does not depend
on the sharding.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import tree_leaves_with_path
from jaxtyping import Array, Bool, UInt32

from subliminal_jax.execution.mesh import path_name
from subliminal_jax.execution.placement import fetch

# Any two unrelated odd numbers: the two lanes must differ.
LANES = (0x9E3779B9, 0x7FEB352D)


def describe(tree: Any) -> dict[str, dict[str, Any]]:
    """Return shape and dtype of every leaf, by its path; leaves may be abstract."""
    return {
        path_name(path): {"shape": list(leaf.shape), "dtype": str(jnp.dtype(leaf.dtype))}
        for path, leaf in tree_leaves_with_path(tree)
    }


def digests(tree: Any) -> tuple[dict[str, str], list[str]]:
    """Return every leaf's digest (16 hex digits, by path), and the paths of non-finite leaves.

    A bijection of 32-bit words mixes each element's bits with its position, in two lanes, and the
    words are summed modulo 2^32. A change of one element always changes the digest; any other
    change goes undetected once in 2^64. This detects accidents, not deliberate forgery.
    """
    names = [path_name(path) for path, _ in tree_leaves_with_path(tree)]
    # One leaf after the other: a program of all leaves holds the mixed words of all of them.
    summaries = fetch([_summary(leaf) for leaf in jax.tree.leaves(tree)])
    by_name = {
        name: f"{int(a):08x}{int(b):08x}"
        for name, ((a, b), _) in zip(names, summaries, strict=True)
    }
    return by_name, [name for name, (_, fine) in zip(names, summaries, strict=True) if not fine]


@jax.jit
def _summary(leaf: Array) -> tuple[UInt32[Array, " 2"], Bool[Array, ""]]:
    """The two words of a leaf's digest, and whether all of it is finite."""
    return _digest(leaf), jnp.all(jnp.isfinite(leaf))


def _digest(leaf: Array) -> UInt32[Array, " 2"]:
    leaf = leaf.astype(jnp.uint8) if leaf.dtype == bool else leaf
    width = {1: jnp.uint8, 2: jnp.uint16}.get(leaf.dtype.itemsize, jnp.uint32)
    words = jax.lax.bitcast_convert_type(leaf, width).astype(jnp.uint32)  # 8 bytes give two
    position = jnp.zeros(words.shape, jnp.uint32)
    for axis in range(words.ndim):
        stride = np.uint32(math.prod(words.shape[axis + 1 :]) % 2**32)
        position += jax.lax.broadcasted_iota(jnp.uint32, words.shape, axis) * stride
    mixed = [_mix(words + _mix(position + np.uint32(lane))) for lane in LANES]
    return jnp.stack([jnp.sum(lane, dtype=jnp.uint32) for lane in mixed])


def _mix(word: UInt32[Array, "*shape"]) -> UInt32[Array, "*shape"]:
    """The last step of MurmurHash3 (Appleby 2011), a bijection that spreads every bit."""
    word = (word ^ (word >> 16)) * np.uint32(0x85EBCA6B)
    word = (word ^ (word >> 13)) * np.uint32(0xC2B2AE35)
    return word ^ (word >> 16)
