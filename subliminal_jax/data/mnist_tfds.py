"""MNIST kept by tensorflow-datasets, prepared and read without TensorFlow.

The stock builder needs TensorFlow to prepare its files. A subclass that is given the arrays does
not. It writes what the stock builder writes (name, version, features, order), so that
`tfds.data_source("mnist")` reads it too.
"""

import contextlib
import hashlib
import io
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8

from subliminal_jax.data.fetch import Unavailable
from subliminal_jax.data.image_parts import PART_NAMES, Parts, check_digests
from subliminal_jax.data.mnist import PUBLISHED_SHA256
from subliminal_jax.errors import InputError

if TYPE_CHECKING:
    import tensorflow_datasets as tfds

_SPLITS = ("train", "test")


def tfds_root() -> Path:
    """Where tensorflow-datasets keeps its data: $TFDS_DATA_DIR, else ~/tensorflow_datasets.

    Raises:
        Unavailable: There is no home directory, as for a user unknown to the system.
    """
    given = os.environ.get("TFDS_DATA_DIR")
    try:
        return Path(given) if given else Path.home() / "tensorflow_datasets"
    except RuntimeError as error:
        raise Unavailable("MNIST was not found because there is no home directory") from error


def find_prepared(root: Path) -> Path | None:
    """The directory of the newest MNIST prepared under a tensorflow-datasets directory, if any."""
    versions = sorted(info.parent for info in root.glob("mnist/[0-9]*/dataset_info.json"))
    return versions[-1] if versions else None


def needs_tensorflow(prepared: Path) -> bool:
    """Whether a prepared MNIST is in a format (tfrecord) that only TensorFlow reads."""
    return not any(prepared.glob("*.array_record-*"))


def prepare_mnist(parts: Parts, root: Path) -> Path:
    """Write MNIST as tensorflow-datasets does, in array_record format (26 MB, about 8 s).

    Args:
        parts: The four parts, in their published order.
        root: The tensorflow-datasets directory; created if missing.

    Returns:
        The directory of the prepared data.

    Raises:
        OSError: The directory cannot be written.
    """
    import tensorflow_datasets as tfds
    from PIL import Image

    with tfds.core.registered.skip_registration():

        class MNIST(tfds.image_classification.MNIST):
            def _split_generators(self, dl_manager: Any) -> Any:
                return {split: self._examples(split) for split in _SPLITS}

            def _examples(self, split: str) -> Any:
                pairs = zip(parts[f"{split}_images"], parts[f"{split}_labels"], strict=True)
                for index, (image, label) in enumerate(pairs):
                    # A PIL image is encoded by PIL, an array by TensorFlow.
                    yield index, {"image": Image.fromarray(image), "label": int(label)}

    builder = MNIST(data_dir=str(root), file_format="array_record")
    with contextlib.redirect_stdout(sys.stderr):  # stdout is for results, not progress
        builder.download_and_prepare()
    return Path(builder.data_dir)


def read_prepared(prepared: Path) -> Parts:
    """Read and check a prepared MNIST (about 5 s).

    tensorflow-datasets stores examples in the order of a hash of their keys, which are their
    positions in the published files. Undoing that order gives the arrays of the IDX files, which
    are checked against the same digests.

    Args:
        prepared: The directory of the prepared data, for example `.../mnist/3.0.1`.

    Raises:
        InputError: It is prepared as tfrecord, cannot be read, or is not the published content.
    """
    if needs_tensorflow(prepared):
        raise InputError(
            f"{prepared} is not in array_record format and only TensorFlow reads the others: "
            "give the directory of the four IDX files instead"
        )
    import tensorflow_datasets as tfds

    remedy = "delete this directory and prepare it again"
    try:
        builder = tfds.builder_from_directory(str(prepared))
        parts: Parts = {}
        for split in _SPLITS:
            parts[f"{split}_images"], parts[f"{split}_labels"] = _read_split(builder, split)
    except Exception as error:  # each layer of a damaged file fails with a type of its own
        raise InputError(f"{prepared} cannot be read ({type(error).__name__}): {remedy}") from error
    places = {name: f"{prepared} ({name})" for name in PART_NAMES}
    check_digests(parts, PUBLISHED_SHA256, places, remedy=remedy)
    return parts


def _read_split(
    builder: "tfds.core.DatasetBuilder", split: str
) -> tuple[UInt8[np.ndarray, "n height width"], UInt8[np.ndarray, " n"]]:
    import tensorflow_datasets as tfds
    from PIL import Image

    # Fetched in one go and decoded here: twice as fast as record by record.
    source = builder.as_data_source(split, decoders={"image": tfds.decode.SkipDecoding()})
    records = source.__getitems__(range(len(source)))
    stored = np.stack([np.asarray(Image.open(io.BytesIO(record["image"]))) for record in records])
    order = _stored_order(split, len(records))
    images, labels = np.empty_like(stored), np.empty(len(records), np.uint8)
    images[order] = stored
    labels[order] = [record["label"] for record in records]
    return images, labels


def _stored_order(split: str, count: int) -> list[int]:
    """The published position of each stored example.

    `tensorflow_datasets.core.shuffle` sorts by the MD5 of the split's name and the example's key;
    its `hashing` module promises that this never changes within a version of a dataset.
    """
    return sorted(range(count), key=lambda key: hashlib.md5(f"{split}{key}".encode()).digest())
