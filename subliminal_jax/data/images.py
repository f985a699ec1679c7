"""The teacher's training images: MNIST if it is available, else scikit-learn's small digits.

MNIST is searched in this order: the given directory, the one that SUBLIMINAL_DATA_DIR names, what
tensorflow-datasets has prepared, the network. A given directory is used or refused, never skipped.
"""

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Int32, UInt8

from subliminal_jax.config import DatasetName
from subliminal_jax.data.digits import read_digits
from subliminal_jax.data.fetch import Unavailable
from subliminal_jax.data.image_parts import Parts, part_digests
from subliminal_jax.data.mnist import download_mnist, find_files, read_mnist_files
from subliminal_jax.data.mnist_tfds import (
    find_prepared,
    needs_tensorflow,
    prepare_mnist,
    read_prepared,
    tfds_root,
)
from subliminal_jax.errors import InputError

DATA_DIR_VARIABLE = "SUBLIMINAL_DATA_DIR"


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageData:
    """A labelled image set and its origin.

    Attributes:
        name: Which set it is.
        source: What it was read from.
        reason: Why this set was chosen, in one clause for tables and figures.
        train_images: Raw pixels 0 to `white`, one flattened image per row. All four are read-only.
        train_labels: Digits 0 to 9.
        test_images: As `train_images`.
        test_labels: As `train_labels`.
        white: The pixel value of white, which models see as the upper end of `pixel_range`.
        digests: SHA-256 of each part, written as an IDX file.
        stands_in: Whether it stands in for MNIST, which could not be had.
    """

    name: DatasetName
    source: str
    reason: str
    train_images: UInt8[np.ndarray, "n d"]
    train_labels: Int32[np.ndarray, " n"]
    test_images: UInt8[np.ndarray, "m d"]
    test_labels: Int32[np.ndarray, " m"]
    white: int
    digests: dict[str, str]
    stands_in: bool = False

    def facts(self) -> dict[str, Any]:
        """What a run records about its data, as plain values."""
        return {
            "name": self.name,
            "source": self.source,
            "reason": self.reason,
            "stands_in": self.stands_in,
            "train": len(self.train_labels),
            "test": len(self.test_labels),
            "inputs": self.train_images.shape[1],
            "digests": self.digests,
        }


def load_images(
    data: Literal["auto", "mnist", "digits"],
    data_dir: Path | None,
    *,
    fetch_seconds: float = 60.0,
) -> ImageData:
    """Load the images of an experiment.

    MNIST is the same, byte for byte and in the published order, whatever it was read from. A
    download is kept in tensorflow-datasets' directory for the next run.

    Args:
        data: `mnist`, `digits`, or `auto`: MNIST if it is there or can be fetched, else digits.
        data_dir: A directory of the four MNIST files, or one that tensorflow-datasets prepared.
            None: the one that the environment variable SUBLIMINAL_DATA_DIR names, if any.
        fetch_seconds: The limit on a download. An offline machine loses about 3 s.

    Raises:
        InputError: The given directory does not hold the published MNIST; what
            tensorflow-datasets has prepared is damaged; `data` is `mnist` and MNIST is
            unavailable; or a directory was given for `digits`, which reads none.
    """
    if data == "digits":
        if data_dir is not None:
            raise InputError(
                f"the digits are not read from a directory: drop {data_dir} or choose mnist"
            )
        return _digits("the digits were asked for")
    named = os.environ.get(DATA_DIR_VARIABLE)
    if data_dir is None and named:
        data_dir = Path(named)
    if data_dir is not None:
        return _mnist_from(data_dir)
    try:
        return _mnist_from_tfds(tfds_root(), fetch_seconds)
    except Unavailable as why:
        if data == "mnist":
            raise InputError(
                f"{why}: give the directory of its four IDX files (--data-dir or "
                f"{DATA_DIR_VARIABLE}; torchvision keeps them in MNIST/raw, tensorflow-datasets "
                "in the one that holds mnist/3.0.1), or choose the built-in digits"
            ) from why
        return dataclasses.replace(_digits(str(why)), stands_in=True)


def _mnist_from(directory: Path) -> ImageData:
    """MNIST from a given directory, which is refused unless it holds MNIST."""
    try:
        if not directory.is_dir():
            what = "is not a directory" if directory.exists() else "does not exist"
            raise InputError(f"the data directory {directory} {what}: correct the path")
        prepared = find_prepared(directory)
        files = find_files(directory)
        beside = None if prepared or files else _nearby_mnist(directory)
    except OSError as error:
        raise InputError(
            f"{directory} cannot be read ({error.strerror or error}): check its permissions"
        ) from error
    if beside is not None:
        raise InputError(f"{directory} lacks MNIST's files, but {beside} has them: give that one")
    reason = "MNIST is in the data directory given"
    if prepared is not None and not files:
        return _mnist(read_prepared(prepared), f"tensorflow-datasets in {directory}", reason)
    return _mnist(read_mnist_files(directory), f"IDX files in {directory}", reason)


def _nearby_mnist(directory: Path) -> Path | None:
    """The nearby directory to give instead: that of torchvision's raw files, or TFDS's root."""
    for raw in (directory / "MNIST" / "raw", directory / "raw"):
        if find_files(raw):
            return raw
    absolute = directory.absolute()
    for root in (absolute.parent, absolute.parent.parent):  # of mnist, and of mnist/3.0.1
        if absolute.is_relative_to(root / "mnist") and find_prepared(root):
            return root
    return None


def _mnist_from_tfds(root: Path, fetch_seconds: float) -> ImageData:
    """MNIST as prepared under a tensorflow-datasets directory, downloaded first if missing."""
    source = f"tensorflow-datasets in {root}"
    prepared = find_prepared(root)
    if prepared is not None:
        if needs_tensorflow(prepared):
            raise Unavailable(f"MNIST in {prepared} is in a format that only TensorFlow reads")
        return _mnist(read_prepared(prepared), source, "MNIST was found")
    try:
        prepared = prepare_mnist(download_mnist(fetch_seconds), root)
    except Unavailable as why:
        raise Unavailable(f"MNIST was not found in {root} and {why}") from why
    except OSError as error:
        raise Unavailable(
            f"MNIST cannot be written to {root} ({error.strerror or error})"
        ) from error
    return _mnist(read_prepared(prepared), source, "MNIST was downloaded")


def _mnist(parts: Parts, source: str, reason: str) -> ImageData:
    return _image_data("mnist", source, reason, parts, white=255)


def _digits(reason: str) -> ImageData:
    return _image_data("digits", "scikit-learn", reason, read_digits(), white=16)


def _image_data(
    name: DatasetName, source: str, reason: str, parts: Parts, *, white: int
) -> ImageData:
    arrays = {
        "train_images": _flat(parts["train_images"]),
        "train_labels": parts["train_labels"].astype(np.int32),
        "test_images": _flat(parts["test_images"]),
        "test_labels": parts["test_labels"].astype(np.int32),
    }
    for array in arrays.values():
        array.setflags(write=False)
    return ImageData(
        name=name,
        source=source,
        reason=reason,
        white=white,
        digests=part_digests(parts),
        **arrays,
    )


def _flat(images: UInt8[np.ndarray, "n h w"]) -> UInt8[np.ndarray, "n d"]:
    return images.reshape(len(images), -1)
