"""Places arrays on the devices of all hosts, and copies them back."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding


def place(leaf: Any, sharding: NamedSharding) -> Any:
    """Place a leaf by its sharding.

    Args:
        leaf: an array that every host has whole, a global array, or an abstract leaf.
        sharding: where to place it.

    Returns:
        The global array; for an abstract leaf, an abstract leaf with that sharding.
    """
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
    if sharding.is_fully_addressable or not getattr(leaf, "is_fully_addressable", True):
        return jax.device_put(leaf, sharding)
    whole = np.asarray(leaf)
    return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])


def cut(leaf: Any, axis: int, parts: int) -> Any:
    """Split dimension `axis` into equal parts: `[..., n, ...]` to `[..., parts, n / parts, ...]`.

    Abstract leaves stay abstract.
    """
    shape = np.shape(leaf)
    new = (*shape[:axis], parts, shape[axis] // parts, *shape[axis + 1 :])
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return jax.ShapeDtypeStruct(new, leaf.dtype)
    return (leaf if isinstance(leaf, jax.Array) else np.asarray(leaf)).reshape(new)


def make(make_tree: Callable[..., Any], arguments: tuple[Any, ...], forms: Any) -> Any:
    """Compute a tree directly on its devices.

    Args:
        make_tree: the function that computes it.
        arguments: its arguments.
        forms: shape and sharding of each leaf of the result.
    """

    def shaped(*arguments: Any) -> Any:
        reshape = lambda leaf, form: leaf.reshape(form.shape)
        return jax.tree.map(reshape, make_tree(*arguments), forms)

    return jax.jit(shaped, out_shardings=shardings(forms))(*arguments)


def shardings(tree: Any) -> Any:
    """Return the sharding of every leaf; the leaves may be abstract."""
    return jax.tree.map(lambda leaf: leaf.sharding, tree)


def fetch(tree: Any) -> Any:
    """Return every whole leaf as a NumPy array, on every host; all hosts must call it together."""

    def whole_leaf(leaf: Any) -> np.ndarray:
        if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable:
            return np.asarray(leaf)
        if leaf.is_fully_replicated:
            return np.asarray(leaf.addressable_data(0))
        return np.asarray(multihost_utils.process_allgather(leaf, tiled=True))

    return jax.tree.map(whole_leaf, tree)
