"""IDX files for tests, encoded apart from the library's own code."""

import gzip
import struct
from pathlib import Path

import numpy as np

STEMS = {
    "train_images": "train-images-idx3-ubyte",
    "train_labels": "train-labels-idx1-ubyte",
    "test_images": "t10k-images-idx3-ubyte",
    "test_labels": "t10k-labels-idx1-ubyte",
}


def idx_bytes(values: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, values.ndim])
    return header + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()


def write_mnist(
    directory: Path, parts: dict[str, np.ndarray], *, zipped: bool = True, dotted: bool = False
) -> Path:
    """Writes the four files under one of the spellings in use."""
    directory.mkdir(exist_ok=True)
    for part, values in parts.items():
        name = STEMS[part].replace("-idx", ".idx") if dotted else STEMS[part]
        content = idx_bytes(values)
        if zipped:
            name, content = f"{name}.gz", gzip.compress(content)
        (directory / name).write_bytes(content)
    return directory
