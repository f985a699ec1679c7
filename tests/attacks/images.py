"""MNIST directories: truncated files, bombs, wrong headers, layouts of torchvision and TFDS."""

import gzip
import os
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from idx_files import STEMS, idx_bytes, write_mnist

from attacks.attack import Attack
from attacks.edits import KINDS, Bytes, other_kind, put
from attacks.shared import Shared

attack = partial(
    Attack, "images", main="mnist_aux", seconds=15.0,
    words=("--data", "mnist", "--data-dir", "mnist", "--out", "run", "--members", "2"),
)  # fmt: skip
IMAGES = STEMS["train_images"] + ".gz"


def directory(here: Path, shared: Shared) -> Path:
    """A few random images in MNIST's format."""
    rng = np.random.default_rng(0)
    parts = {}
    for split, count in (("train", 40), ("test", 12)):
        parts[f"{split}_images"] = rng.integers(0, 256, (count, 28, 28), np.uint8)
        parts[f"{split}_labels"] = rng.integers(0, 10, count, np.uint8)
    return write_mnist(here / "mnist", parts)


def images(data: Bytes | None, name: str = IMAGES) -> Callable[[Path, Shared], object]:
    """The training images replaced by other bytes."""

    def set_up(here: Path, shared: Shared) -> None:
        put(directory(here, shared) / IMAGES, None)
        put(here / "mnist" / name, data)

    return set_up


def header(*counts: int, magic: bytes = b"\0\0\x08\x03", rest: bytes = b"x") -> bytes:
    """A gzipped IDX file whose header states these counts."""
    return gzip.compress(magic + struct.pack(f">{len(counts)}I", *counts) + rest)


def bomb(gigabytes: int) -> bytes:
    """A gzipped file of zeros, whose header states few images."""
    packed = gzip.compress(bytes(2**26))
    return header(60000, 28, 28, rest=b"") + packed * (16 * gigabytes)


def moved(place: str) -> Callable[[Path, Shared], object]:
    """The files in a subfolder, as other libraries keep them."""

    def set_up(here: Path, shared: Shared) -> None:
        made = directory(here, shared)
        inner = made / place
        inner.mkdir(parents=True)
        for name in STEMS.values():
            (made / f"{name}.gz").rename(inner / f"{name}.gz")

    return set_up


def sparse(here: Path, shared: Shared) -> None:
    """An uncompressed sparse file of zeros."""
    images(b"", STEMS["train_images"])(here, shared)
    os.truncate(here / "mnist" / STEMS["train_images"], 2**40)


FILES = {
    "empty": b"", "not-gzip": b"hello", "gzip-cut": gzip.compress(bytes(9999))[:40],
    "gzip-bad-sum": gzip.compress(bytes(99))[:-8] + b"12345678",
    "gzip-of-gzip": gzip.compress(gzip.compress(bytes(99))),
    "empty-gzip": gzip.compress(b""),
    "magic-of-floats": header(60000, 28, 28, magic=b"\0\0\x0d\x03"),
    "magic-of-labels": header(60000, magic=b"\0\0\x08\x01"),
    "magic-of-nothing": header(60000, 28, 28, magic=b"PK\x03\x04"),
    "many-axes": header(*[1] * 255, magic=b"\0\0\x08\xff"),
    "huge-counts": header(2**32 - 1, 2**32 - 1, 2**32 - 1),
    "billions": header(2**31, 28, 28),
    "no-images": header(0, 28, 28, rest=b""),
    "other-size": header(60000, 27, 28),
    "too-short": header(60000, 28, 28, rest=bytes(784)),
    "too-long": header(1, 28, 28, rest=bytes(99999)),
    "random": lambda: gzip.compress(idx_bytes(np.zeros((60000, 28, 28), np.uint8))),
    "page": b"<!DOCTYPE html><html>",
    "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 7\n",
}  # fmt: skip

ATTACKS = [
    attack("random", set_up=directory),
    *(attack(f"images-{name}", set_up=images(data), quick=name == "huge-counts")
      for name, data in FILES.items()),
    attack("bomb-of-2-gigabytes", set_up=images(lambda: bomb(2)), quick=True),
    attack("plain-of-a-terabyte", set_up=sparse),
    *(attack(f"images-{kind.replace(' ', '-')}", set_up=lambda here, shared, kind=kind: other_kind(
        directory(here, shared) / IMAGES, kind)) for kind in KINDS),
    attack("images-missing", set_up=images(None)),
    attack("directory-missing"),
    attack("directory-is-file", set_up=lambda here, shared: put(here / "mnist", b"x")),
    attack("directory-is-loop", set_up=lambda here, shared: (here / "mnist").symlink_to("mnist")),
    attack("directory-is-archive", words=("--data", "mnist", "--data-dir", "mnist/" + IMAGES,
                                          "--out", "run"), set_up=directory),
    attack("torchvision-layout", set_up=moved("MNIST/raw")),
    attack("tfds-layout", set_up=moved("downloads/manual")),
]  # fmt: skip
