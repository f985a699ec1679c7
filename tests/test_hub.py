"""Models from the hub: a loopback server implements the part of its API that is needed."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import jax
import pytest
from numpy.testing import assert_array_equal
from scripts import ROOT
from torch_models import FIXTURES

from subliminal_jax.errors import InputError
from subliminal_jax.models.hub.weights import load

MAIN, OLD = "a" * 40, "b" * 40
FIND = """
import json, sys
from subliminal_jax.errors import InputError
from subliminal_jax.models.hub.model_files import find_model
for asked in sys.argv[1:]:
    try:
        found = find_model(asked)
        print(json.dumps([found.name, str(found.path), found.commit]))
    except InputError as error:
        print(json.dumps(str(error)))
"""


def files_of(family: str) -> dict[str, bytes]:
    directory = FIXTURES / family / "model"
    return {path.name: path.read_bytes() for path in directory.iterdir()}


REPOSITORIES = {
    ("org/model", MAIN): files_of("llama") | {
        "modeling.py": b"raise SystemExit", "pytorch_model.bin": b"\x80\x04pickle",
        "original/consolidated.safetensors": b"x",
    },
    ("org/model", OLD): files_of("qwen2"),
    ("org/pickled", MAIN): {
        "config.json": files_of("qwen2")["config.json"], "pytorch_model.bin": b"\x80\x04pickle",
    },
}  # fmt: skip
REVISIONS = {"main": MAIN, "v1": OLD, MAIN: MAIN, OLD: OLD}


def oid(data: bytes) -> str:
    """Git's name of a file's content, by which the hub lists it."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Hub(BaseHTTPRequestHandler):
    """Knows revisions of repositories, and the files of each commit."""

    def do_GET(self):
        self.answer(body=True)

    def do_HEAD(self):
        self.answer(body=False)

    def answer(self, body: bool) -> None:
        self.server.asked.append(self.path)
        parts = self.path.partition("?")[0].strip("/").split("/")
        api = parts[:2] == ["api", "models"]
        repo, rest = "/".join(parts[2:4] if api else parts[:2]), parts[4 if api else 2 :]
        commit = REVISIONS.get(rest[1] if len(rest) > 1 else "main")
        files = REPOSITORIES.get((repo, commit))
        if not any(name == repo for name, _ in REPOSITORIES):
            self.reply(404, {"X-Error-Code": "RepoNotFound"}, b"{}")
        elif files is None:
            self.reply(404, {"X-Error-Code": "RevisionNotFound"}, b"{}")
        elif api and rest[:1] == ["tree"]:
            entries = [
                {"type": "file", "path": name, "size": len(data), "oid": oid(data)}
                for name, data in files.items()
            ]
            self.reply(200, {"Content-Type": "application/json"}, json.dumps(entries).encode())
        elif api:
            listed = [{"rfilename": name} for name in files]
            about = {"id": repo, "sha": commit, "siblings": listed, "private": False}
            self.reply(200, {"Content-Type": "application/json"}, json.dumps(about).encode())
        else:
            data = files["/".join(rest[2:])]
            headers = {"X-Repo-Commit": commit, "ETag": f'"{oid(data)}"'}
            self.reply(200, headers, data, body)

    def reply(self, status: int, headers: dict[str, str], data: bytes, body: bool = True) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(data))}).items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def hub():
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        server.asked = []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def find(hub, home: Path, *asked: str, offline: bool = False) -> list:
    """The model that a new process finds: the hub's client reads its settings when it starts."""
    settings = {
        "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}", "HF_HOME": str(home),
        "HF_HUB_OFFLINE": str(int(offline)), "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1", "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    ended = subprocess.run(
        [sys.executable, "-c", FIND, *asked], env=kept | settings, stdout=subprocess.PIPE,
        text=True, timeout=120, check=True,
    )  # fmt: skip
    return [json.loads(line) for line in ended.stdout.splitlines()]


def test_models_of_the_hub(hub, tmp_path):
    asked = ("org/model", "org/model@v1", "org/pickled", "org/model@v2", "org/none")
    newest, old, pickled, no_revision, no_model = find(hub, tmp_path, *asked)
    assert (newest[0], newest[2]) == ("org/model", MAIN)
    assert (old[0], old[2]) == ("org/model@v1", OLD)
    assert no_revision == "org/model@v2: the hub has no such revision of it"
    assert no_model.startswith("org/none: no such directory, and no such model on the hub")

    # Safetensors and JSON alone were fetched, and they are those of the commit.
    fetched = {path.name for path in Path(newest[1]).iterdir()}
    assert fetched == set(files_of("llama"))
    assert not any(path.endswith((".py", ".bin", "consolidated.safetensors")) for path in hub.asked)
    fetched_from = {path.split("/")[4] for path in hub.asked if "/resolve/" in path}
    assert fetched_from == {MAIN, OLD}  # commits, never a branch that may move meanwhile
    for found, family in ((newest, "llama"), (old, "qwen2")):
        model = load(found[1])
        assert model.files.commit == found[2]
        expected = load(str(FIXTURES / family / "model"))
        assert model.config == expected.config
        jax.tree.map(assert_array_equal, model.params, expected.params)
    with pytest.raises(InputError, match=r"has neither model\.safetensors nor"):
        load(pickled[1])

    # Offline the cache answers, by name and by commit, and the server hears nothing.
    before = len(hub.asked)
    again = find(hub, tmp_path, "org/model", f"org/model@{OLD}", "org/other", offline=True)
    assert again[:2] == [newest, [f"org/model@{OLD}", old[1], OLD]]
    assert again[2].startswith("org/other: is not in the local cache and HF_HUB_OFFLINE is set")
    assert len(hub.asked) == before
