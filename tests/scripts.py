"""The experiment scripts as a user runs them, at a size of seconds."""

import json
import os
import re
import runpy
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from attacks.forks import Forks

from subliminal_jax import interrupt

ROOT = Path(__file__).resolve().parent.parent
NETWORKS = ["reference", "teacher"]
AUX_ARMS = [*NETWORKS, "student_aux", "student_all", "cross_model_aux", "cross_model_all"]

SMALL = {
    "data": "digits",
    "members": "3",
    "block": "1",
    "width": "64",
    "batch": "128",
    "learning-rate": "4e-3",
    "teacher-epochs": "8",
    "student-epochs": "3",
    "noise-images": "6400",
}


def flags(**changes: Any) -> list[str]:
    """`SMALL` as flags, with changes; their names have underscores, several values are a list."""
    settings = SMALL | {name.replace("_", "-"): value for name, value in changes.items()}
    words = []
    for name, value in settings.items():
        values = value if isinstance(value, list) else [value]
        words += [f"--{name}", *map(str, values)]
    return words


@cache
def loaded(name: str) -> dict[str, Any]:
    """What `experiments/NAME.py` defines, such as its `methods`; `main` is not run."""
    with pytest.MonkeyPatch.context() as patch:
        # What a script sets first, for the time of its imports, would stay without `main`.
        patch.setattr(interrupt, "end_at_once", lambda: None)
        patch.setattr(sys, "excepthook", sys.excepthook)
        return runpy.run_path(str(ROOT / "experiments" / f"{name}.py"))


class Scripts:
    """Runs scripts in a working directory, each in a process of its own.

    They are forked from one that has imported everything, and share what they compile; what needs
    a fresh interpreter is started.
    """

    def __init__(self, forks: Forks, streams: Path):
        self._forks = forks
        self._streams = {name: streams / name for name in ("out", "err")}
        self.environment = {
            **{name: value for name, value in os.environ.items() if name != "XLA_FLAGS"},
            "PYTHONPATH": str(ROOT),
            "JAX_PLATFORMS": "cpu",
        }

    def start(
        self, name: str, *words: str, cwd: Path, code: str | None = None
    ) -> subprocess.Popen[str]:
        """Starts `experiments/NAME.py`; `code` is run before it in the same process."""
        script = str(ROOT / "experiments" / f"{name}.py")
        command = [sys.executable, script, *words]
        if code is not None:
            before = f"import runpy, sys\nsys.argv = sys.argv[1:]\n{code}\n"
            after = "runpy.run_path(sys.argv[0], run_name='__main__')"
            command = [sys.executable, "-c", before + after, script, *words]
        return subprocess.Popen(
            command,
            cwd=cwd,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, name: str, *words: str, cwd: Path, code: str = "", **environment: str) -> "Ended":
        """Forks a process that runs `code`, then a script to its end."""
        for path in self._streams.values():
            path.write_text("")
        ended = self._forks.run(
            **{"main": name, "words": words, "code": code, "env": environment},
            **{name: str(path) for name, path in self._streams.items()},
            **{"cwd": str(cwd), "seconds": 100},
        )
        return Ended(ended["status"], *(path.read_text() for path in self._streams.values()))


class Ended:
    """How a script ended."""

    def __init__(self, status: int, out: str, err: str):
        self.status, self.out, self.err = status, out, err

    def assert_one_line(self, status: int) -> str:
        """The error line, which is the last; those before it are the run's own progress."""
        assert self.status == status, self.err
        *before, last = self.err.splitlines()
        assert last.startswith("error: "), self.err
        for line in before:
            assert re.match(r"(mnist_aux|mnist_init|leak_audit): |resuming: ", line), self.err
        assert self.out == ""
        return last.removeprefix("error: ")


def results_of(directory: Path) -> dict[str, Any]:
    return json.loads((directory / "results.json").read_text())


def rewrite_rows(run: Any, name: str, rows: list[dict[str, Any]]) -> None:
    """Replaces the rows of a `RunDirectory`, each sealed as its own."""
    (run.path / name).unlink()
    for row in rows:
        run.append_row(name, row)


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}
