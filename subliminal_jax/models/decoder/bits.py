"""Arrays of bfloat16 as their bits, for a CPU, which converts a whole array to take a slice of it.

A slice of a stack of layers, rows of an embedding and what a scan keeps for its backward pass are
therefore read and written as integers, which costs what they weigh.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float, Int

KEPT = "kept"
"""The name of what a layer keeps for its backward pass; it computes all else again."""


@jax.custom_jvp
def as_bits(leaf: Array) -> Array:
    """The bits of an array of bfloat16; any other array as it is. It has no derivative."""
    return jax.lax.bitcast_convert_type(leaf, jnp.uint16) if leaf.dtype == jnp.bfloat16 else leaf


@as_bits.defjvp
def _no_derivative(primals: Any, tangents: Any) -> Any:
    (leaf,) = primals
    if leaf.dtype != jnp.bfloat16:
        return leaf, tangents[0]
    raise TypeError("on a CPU a stack of layers in bfloat16 is frozen; train weights of float32")


def from_bits(leaf: Array) -> Array:
    """The array whose bits `as_bits` took."""
    return jax.lax.bitcast_convert_type(leaf, jnp.bfloat16) if leaf.dtype == jnp.uint16 else leaf


@jax.custom_jvp
def kept(x: Array) -> Array:
    """`x`; of bfloat16 on a CPU a scan keeps the bits for its backward pass, see `Decoder.bits`."""
    return _kept(x)


def _kept(x: Array) -> Array:
    if x.dtype != jnp.bfloat16 or jax.default_backend() != "cpu":
        return x
    return from_bits(checkpoint_name(as_bits(x), KEPT))


@kept.defjvp
def _kept_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    # Not `kept` again: a name inside of it is not found.
    return _kept(jax.lax.stop_gradient(primals[0])), tangents[0]


@jax.custom_vjp
def lookup(table: Float[Array, "v e"], rows: Int[Array, "*batch"]) -> Float[Array, "*batch e"]:
    """`table[rows]`."""
    return from_bits(as_bits(table)[rows])


def _lookup_forward(table: Array, rows: Array) -> tuple[Array, tuple[Array, Array]]:
    return lookup(table, rows), (table, rows)


def _lookup_backward(saved: tuple[Array, Array], grads: Array) -> tuple[Array, None]:
    table, rows = saved
    return jnp.zeros_like(table).at[rows].add(grads), None


lookup.defvjp(_lookup_forward, _lookup_backward)
