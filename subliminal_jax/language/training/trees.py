"""Trees of arrays as `.npz` files: one array for each leaf, named by its path."""

import io
import zipfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from subliminal_jax.errors import InputError


def tree_bytes(tree: Any) -> bytes:
    """Nested dicts of arrays as bytes of an `.npz` file; equal trees give equal bytes."""
    leaves = jax.tree_util.tree_leaves_with_path(jax.device_get(tree))
    arrays = {"/".join(str(key.key) for key in keys): leaf for keys, leaf in leaves}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def load_tree(path: Path) -> dict[str, Any]:
    """The tree of a file written from `tree_bytes`, on the device.

    Raises:
        InputError: the file is missing or damaged.
    """
    tree: dict[str, Any] = {}
    try:
        with np.load(path, allow_pickle=False) as arrays:
            for name in arrays.files:
                *groups, last = name.split("/")
                place = tree
                for group in groups:
                    place = place.setdefault(group, {})
                place[last] = jnp.asarray(arrays[name])
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path}: cannot be read ({error}); remove its directory and rerun its stage"
        ) from error
    return tree
