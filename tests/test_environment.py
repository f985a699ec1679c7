"""What a run records about its machine and code."""

import json
import os
import subprocess
import sys

import pytest

from subliminal_jax import files
from subliminal_jax.runs import environment as environment_module
from subliminal_jax.runs.environment import compiler_flags, environment, git_revision

CONFIG = {"members": 5, "hidden": (4, 4), "optimizer": {"learning_rate": 0.1}}


def test_environment(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--a=1")
    monkeypatch.delenv("LIBTPU_INIT_ARGS", raising=False)
    described = environment()
    assert described == json.loads(files.strict_json(described))
    assert described["python"] == ".".join(map(str, sys.version_info[:3]))
    assert described["packages"]["pydantic"].count(".") == 2
    assert 1 <= described["cores"] <= described["cpu_count"] == os.cpu_count()
    assert described["variables"].pop("XLA_FLAGS") == "--a=1"
    assert set(described["variables"]) <= {"JAX_PLATFORMS"}


def test_flags_that_change_no_result_are_left_out():
    flags = "--xla_force_host_platform_device_count=8 --xla_dump_to=/tmp --xla_b=2 --xla_a=1"
    variables = {"XLA_FLAGS": flags, "LIBTPU_INIT_ARGS": "--xla_c=3", "OTHER": "--d"}
    assert compiler_flags(variables) == ["--xla_a=1", "--xla_b=2", "--xla_c=3"]
    assert compiler_flags({}) == []


def test_environment_leaves_out_absent_packages(monkeypatch):
    monkeypatch.setattr(environment_module, "PACKAGES", ("no-such-package", "pydantic"))
    assert list(environment()["packages"]) == ["pydantic"]


def test_environment_needs_no_jax():
    code = "import sys\nfrom subliminal_jax.runs.environment import environment\nenvironment()\n"
    code += "sys.exit('jax' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_git_revision(tmp_path, monkeypatch):
    def git(*words: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        command = ["git", "-C", str(tmp_path), *identity, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    assert git_revision(tmp_path) is None
    git("init", "-q")
    (tmp_path / "code.py").write_text("1")
    (tmp_path / "inner").mkdir()
    git("add", ".")
    git("commit", "-qm", "first")
    commit = git("rev-parse", "HEAD")
    assert git_revision(tmp_path) == commit
    assert git_revision(tmp_path / "inner") is None
    (tmp_path / "untracked").write_text("1")
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    assert git_revision(tmp_path) == commit
    monkeypatch.delenv("GIT_DIR")
    (tmp_path / "code.py").write_text("2")
    assert git_revision(tmp_path) == f"{commit}+dirty"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_revision(tmp_path) is None


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="needs a system that can tell")
def test_cores_are_those_that_the_process_may_use():
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert environment()["cores"] == 1
    finally:
        os.sched_setaffinity(0, allowed)
