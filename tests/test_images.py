import gzip
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from idx_files import STEMS, idx_bytes, write_mnist

from subliminal_jax.data import mnist
from subliminal_jax.data.fetch import Unavailable
from subliminal_jax.data.images import load_images
from subliminal_jax.data.mnist_tfds import prepare_mnist
from subliminal_jax.errors import InputError


@pytest.fixture(autouse=True)
def tfds_dir(monkeypatch, tmp_path):
    """An offline machine without prepared data or a data directory."""
    root = tmp_path / "tfds"
    monkeypatch.setenv("TFDS_DATA_DIR", str(root))
    monkeypatch.delenv("SUBLIMINAL_DATA_DIR", raising=False)
    monkeypatch.setattr(mnist, "answers", lambda url: False)
    return root


@pytest.fixture
def online(monkeypatch, small_mnist):
    """The mirror answers with the published files; returns what it was asked."""
    asked = []

    def fetch(urls, seconds):
        asked.append((urls, seconds))
        files = {f"{STEMS[part]}.gz": idx_bytes(values) for part, values in small_mnist.items()}
        return [gzip.compress(files[url.rsplit("/", 1)[1]]) for url in urls]

    monkeypatch.setattr(mnist, "answers", lambda url: True)
    monkeypatch.setattr(mnist, "fetch", fetch)
    return asked


def assert_is(images, parts):
    for part, values in parts.items():
        array = getattr(images, part)
        np.testing.assert_array_equal(array, values.reshape(len(values), -1).squeeze())
        assert array.dtype == (np.uint8 if part.endswith("images") else np.int32)
        assert not array.flags.writeable
        assert images.digests[part] == hashlib.sha256(idx_bytes(values)).hexdigest()


@pytest.mark.parametrize("data", ["auto", "mnist"])
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("dotted", [True, False])
def test_a_directory_of_files(tmp_path, small_mnist, data, zipped, dotted):
    directory = write_mnist(tmp_path / "files", small_mnist, zipped=zipped, dotted=dotted)
    images = load_images(data, directory)
    assert_is(images, small_mnist)
    assert (images.name, images.white) == ("mnist", 255)
    assert images.source == f"IDX files in {directory}"


@pytest.mark.parametrize("make", [os.mkfifo, Path.touch])
def test_a_directory_that_is_none(tmp_path, make):
    make(tmp_path / "data")
    with pytest.raises(InputError, match="data is not a directory: correct the path"):
        load_images("mnist", tmp_path / "data")


def test_parts_that_are_no_files_are_not_opened(tmp_path):
    for stem in STEMS.values():
        os.mkfifo(tmp_path / stem)
    with pytest.raises(InputError, match="lacks train-images"):
        load_images("mnist", tmp_path)


@pytest.mark.parametrize("given", ["", "MNIST"])
def test_torchvisions_directory_is_named(tmp_path, small_mnist, given):
    raw = tmp_path / "data" / "MNIST" / "raw"
    raw.parent.mkdir(parents=True)
    write_mnist(raw, small_mnist)
    with pytest.raises(InputError) as refused:
        load_images("mnist", tmp_path / "data" / given)
    assert str(refused.value).endswith(f", but {raw} has them: give that one")
    assert_is(load_images("mnist", raw), small_mnist)


@pytest.mark.parametrize("given", ["mnist", "mnist/3.0.1"])
def test_the_directory_of_tensorflow_datasets_is_named(tmp_path, monkeypatch, given):
    prepared = tmp_path / "mnist" / "3.0.1"
    prepared.mkdir(parents=True)
    (prepared / "dataset_info.json").touch()
    monkeypatch.chdir(prepared.parent)
    for directory in (tmp_path / given, prepared.relative_to(prepared.parent)):
        with pytest.raises(InputError) as refused:
            load_images("mnist", directory)
        assert str(refused.value).endswith(f", but {tmp_path} has them: give that one")


def test_what_is_beside_a_directory_of_another_name_is_not_meant(tmp_path):
    (tmp_path / "mnist" / "3.0.1").mkdir(parents=True)
    (tmp_path / "mnist" / "3.0.1" / "dataset_info.json").touch()
    (tmp_path / "other").mkdir()
    with pytest.raises(InputError, match="lacks train-images"):
        load_images("mnist", tmp_path / "other")


def test_the_environment_names_a_directory_and_the_argument_comes_first(
    tmp_path, small_mnist, monkeypatch
):
    directory = write_mnist(tmp_path / "files", small_mnist)
    monkeypatch.setenv("SUBLIMINAL_DATA_DIR", str(directory))
    assert load_images("auto", None).name == "mnist"
    monkeypatch.setenv("SUBLIMINAL_DATA_DIR", str(tmp_path / "absent"))
    assert load_images("auto", directory).name == "mnist"
    with pytest.raises(InputError, match="absent does not exist"):
        load_images("auto", None)


@pytest.mark.parametrize("data", ["auto", "mnist"])
@pytest.mark.parametrize("part", STEMS)
def test_one_altered_byte_is_refused_naming_the_file(tmp_path, small_mnist, data, part):
    directory = write_mnist(tmp_path / "files", small_mnist)
    altered = small_mnist[part].copy()
    altered.flat[-1] ^= 1
    file = directory / f"{STEMS[part]}.gz"
    file.write_bytes(gzip.compress(idx_bytes(altered)))
    found = hashlib.sha256(idx_bytes(altered)).hexdigest()
    with pytest.raises(InputError) as caught:
        load_images(data, directory)
    for clue in (str(file), mnist.PUBLISHED_SHA256[part], found):
        assert clue in str(caught.value)


