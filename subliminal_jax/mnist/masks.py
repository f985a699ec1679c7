"""Masks of weights to draw afresh, read from untrusted files."""

import errno
import hashlib
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from subliminal_jax.batch import Params
from subliminal_jax.errors import InputError

# What reading a damaged archive raises.
_DAMAGED = (OSError, ValueError, EOFError, NotImplementedError, zlib.error, zipfile.BadZipFile)


def mask_digests(paths: Sequence[Path]) -> dict[str, str]:
    """SHA-256 of every mask file: a run's config identifies its masks by content.

    Raises:
        InputError: a file cannot be read.
    """
    digests = {}
    for path in paths:
        try:
            if not path.is_file():  # reading a pipe could block for ever
                raise FileNotFoundError(errno.ENOENT, "there is no such file")
            digests[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"mask {path}: cannot be read ({reason}); correct --masks") from error
    return digests


def read_mask(path: Path, like: PyTree[jax.ShapeDtypeStruct]) -> Params:
    """Read a mask: 1 for each weight that is drawn afresh, 0 for each that is kept.

    Args:
        path: an .npz file with an array LAYER.kernel and LAYER.bias for every layer.
        like: the parameters' shapes, `{layer: {"kernel": ..., "bias": ...}}`.

    Raises:
        InputError: the file is unreadable or holds Python objects, or an array is missing,
            unknown, misshapen or has values other than 0 and 1.
    """
    names = {
        f"{layer}.{leaf}": shaped
        for layer, leaves in like.items()
        for leaf, shaped in leaves.items()
    }
    size = sum(shaped.size for shaped in names.values())
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError("not a zip archive of arrays")
        with np.load(path, allow_pickle=False) as archive:
            # A few kilobytes may decompress to more than fits into memory.
            if sum(entry.file_size for entry in archive.zip.infolist()) > 16 * size + 2**16:
                raise ValueError(f"it holds far more than the network's {size:,} weights")
            arrays = {name: archive[name] for name in archive.files}
    except _DAMAGED as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"mask {path}: cannot be read as .npz ({reason})") from error
    if set(arrays) != set(names):
        odd = sorted(set(arrays) ^ set(names))[0]
        fault = "is missing" if odd in names else "is not a parameter of the network"
        raise InputError(f"mask {path}: {odd} {fault}; give exactly {', '.join(names)}")
    for name, array in arrays.items():
        if array.shape != names[name].shape:
            raise InputError(
                f"mask {path}: {name} has shape {array.shape}; it must be {names[name].shape}"
            )
        if not np.isin(array, (0, 1)).all():
            raise InputError(f"mask {path}: {name} has values other than 0 and 1")
    return {
        layer: {leaf: jnp.asarray(arrays[f"{layer}.{leaf}"], jnp.float32) for leaf in leaves}
        for layer, leaves in like.items()
    }
