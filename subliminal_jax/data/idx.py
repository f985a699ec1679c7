"""IDX, the format MNIST is published in: a short header, then unsigned bytes.

Format: Y. LeCun, C. Cortes and C. Burges, "The MNIST database", section "File formats": two zero
bytes, a type byte (0x08 for unsigned bytes), the number of axes, each axis as a big-endian 32-bit
integer, then the values, the last axis fastest.
"""

import gzip
import hashlib
import math
import struct
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from subliminal_jax.errors import InputError

_GZIP_MAGIC = b"\x1f\x8b"
_UBYTE = 0x08
# MNIST's largest part is 47 MB. The bound keeps a small hostile gzip from filling the memory.
MAX_BYTES = 64 * 2**20


def read_idx(path: Path, *, axes: int, max_bytes: int = MAX_BYTES) -> UInt8[np.ndarray, "..."]:
    """Read one IDX file of unsigned bytes, gzipped or not (detected from its content).

    Args:
        path: The file.
        axes: How many axes it must have: 3 for images [N, height, width], 1 for labels [N].
        max_bytes: The largest accepted size in bytes, after decompression.

    Returns:
        The values, uint8, read-only.

    Raises:
        InputError: The file cannot be read, is truncated, has bytes left over, is not IDX, holds
            another type or number of axes, is empty, too large, or fails gzip's own checks.
    """
    content = _read_bounded(path, max_bytes)
    start = 4 + 4 * axes
    if content[:2] != b"\x00\x00" or len(content) < 4:
        raise InputError(f"{path} is neither gzip nor IDX: put the published MNIST file there")
    if content[2] != _UBYTE:
        raise InputError(
            f"{path} holds IDX type 0x{content[2]:02x}, expected 0x08 (unsigned bytes): "
            "put the published MNIST file there"
        )
    if content[3] != axes:
        raise InputError(
            f"{path} has {content[3]} axes, expected {axes}: are images and labels swapped?"
        )
    if len(content) < start:
        raise InputError(f"{path} is truncated in its header: download it again")
    shape = struct.unpack(f">{axes}I", content[4:start])
    if 0 in shape:
        raise InputError(f"{path} holds no values (shape {shape}): download it again")
    expected, held = math.prod(shape), len(content) - start
    if held != expected:
        what = "is truncated" if held < expected else "has bytes left over"
        raise InputError(
            f"{path} {what}: its header promises {expected} values, it holds {held}: "
            "download it again"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _read_bounded(path: Path, max_bytes: int) -> bytes:
    """The decompressed content; reading to the end checks gzip's checksum."""
    try:
        with path.open("rb") as file:
            zipped = file.read(2) == _GZIP_MAGIC
            file.seek(0)
            stream = gzip.GzipFile(fileobj=file) if zipped else file
            content = stream.read(max_bytes + 1)
    except EOFError as error:
        raise InputError(
            f"{path} is truncated (its gzip stream ends early): download it again"
        ) from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{path} is damaged ({error}): download it again") from error
    except OSError as error:
        reason = error.strerror or error
        raise InputError(
            f"{path} cannot be read ({reason}): check the path and its permissions"
        ) from error
    if len(content) > max_bytes:
        raise InputError(
            f"{path} holds more than the {max_bytes} bytes allowed: is it the published MNIST file?"
        )
    return content


def idx_header(values: UInt8[np.ndarray, "..."]) -> bytes:
    """The IDX header of unsigned bytes of this shape; the file is the header and the values."""
    return struct.pack(f">4B{values.ndim}I", 0, 0, _UBYTE, values.ndim, *values.shape)


def idx_digest(values: UInt8[np.ndarray, "..."]) -> str:
    """SHA-256, in hexadecimal, of the (uncompressed) IDX file that holds these values."""
    digest = hashlib.sha256(idx_header(values))
    digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()
