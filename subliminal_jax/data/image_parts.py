"""The four parts of a labelled image set, and the check of their published digests."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import UInt8

from subliminal_jax.data.idx import idx_digest
from subliminal_jax.errors import InputError

# train_images and test_images [N, height, width], train_labels and test_labels [N].
Parts = dict[str, UInt8[np.ndarray, "..."]]

PART_NAMES = ("train_images", "train_labels", "test_images", "test_labels")


def part_digests(parts: Parts) -> dict[str, str]:
    """SHA-256 of every part, each written as an uncompressed IDX file."""
    return {name: idx_digest(parts[name]) for name in PART_NAMES}


def check_digests(
    parts: Parts, published: Mapping[str, str], places: Mapping[str, str], *, remedy: str
) -> None:
    """Refuses parts whose content differs from the published one.

    Args:
        parts: The four parts.
        published: The expected SHA-256 of each (see `part_digests`).
        places: Where each was read, for the message.
        remedy: What to do about a difference, for the message.

    Raises:
        InputError: A digest differs; names the place, the expected and the found digest.
    """
    for name, digest in part_digests(parts).items():
        if digest != published[name]:
            raise InputError(
                f"{places[name]} is not the published content: its SHA-256 should be "
                f"{published[name]} and is {digest}: {remedy}"
            )
