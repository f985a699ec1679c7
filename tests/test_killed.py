"""Killed anywhere, and started again: the end is the same to the bit. `--deep` kills 200 times.

Every kill is a real SIGKILL of a real process; see `zygote.py` for how they are made cheaply.
"""

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

HERE = Path(__file__).parent
POINTS = [
    *("before a row@2", "after a row", "before a save", "during a save", "before removal"),
    *("during removal", "after removal", "during a save@2", "after a row@3", "before a save@2"),
]


class Zygote:
    """The process that the trainers come from."""

    def __init__(self, place: Path):
        environment = {
            **{name: value for name, value in os.environ.items() if name != "XLA_FLAGS"},
            "PYTHONPATH": f"{HERE.parent}:{HERE}",
            "OPENBLAS_NUM_THREADS": "1",  # else it has threads, and cannot be forked
            "JAX_COMPILATION_CACHE_DIR": str(place / "cache"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
        self.place = place
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "zygote.py")],
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(self, *words: str, kill_after: float | None = None) -> tuple[int, str]:
        """How a trainer ended, and what it said."""
        out, err = self.place / "out", self.place / "err"
        order = {"words": words, "out": str(out), "err": str(err)}
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        pid = int(self.process.stdout.readline())
        if kill_after is not None:
            time.sleep(kill_after)
            os.kill(pid, signal.SIGKILL)
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        status = int(self.process.stdout.readline())
        return status, err.read_text()

    def end(self) -> None:
        self.process.stdin.close()
        assert self.process.wait(timeout=60) == 0
        self.process.stdout.close()


@pytest.fixture(scope="module")
def zygote(tmp_path_factory):
    zygote = Zygote(tmp_path_factory.mktemp("zygote"))
    yield zygote
    zygote.end()


@pytest.mark.parametrize("model", ["mlp", "decoder"])
def test_a_killed_run_ends_where_an_unbroken_one_ends(zygote, tmp_path, model, request):
    whole = tmp_path / "whole"
    assert zygote.run(str(whole), model, "jit")[0] == 0
    start = time.monotonic()
    assert zygote.run(str(tmp_path / "again"), model, "jit")[0] == 0
    duration = time.monotonic() - start
    rng = random.Random(1)
    kills = 200 if request.config.getoption("deep") else 20
    points = itertools.cycle([*POINTS, *[None] * len(POINTS)])
    done = 0
    for number in itertools.count():
        directory = tmp_path / str(number)
        while not (directory / "results.json").exists():
            words = [str(directory), model, "jit"]
            if done == kills:
                status, said = zygote.run(*words)
                assert status == 0, said
                continue
            point = next(points)
            if point is not None:
                status, said = zygote.run(*words, point)
            else:
                status, said = zygote.run(*words, kill_after=rng.uniform(0.1, 1.1) * duration)
            assert status in (0, -signal.SIGKILL), said
            done += status == -signal.SIGKILL
        assert_same_end(directory, whole)
        if done == kills:
            return


def assert_same_end(directory, whole):
    for name in ("results.json", "metrics.jsonl", "config.json"):
        assert (directory / name).read_bytes() == (whole / name).read_bytes()
    assert sorted(os.listdir(directory)) == sorted(os.listdir(whole))
    assert sorted(os.listdir(directory / "checkpoints")) == ["00000030", "00000040"]
