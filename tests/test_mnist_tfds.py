import json
import sys

import numpy as np
import pytest
from idx_files import STEMS

from subliminal_jax.data.mnist_tfds import find_prepared, prepare_mnist, read_prepared, tfds_root
from subliminal_jax.errors import InputError


@pytest.fixture(autouse=True)
def no_tensorflow():
    """Checks that the test imported no TensorFlow, which may be installed."""
    yield
    assert "tensorflow" not in sys.modules


@pytest.fixture
def prepared(tmp_path, small_mnist, monkeypatch):
    def no_network(*_, **__):
        raise AssertionError("the network was used")

    monkeypatch.setattr("socket.socket.connect", no_network)
    monkeypatch.setattr("socket.getaddrinfo", no_network)
    return prepare_mnist(small_mnist, tmp_path)


def test_what_is_prepared_is_read_back_in_the_published_order(prepared, small_mnist, tmp_path):
    assert find_prepared(tmp_path) == prepared == tmp_path / "mnist" / "3.0.1"
    parts = read_prepared(prepared)
    for part in STEMS:
        np.testing.assert_array_equal(parts[part], small_mnist[part])
        assert parts[part].dtype == np.uint8


def test_the_stock_reader_reads_what_is_prepared(prepared, small_mnist, tmp_path):
    import tensorflow_datasets as tfds

    source = tfds.data_source("mnist", split="test", data_dir=str(tmp_path), download=False)
    stored = {(record["image"].tobytes(), record["label"]) for record in source}
    given = zip(small_mnist["test_images"], small_mnist["test_labels"], strict=True)
    assert stored == {(image.tobytes(), int(label)) for image, label in given}


def test_preparing_leaves_the_output_of_the_program_alone(small_mnist, tmp_path, capfd):
    prepare_mnist(small_mnist, tmp_path)
    assert capfd.readouterr().out == ""


def test_altered_content_is_refused(tmp_path, small_mnist):
    altered = small_mnist | {"test_labels": (small_mnist["test_labels"] + 1) % 10}
    with pytest.raises(InputError, match=r"3.0.1 \(test_labels\) is not the published content"):
        read_prepared(prepare_mnist(altered, tmp_path))


def test_a_flipped_byte_is_refused(prepared):
    (file,) = prepared.glob("mnist-train.array_record-*")
    content = bytearray(file.read_bytes())
    content[len(content) // 4] ^= 1
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"3.0.1 cannot be read .*: delete this directory"):
        read_prepared(prepared)


def test_a_format_for_tensorflow_is_refused(prepared):
    for file in prepared.glob("*.array_record-*"):
        file.rename(file.with_name(file.name.replace("array_record", "tfrecord")))
    with pytest.raises(InputError, match="only TensorFlow reads"):
        read_prepared(prepared)


def test_nothing_is_found_where_a_preparation_was_cut_short(tmp_path):
    cut_short = tmp_path / "mnist" / "incomplete.ABCDEF_3.0.1"
    cut_short.mkdir(parents=True)
    (cut_short / "dataset_info.json").write_text("{}")
    assert find_prepared(tmp_path) is None
    (tmp_path / "mnist" / "3.0.1").mkdir()
    assert find_prepared(tmp_path) is None


def test_the_root_is_that_of_tensorflow_datasets(monkeypatch, tmp_path):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert tfds_root() == tmp_path
    monkeypatch.delenv("TFDS_DATA_DIR")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert tfds_root() == tmp_path / "tensorflow_datasets"


def test_the_description_names_the_stock_data_set(prepared):
    info = json.loads((prepared / "dataset_info.json").read_text())
    assert (info["name"], info["version"]) == ("mnist", "3.0.1")
    assert info["fileFormat"] == "array_record"
