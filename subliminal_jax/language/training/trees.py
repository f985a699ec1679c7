"""Trees of arrays in files: `.npz`, an array a leaf, named by its path."""

import io
import zipfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from subliminal_jax.errors import InputError


def tree_bytes(tree: Any) -> bytes:
    """Nested dicts of arrays as the bytes of a file; the same tree gives the same bytes."""
    leaves = jax.tree_util.tree_leaves_with_path(jax.device_get(tree))
    arrays = {"/".join(str(key.key) for key in keys): leaf for keys, leaf in leaves}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def load_tree(path: Path) -> dict[str, Any]:
    """Reads what `tree_bytes` made, onto the device.

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
        raise InputError(f"{path}: cannot be read ({error}); make it anew") from error
    return tree
