"""Masks and data files that are refused, in one line that says where and what to do."""

import gzip
import os
import pickle
import zipfile

import numpy as np
import pytest
from idx_files import STEMS, idx_bytes, write_mnist
from scripts import Ended, flags

SCRIPTS = ["mnist_aux", "mnist_init"]
DIGITS = ["--data", "digits", "--out", "run"]


# Masks

SHAPES = {"hidden_0": (64, 4), "hidden_1": (4, 4), "logits": (4, 13)}


def arrays(**changes):
    found = {}
    for layer, (inputs, width) in SHAPES.items():
        found |= {f"{layer}.kernel": np.ones((inputs, width)), f"{layer}.bias": np.ones(width)}
    return found | changes


class Canary:
    def __reduce__(self):
        return os.mkdir, ("unpickled",)


def write_mask(path, case):
    good = arrays()
    if case == "empty":
        path.write_bytes(b"")
    elif case == "text":
        path.write_text("hidden_0.kernel")
    elif case == "array":
        np.save(path.with_suffix(".npy"), np.ones(3))
        path.with_suffix(".npy").rename(path)
    elif case == "pickle":
        path.write_bytes(pickle.dumps(Canary()))
    elif case == "objects":
        np.savez(path, **arrays(**{"logits.bias": np.array([Canary()] * 13, object)}))
    elif case == "truncated":
        np.savez(path, **good)
        path.write_bytes(path.read_bytes()[:-200])
    elif case == "flipped":
        np.savez(path, **good)
        content = bytearray(path.read_bytes())
        content[400] ^= 255
        path.write_bytes(content)
    elif case == "bomb":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("logits.bias.npy", bytes(10_000_000))
    elif case == "missing":
        np.savez(path, **{name: array for name, array in good.items() if name != "logits.bias"})
    else:
        change = {
            "unknown": {"conv.kernel": np.ones(3)},
            "shape": {"logits.bias": np.ones(12)},
            "value": {"logits.bias": np.full(13, 0.5)},
            "nan": {"logits.bias": np.full(13, np.nan)},
        }[case]
        np.savez(path, **arrays(**change))


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        *((case, "cannot be read as .npz") for case in ("empty", "text", "array", "pickle")),
        *((case, "cannot be read as .npz") for case in ("objects", "truncated", "flipped")),
        ("bomb", "far more than the network's"),
        ("missing", "logits.bias is missing; give exactly hidden_0."),
        ("unknown", "conv.kernel is not a parameter of the network; give exactly"),
        ("shape", "logits.bias has shape (12,); it must be (13,)"),
        ("value", "logits.bias has values other than 0 and 1"),
        ("nan", "logits.bias has values other than 0 and 1"),
    ],
)
def test_masks(refused, tmp_path, case, expected):
    write_mask(tmp_path / "m.npz", case)
    line = refused("mnist_init", *DIGITS, "--width", "4", "--masks", "m.npz")
    assert line.startswith("mask m.npz: ")
    assert expected in line
    assert not (tmp_path / "unpickled").exists()


def test_masks_of_one_name(refused, tmp_path):
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        np.savez(tmp_path / place / "m.npz", **arrays())
    words = ["--width", "4", "--masks", "a/m.npz", "b/m.npz"]
    assert "two students are called mask_m" in refused("mnist_init", *DIGITS, *words)


# Data


def damage(directory, part, case):
    path = directory / f"{STEMS[part]}.gz"
    values = gzip.decompress(path.read_bytes())
    if case == "missing":
        path.unlink()
    elif case == "truncated gzip":
        path.write_bytes(path.read_bytes()[:-9])
    elif case == "truncated":
        path.write_bytes(gzip.compress(values[:-1]))
    elif case == "longer":
        path.write_bytes(gzip.compress(values + b"0"))
    elif case == "altered":
        path.write_bytes(gzip.compress(values[:-1] + bytes([values[-1] ^ 1])))
    elif case == "a web page":
        path.write_bytes(b"<html>log in</html>")
    elif case == "empty":
        path.write_bytes(b"")
    elif case == "no type":
        path.write_bytes(idx_bytes(np.zeros(3, np.uint8)).replace(b"\x08", b"\x0d", 1))
    elif case == "a directory":
        path.unlink()
        path.mkdir()


@pytest.mark.parametrize("data", ["auto", "mnist"])
@pytest.mark.parametrize("part", ["train_images", "test_labels"])
@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("missing", "lacks"),
        ("a directory", "lacks"),
        ("truncated gzip", "is truncated"),
        ("truncated", "is truncated"),
        ("longer", "has bytes left over"),
        ("altered", "is not the published content"),
        ("a web page", "neither gzip nor IDX"),
        ("empty", "neither gzip nor IDX"),
        ("no type", "holds IDX type 0x0d"),
    ],
)
def test_data_files(refused, tmp_path, small_mnist, data, part, case, expected):
    directory = write_mnist(tmp_path / "mnist", small_mnist)
    damage(directory, part, case)
    line = refused("mnist_aux", "--data", data, "--data-dir", directory, "--out", "run")
    assert expected in line
    assert STEMS[part] in line
    assert not (tmp_path / "run").exists()


def test_a_name_of_odd_bytes(refused):
    assert r"'a\udcff': not UTF-8" in refused("mnist_aux", "--data-dir", "a\udcff")


def test_no_device(scripts, tmp_path):
    # Nobody has this platform. JAX reads the variable when it is imported, so a fork will not do.
    code = "import os\nos.environ['JAX_PLATFORMS'] = 'abacus'"
    started = scripts.start("mnist_aux", *flags(out="run"), cwd=tmp_path, code=code)
    out, err = started.communicate(timeout=100)
    ended = Ended(started.returncode, out, err)
    assert "JAX finds no device (JAX_PLATFORMS='abacus')" in ended.assert_one_line(2)


def test_no_home(script, monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr("pathlib.Path.home", no_home)
    for place in ("TFDS_DATA_DIR", "SUBLIMINAL_DATA_DIR"):
        monkeypatch.delenv(place, raising=False)
    line = script("mnist_aux", "--data", "mnist").assert_one_line(2)
    assert line.startswith("MNIST was not found because there is no home directory: give the dir")


def test_absent_data(refused, monkeypatch):
    line = refused("mnist_aux", "--data-dir", "absent")
    assert line == "the data directory absent does not exist: correct the path"
    monkeypatch.setenv("SUBLIMINAL_DATA_DIR", "gone")
    assert "the data directory gone does not exist" in refused("mnist_aux")


# The run directory