@pytest.mark.parametrize("data", ["auto", "mnist"])
def test_a_given_directory_is_never_passed_over(tmp_path, small_mnist, data, online):
    directory = tmp_path / "files"
    with pytest.raises(InputError, match="files does not exist"):
        load_images(data, directory)
    directory.mkdir()
    with pytest.raises(InputError, match=r"lacks train-images-idx3-ubyte.gz, train-labels"):
        load_images(data, directory)
    write_mnist(directory, small_mnist)
    truncated = directory / "t10k-images-idx3-ubyte.gz"
    truncated.write_bytes(truncated.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"t10k-images-idx3-ubyte.gz is truncated"):
        load_images(data, directory)
    truncated.unlink()
    with pytest.raises(InputError, match=r"lacks t10k-images-idx3-ubyte.gz: put"):
        load_images(data, directory)
    with pytest.raises(InputError, match="is not a directory"):
        load_images(data, directory / "train-labels-idx1-ubyte.gz")
    assert online == []


def test_a_path_that_the_system_rejects_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"xxx (cannot be read|does not exist)"):
        load_images("auto", tmp_path / ("x" * 300))


def test_a_given_directory_may_be_one_of_tensorflow_datasets(tmp_path, small_mnist):
    prepare_mnist(small_mnist, tmp_path / "given")
    images = load_images("auto", tmp_path / "given")
    assert_is(images, small_mnist)
    assert images.source == f"tensorflow-datasets in {tmp_path / 'given'}"
    write_mnist(tmp_path / "given", small_mnist)
    assert load_images("auto", tmp_path / "given").source.startswith("IDX files in")


def test_what_is_prepared_is_taken_without_the_network(small_mnist, tfds_dir):
    prepare_mnist(small_mnist, tfds_dir)
    images = load_images("auto", None)
    assert_is(images, small_mnist)
    assert images.reason == "MNIST was found"


def test_a_download_happens_once(small_mnist, online, tfds_dir):
    images = load_images("auto", None, fetch_seconds=7.0)
    assert_is(images, small_mnist)
    assert images.reason == "MNIST was downloaded"
    assert images.source == f"tensorflow-datasets in {tfds_dir}"
    urls = [f"{mnist.MIRROR}{STEMS[part]}.gz" for part in STEMS]
    assert online == [(urls, 7)]
    assert load_images("mnist", None).reason == "MNIST was found"
    assert len(online) == 1


def test_offline_auto_takes_the_digits_and_says_why(tfds_dir):
    images = load_images("auto", None)
    assert (images.name, images.source, images.white) == ("digits", "scikit-learn", 16)
    assert images.reason == (
        f"MNIST was not found in {tfds_dir} and its host storage.googleapis.com cannot be reached"
    )


def test_offline_mnist_is_refused_with_what_to_do():
    with pytest.raises(InputError, match=r"cannot be reached: give the directory .*--data-dir"):
        load_images("mnist", None)


def test_a_page_in_place_of_the_files_counts_as_offline(online, monkeypatch):
    monkeypatch.setattr(mnist, "fetch", lambda urls, seconds: [b"<html>sign in"] * 4)
    images = load_images("auto", None)
    assert images.name == "digits"
    assert "what its host storage.googleapis.com sends is not MNIST" in images.reason


def test_a_download_that_fails_leaves_the_digits(online, monkeypatch):
    def fetch(urls, seconds):
        raise Unavailable("its download did not end within 60 s")

    monkeypatch.setattr(mnist, "fetch", fetch)
    assert load_images("auto", None).reason.endswith("and its download did not end within 60 s")


def test_a_place_that_cannot_be_written_leaves_the_digits(online, tfds_dir):
    tfds_dir.write_text("a file where the directory should be")
    images = load_images("auto", None)
    assert images.name == "digits"
    assert images.reason.startswith(f"MNIST cannot be written to {tfds_dir}")


def test_a_preparation_that_only_tensorflow_reads_leaves_the_digits(small_mnist, tfds_dir):
    for file in prepare_mnist(small_mnist, tfds_dir).glob("*.array_record-*"):
        file.unlink()
    assert "only TensorFlow reads" in load_images("auto", None).reason
    with pytest.raises(InputError, match="only TensorFlow reads"):
        load_images("mnist", None)


def test_a_damaged_preparation_is_refused_even_under_auto(small_mnist, tfds_dir, monkeypatch):
    prepare_mnist(small_mnist, tfds_dir)
    monkeypatch.setitem(mnist.PUBLISHED_SHA256, "train_labels", "0" * 64)
    with pytest.raises(InputError, match="is not the published content"):
        load_images("auto", None)


def test_the_digits_need_no_directory_and_refuse_one(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="not read from a directory"):
        load_images("digits", tmp_path)
    monkeypatch.setenv("SUBLIMINAL_DATA_DIR", str(tmp_path / "absent"))
    assert load_images("digits", None).reason == "the digits were asked for"


def test_the_real_mnist(mnist_dir):
    images = load_images("auto", mnist_dir)
    assert images.train_images.shape == (60000, 784)
    assert images.test_images.shape == (10000, 784)
    assert images.train_labels[:8].tolist() == [5, 0, 4, 1, 9, 2, 1, 3]
    assert images.test_labels[:8].tolist() == [7, 2, 1, 0, 4, 1, 4, 9]
    assert images.train_images.max() == images.white


def test_importing_the_images_imports_nothing_heavy():
    heavy = "{'jax', 'sklearn', 'tensorflow_datasets', 'PIL', 'requests'}"
    program = f"import sys, subliminal_jax.data.images; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
