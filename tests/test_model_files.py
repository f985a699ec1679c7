"""Finding a model offline: the hub's cache, and names that are neither a directory nor an id."""

import shutil
import socket

import pytest
from torch_models import FIXTURES

from subliminal_jax.errors import InputError
from subliminal_jax.models.hub.model_files import SINGLE, find_model
from subliminal_jax.models.hub.weights import load

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def no_network(monkeypatch):
    attempts = []
    monkeypatch.setattr(socket.socket, "connect", lambda *a: attempts.append(a))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: attempts.append(a))
    yield
    assert attempts == []


def test_offline_the_cache_is_all_there_is(monkeypatch, tmp_path, no_network):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=r"^some/model: is not in the local cache and HF_HUB_OFF"):
        find_model("some/model")
    cached = tmp_path / "models--some--model"
    snapshot = cached / "snapshots" / COMMIT
    shutil.copytree(FIXTURES / "qwen2" / "model", snapshot)
    (cached / "blobs").mkdir()
    (snapshot / SINGLE).rename(cached / "blobs" / "1")
    (snapshot / SINGLE).symlink_to("../../blobs/1")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(COMMIT)
    for asked in ("some/model", "some/model@main", f"some/model@{COMMIT}"):
        model = load(asked)
        assert (model.files.name, model.files.commit) == (asked, COMMIT)
    with pytest.raises(InputError, match=r"^some/model@other: is not in the local cache"):
        find_model("some/model@other")


@pytest.mark.parametrize("asked", ["a/b/c", "../a/b", "a b", "", "/a/b", "~a/b", "a/b@x@y z"])
def test_what_is_neither_a_directory_nor_a_hub_id(monkeypatch, no_network, asked):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError, match=r"no such|give a directory|hub id|not in the local"):
        find_model(asked)
