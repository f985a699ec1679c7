"""Masks of weights to draw afresh, read from files that nobody needs to trust."""

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
    """SHA-256 of every mask file, so that a run knows its masks by what they hold.

    Raises:
        InputError: a file cannot be read.
    """
    digests = {}
    for path in paths:
        try:
            if not path.is_file():  # reading a pipe could wait for ever
                raise FileNotFoundError(errno.ENOENT, "there is no such file")
            digests[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"mask {path}: cannot be read ({reason}); correct --masks") from error
    return digests


def read_mask(path: Path, like: PyTree[jax.ShapeDtypeStruct]) -> Params:
    """A mask for every weight: 1 where it is drawn afresh, 0 where it is kept.

    Args:
        path: an .npz file with an array LAYER.kernel and LAYER.bias for every layer.
        like: the parameters' shapes, `{layer: {"kernel": ..., "bias": ...}}`.

    Raises:
        InputError: the file cannot be read (arrays of Python objects are not), or an array is
            missing, unknown, misshapen or holds anything but 0 and 1.
    """
    names = {
        f"{layer}.{leaf}": shaped
        for layer, leaves in like.items()
        for leaf, shaped in leaves.items()
    }
    size = sum(shaped.size for shaped in names.values())
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError("no zip archive of arrays")
        with np.load(path, allow_pickle=False) as archive:
            # A few packed kilobytes may stand for more than the memory holds.
            if sum(entry.file_size for entry in archive.zip.infolist()) > 16 * size + 2**16:
                raise ValueError(f"far more than the network's {size:,} weights")
            arrays = {name: archive[name] for name in archive.files}
    except _DAMAGED as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"mask {path}: cannot be read as .npz ({reason})") from error
    if set(arrays) != set(names):
        odd = sorted(set(arrays) ^ set(names))[0]
        fault = "is missing" if odd in names else "is no parameter"
        raise InputError(f"mask {path}: {odd} {fault}; it takes {', '.join(names)}")
    for name, array in arrays.items():
        if array.shape != names[name].shape:
            raise InputError(
                f"mask {path}: {name} has shape {array.shape}, the network's is {names[name].shape}"
            )
        if not np.isin(array, (0, 1)).all():
            raise InputError(f"mask {path}: {name} holds more than 0 and 1")
    return {
        layer: {leaf: jnp.asarray(arrays[f"{layer}.{leaf}"], jnp.float32) for leaf in leaves}
        for layer, leaves in like.items()
    }
