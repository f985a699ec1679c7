import gzip
import hashlib

import numpy as np
import pytest
from idx_files import idx_bytes

from subliminal_jax.data.idx import idx_digest, read_idx
from subliminal_jax.errors import InputError

IMAGES = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)
GOOD = idx_bytes(IMAGES)


@pytest.fixture
def refused(tmp_path):
    """Reads a file of the given content and returns the one line it is refused with."""

    def refuse(content: bytes, *, name: str = "images", axes: int = 3, **bounds: int) -> str:
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(InputError) as caught:
            read_idx(path, axes=axes, **bounds)
        message = str(caught.value)
        assert message.startswith(str(path))
        assert "\n" not in message
        return message

    return refuse


@pytest.mark.parametrize("name", ["images", "images.gz"])
@pytest.mark.parametrize("content", [GOOD, gzip.compress(GOOD)], ids=["plain", "gzipped"])
def test_the_content_says_whether_it_is_gzipped(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    values = read_idx(path, axes=3)
    np.testing.assert_array_equal(values, IMAGES)
    assert values.dtype == np.uint8


def test_labels_have_one_axis(tmp_path):
    path = tmp_path / "labels"
    path.write_bytes(idx_bytes(np.arange(7, dtype=np.uint8)))
    np.testing.assert_array_equal(read_idx(path, axes=1), np.arange(7))


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "neither gzip nor IDX"),
        (b"\x00\x00\x08", "neither gzip nor IDX"),
        (b"<html>" + GOOD, "neither gzip nor IDX"),
        (gzip.compress(b"<html>" + GOOD), "neither gzip nor IDX"),
        (b"\x00\x00\x0d" + GOOD[3:], "type 0x0d"),
        (GOOD[:10], "truncated in its header"),
        (GOOD[:-1], "is truncated: its header promises 60 values, it holds 59"),
        (GOOD + b"\x00", "has bytes left over: its header promises 60 values, it holds 61"),
        (idx_bytes(np.zeros((0, 4, 5), np.uint8)), "holds no values"),
        (b"\x00\x00\x08\x03" + b"\xff" * 12, "is truncated"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_malformed_content_is_refused(refused, content, what):
    assert what in refused(content)


def test_labels_in_place_of_images_are_refused(refused):
    assert "has 1 axes, expected 3" in refused(idx_bytes(np.zeros(60, np.uint8)))


@pytest.mark.parametrize("kept", [5, 30, -9, -1])
def test_a_truncated_gzip_is_refused(refused, kept):
    assert "ends early" in refused(gzip.compress(GOOD)[:kept])


def test_a_flipped_byte_in_gzip_is_refused(refused):
    content = bytearray(gzip.compress(GOOD, compresslevel=0))
    content[40] ^= 1
    assert "damaged (CRC check failed" in refused(bytes(content))


def test_a_broken_deflate_stream_is_refused(refused):
    content = bytearray(gzip.compress(GOOD))
    content[10] |= 0b110  # the reserved block type
    assert "damaged" in refused(bytes(content))


def test_bytes_after_the_gzip_stream_are_refused(refused):
    assert "damaged" in refused(gzip.compress(GOOD) + b"more")


@pytest.mark.parametrize("content", [GOOD, gzip.compress(GOOD)], ids=["plain", "gzipped"])
def test_the_size_is_bounded_after_decompression(refused, tmp_path, content):
    assert "more than the 75 bytes allowed" in refused(content, max_bytes=len(GOOD) - 1)
    assert read_idx(tmp_path / "images", axes=3, max_bytes=len(GOOD)).shape == IMAGES.shape


def test_an_absent_file_and_a_directory_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"absent cannot be read \(No such file"):
        read_idx(tmp_path / "absent", axes=3)
    with pytest.raises(InputError, match=r"cannot be read \(Is a directory"):
        read_idx(tmp_path, axes=3)


def test_the_digest_is_that_of_the_file():
    assert idx_digest(IMAGES) == hashlib.sha256(GOOD).hexdigest()
    assert idx_digest(np.asfortranarray(IMAGES)) == idx_digest(IMAGES)
    assert idx_digest(IMAGES.reshape(3, 20)) != idx_digest(IMAGES)
