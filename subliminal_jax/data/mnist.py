"""MNIST as published: four IDX files, in a directory or on the mirror that holds them.

Source: Y. LeCun, C. Cortes and C. Burges, "The MNIST database of handwritten digits",
CC BY-SA 3.0. 60,000 training and 10,000 test images of 28x28 bytes.
"""

import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from subliminal_jax.data.fetch import Unavailable, answers, fetch
from subliminal_jax.data.idx import read_idx
from subliminal_jax.data.image_parts import PART_NAMES, Parts, check_digests
from subliminal_jax.errors import InputError

# SHA-256 of the decompressed files: a gzip wrapper may be rebuilt without touching the content.
PUBLISHED_SHA256 = {
    "train_images": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train_labels": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "test_images": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "test_labels": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}

# The files tensorflow-datasets itself downloads.
MIRROR = "https://storage.googleapis.com/cvdf-datasets/mnist/"

_STEMS = {
    "train_images": ("train-images", "idx3-ubyte"),
    "train_labels": ("train-labels", "idx1-ubyte"),
    "test_images": ("t10k-images", "idx3-ubyte"),
    "test_labels": ("t10k-labels", "idx1-ubyte"),
}


def published_name(part: str) -> str:
    """The published name of a part's (gzipped) file."""
    return "-".join(_STEMS[part]) + ".gz"


def find_files(directory: Path) -> dict[str, Path]:
    """The IDX files of a directory by part, without the parts that it lacks.

    Both spellings in use count (`train-images-idx3-ubyte`, `train-images.idx3-ubyte`), with or
    without `.gz`; the first of these that exists wins.
    """
    paths = {}
    for part, stem in _STEMS.items():
        names = [joint.join(stem) + suffix for suffix in ("", ".gz") for joint in ("-", ".")]
        present = [directory / name for name in names if (directory / name).is_file()]
        if present:
            paths[part] = present[0]
    return paths


def read_mnist_files(directory: Path) -> Parts:
    """Read and check the four IDX files of a directory, in their published order.

    Returns:
        Images uint8 [60000, 28, 28] and [10000, 28, 28], labels uint8 [60000] and [10000].

    Raises:
        InputError: A file is missing, malformed (see `read_idx`) or not the published content.
    """
    files = find_files(directory)
    missing = [published_name(part) for part in PART_NAMES if part not in files]
    if missing:
        raise InputError(
            f"{directory} lacks {', '.join(missing)}: "
            "put the four MNIST files there, gzipped or not"
        )
    parts = {
        part: read_idx(path, axes=3 if part.endswith("images") else 1)
        for part, path in files.items()
    }
    places = {part: str(path) for part, path in files.items()}
    check_digests(parts, PUBLISHED_SHA256, places, remedy="replace it by the published file")
    return parts


def download_mnist(seconds: float) -> Parts:
    """Fetch the four files (12 MB) from the mirror and check them.

    Nothing is left on disk. On an offline machine this fails after about 3 seconds, before any
    download starts.

    Args:
        seconds: The limit on the whole download.

    Raises:
        Unavailable: The mirror does not answer, is too slow, or sends something else.
    """
    host = urlsplit(MIRROR).hostname
    if not answers(MIRROR + published_name("test_labels")):
        raise Unavailable(f"its host {host} cannot be reached")
    contents = fetch([MIRROR + published_name(part) for part in PART_NAMES], seconds)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        for part, content in zip(PART_NAMES, contents, strict=True):
            (directory / published_name(part)).write_bytes(content)
        try:
            return read_mnist_files(directory)
        except InputError as error:
            # A captive portal answers every address with a page of its own.
            raise Unavailable(f"what its host {host} sends is not MNIST") from error
