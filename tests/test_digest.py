"""The digest changes with every change of a leaf, and not with its sharding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from subliminal_jax.execution.mesh import make_mesh
from subliminal_jax.runs.digest import describe, digests


def digest(leaf):
    by_name, not_finite = digests({"leaf": leaf})
    assert not_finite == []
    return by_name["leaf"]


def mix(word):
    """MurmurHash3's finaliser in Python's own integers."""
    word = ((word ^ word >> 16) * 0x85EBCA6B) % 2**32
    word = ((word ^ word >> 13) * 0xC2B2AE35) % 2**32
    return word ^ word >> 16


def test_by_hand():
    words = np.array([[1, 2**31, 7], [0, 5, 2**32 - 1]], np.uint32)
    lanes = [
        sum(mix((int(word) + mix((place + lane) % 2**32)) % 2**32)
            for place, word in enumerate(words.ravel())) % 2**32
        for lane in (0x9E3779B9, 0x7FEB352D)
    ]  # fmt: skip
    assert digest(words) == f"{lanes[0]:08x}{lanes[1]:08x}"


@pytest.mark.parametrize("dtype", ["bool", "int8", "bfloat16", "float16", "int32", "float32"])
def test_every_bit_and_every_position_matters(dtype):
    values = np.random.default_rng(0).integers(0, 2 if dtype == "bool" else 100, (3, 4))
    leaf = np.asarray(jnp.asarray(values, dtype))
    leaves = [leaf, leaf[::-1].copy(), np.roll(leaf, 1)]
    for bit in range(1 if dtype == "bool" else 8 * leaf.itemsize):
        changed = leaf.copy()
        changed.view(f"u{leaf.itemsize}")[1, 2] ^= 1 << bit
        leaves += [changed] if np.isfinite(changed.astype(np.float64)).all() else []
    assert len({digest(one) for one in leaves}) == len(leaves) >= 4


def test_eight_bytes_are_two_words():
    with jax.enable_x64(True):
        leaf = np.arange(4, dtype=np.float64)
        other = leaf.copy()
        other.view(np.uint64)[3] ^= 1
        assert digest(leaf) != digest(other)


def test_the_sharding_does_not_matter():
    leaf = np.random.default_rng(0).standard_normal((8, 6)).astype(np.float32)
    spread = NamedSharding(make_mesh(2, 2, 2), PartitionSpec(("data", "fsdp"), "tensor"))
    assert digest(jax.device_put(leaf, spread)) == digest(leaf)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_leaves_that_are_not_finite_are_named(bad):
    tree = {"a": jnp.ones(3), "b": {"c": jnp.array([1.0, bad])}, "n": jnp.int32(1)}
    assert digests(tree)[1] == ["b/c"]


def test_a_description_needs_no_values():
    tree = {"a": jax.ShapeDtypeStruct((2, 3), jnp.bfloat16), "b": [np.int32(1)]}
    assert describe(tree) == {
        "a": {"shape": [2, 3], "dtype": "bfloat16"},
        "b/0": {"shape": [], "dtype": "int32"},
    }
