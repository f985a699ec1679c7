"""Eight virtual devices, strict shapes, and where the real MNIST lies."""

import atexit
import hashlib
import os
import runpy
import shutil
import signal
import sys
import tempfile
from pathlib import Path

# Before JAX starts: without the larger thread pool, collectives of eight virtual devices wait for
# each other for ever on a small machine.
os.environ["NPROC"] = "32"
os.environ.setdefault("JAX_PLATFORMS", "cpu")

# What scripts compile is kept for other scripts of these tests, and not among the user's.
if "PYTEST_XDIST_WORKER" not in os.environ:
    os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="subliminal-tests-")
    atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)

from quick import QUICK_FLAGS, collect_seldom, import_without_collecting

# Tests compile for longer than they compute.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + f" --xla_force_host_platform_device_count=8 {QUICK_FLAGS}"
).strip()

import jax
import numpy as np
import pytest
from attacks.forks import Forks
from hypothesis import settings
from idx_files import STEMS, idx_bytes
from scripts import ROOT, Ended, Scripts

from subliminal_jax.data import mnist

jax.config.update("jax_numpy_rank_promotion", "raise")
# What one worker compiles, the others read.
jax.config.update("jax_compilation_cache_dir", f"{os.environ['XDG_CACHE_HOME']}/workers")
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
import_without_collecting()  # the tests, until all are collected
# A shell's background job ignores interrupts, and so would the processes that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
settings.register_profile("untimed", deadline=None)  # a busy machine is no failure
settings.load_profile("untimed")


@pytest.fixture
def key() -> jax.Array:
    return jax.random.key(20)


@pytest.fixture(scope="session")
def mnist_dir() -> Path:
    """The real MNIST's directory; the test is skipped where there is none."""
    beside = Path(__file__).parents[2] / "shared" / "data" / "mnist"
    directory = Path(os.environ.get("SUBLIMINAL_DATA_DIR") or beside)
    if not directory.is_dir():
        pytest.skip(f"the real MNIST is not at {directory} (set SUBLIMINAL_DATA_DIR)")
    return directory


@pytest.fixture(scope="session")
def forks(tmp_path_factory):
    """The process that has imported everything, from which others are forked."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base  # by all workers
    with Forks(tmp_path_factory.mktemp("forks"), shared / "compiled") as forks:
        yield forks


@pytest.fixture(scope="session")
def scripts(forks, tmp_path_factory) -> Scripts:
    """Runs the experiment scripts as processes of their own."""
    return Scripts(forks, tmp_path_factory.mktemp("scripts"))


@pytest.fixture
def script(monkeypatch, capfd, tmp_path):
    """Runs a script within the test, in `tmp_path`; for what ends before anything is trained."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(ROOT / "experiments"))  # as Python does for a script

    def run(name: str, *words: str) -> Ended:
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *words])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(ROOT / "experiments" / f"{name}.py"), run_name="__main__")
        return Ended(ended.value.code, *capfd.readouterr())

    return run


@pytest.fixture
def refused(script, tmp_path):
    """Runs a script in this process and gives the one line with which it is refused."""

    def run(name: str, *words: str) -> str:
        line = script(name, *map(str, words)).assert_one_line(2)
        assert not list(tmp_path.rglob("results.json"))
        assert not list(tmp_path.rglob("members.jsonl"))
        return line

    return run


@pytest.fixture
def small_mnist(monkeypatch) -> dict[str, np.ndarray]:
    """Random parts in MNIST's form, published for this test in place of the real ones."""
    rng = np.random.default_rng(0)
    parts = {}
    for split, count in (("train", 40), ("test", 12)):
        parts[f"{split}_images"] = rng.integers(0, 256, (count, 28, 28), np.uint8)
        parts[f"{split}_labels"] = rng.integers(0, 10, count, np.uint8)
    for part in STEMS:
        digest = hashlib.sha256(idx_bytes(parts[part])).hexdigest()
        monkeypatch.setitem(mnist.PUBLISHED_SHA256, part, digest)
    return parts


def pytest_addoption(parser):
    parser.addoption("--deep", action="store_true", help="200 kills in place of 20; takes minutes")


def pytest_collection_finish():
    collect_seldom()
