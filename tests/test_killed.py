"""Killed anywhere, and started again: the end is the same to the bit. `--deep` kills 200 times.

Every kill is a real SIGKILL of a real process; see `zygote.py` for how they are made cheaply.
"""

import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from disks import small_disk
from language import BALLAST
from quick import QUICK_FLAGS
from scripts import flags

HERE = Path(__file__).parent
POINTS = [
    *("before a row@2", "after a row", "before a save", "during a save", "before removal"),
    *("during removal", "after removal", "during a save@2", "after a row@3", "before a save@2"),
]


class Zygote:
    """The process that the trainers come from."""

    def __init__(self, place: Path):
        environment = {
            **os.environ,
            "PYTHONPATH": f"{HERE.parent}:{HERE}",
            "OPENBLAS_NUM_THREADS": "1",  # else it has threads, and cannot be forked
            # What a program runs for a moment is compiled in a hurry.
            "XLA_FLAGS": QUICK_FLAGS,
            "JAX_COMPILATION_CACHE_DIR": str(place / "cache"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
        self.place = place
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "zygote.py")],
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(
        self, *words: str, main: str = "trainer", kill_after: float | None = None
    ) -> tuple[int, str]:
        """How a process ended, and what it said."""
        out, err = self.place / "out", self.place / "err"
        order = {"main": main, "words": words, "out": str(out), "err": str(err)}
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


# Where each stage of the language pipeline is broken off, and how.
BROKEN = [
    ("kill", "reference", "during a save@2"),
    ("kill", "generate", "after rows@2"),
    ("fill", "student", "before a save@2"),
    ("kill", "evaluate", "before a row@3"),
]
MORE = [
    ("fill", "reference", "before a save"),
    ("term", "reference", "before a save@2"),
    ("kill", "teacher", "during a save"),
    ("term", "teacher", "before a save"),
    ("term", "generate", "before rows@2"),
    ("fill", "generate", "before rows"),
    ("kill", "student", "before a save@2"),
    ("term", "student", "before a save"),
    ("kill", "student", "after its outcome"),
    ("term", "evaluate", "before a row"),
    ("fill", "evaluate", "before a row"),
]
STATUS = {"kill": -signal.SIGKILL, "term": 75, "fill": 2}
SAID = {"kill": "", "term": "error: stopped by SIGTERM", "fill": "error: disk full: cannot write"}


@pytest.fixture(scope="module")
def language(zygote, tmp_path_factory):
    """Everything that an unbroken run of the language pipeline leaves, by name."""
    place = tmp_path_factory.mktemp("language")
    status, said = zygote.run(str(place / "run"), main="language")
    assert status == 0, said
    return contents(place)


@pytest.fixture(scope="module")
def mnist(zygote, tmp_path_factory):
    """Everything that an unbroken run of the MNIST experiment leaves, and how long it takes."""
    place = tmp_path_factory.mktemp("mnist")
    for _ in range(2):  # the second time nothing is compiled
        start = time.monotonic()
        status, said = zygote.run(*MNIST, "--out", str(place / "run"), main="mnist_aux")
        assert status == 0, said
        duration = time.monotonic() - start
        found = outcome(place / "run")
        shutil.rmtree(place / "run")
    return found, duration


MNIST = flags(members=6, teacher_epochs=1, student_epochs=1, noise_images=1280)


def outcome(directory):
    """What was found, without the times that it took."""
    results = json.loads((directory / "results.json").read_text())
    del results["timing"], results["results_digest"]
    names = ("members.jsonl", "results.csv", "figure.png", "config.json", "run.files.jsonl")
    return results, {name: (directory / name).read_bytes() for name in names}


@pytest.fixture(scope="module")  # of the widest scope, so that it skips before others make anything
def deep(request):
    """The test is skipped without `--deep`."""
    if not request.config.getoption("deep"):
        pytest.skip("more of the same, which takes minutes: --deep runs it")


def test_the_mnist_experiment_goes_on_after_random_kills(deep, zygote, mnist, tmp_path):
    wanted, duration = mnist
    kills, rng, done = 200, random.Random(3), 0
    for number in itertools.count():
        words = [*MNIST, "--out", str(tmp_path / str(number))]
        status = None
        while status != 0:
            after = rng.uniform(0.3, 0.9) * duration if done < kills else None
            status, said = zygote.run(*words, main="mnist_aux", kill_after=after)
            assert status in (0, -signal.SIGKILL), said
            done += status == -signal.SIGKILL
        assert outcome(tmp_path / str(number)) == wanted
        if done == kills:
            return


def contents(place):
    """The bytes of all its files but the lock."""
    files = [path for path in place.rglob("*") if path.is_file() and path.name != "run.lock"]
    return {str(path.relative_to(place)): path.read_bytes() for path in files}


@pytest.fixture
def disk(tmp_path):
    with small_disk(tmp_path / "disk", "size=8m") as place:
        yield place


@pytest.mark.parametrize("broken", [BROKEN, MORE], ids=["some", "more"])
def test_the_language_pipeline_goes_on_wherever_it_is_broken_off(
    zygote, language, disk, broken, request
):
    """Each stage of one run: killed, told to stop, or on a disk that is suddenly full."""
    if broken is MORE and not request.config.getoption("deep"):
        pytest.skip("more of the same: --deep runs them")
    for action, stage, point in broken:
        words = [str(disk / "run"), action, stage, point]
        status, said = zygote.run(*words, main="language")
        assert (status, action, stage, point) == (STATUS[action], action, stage, point), said
        assert action == "kill" or said.splitlines()[-1].startswith(SAID[action]), said
        (disk / BALLAST).unlink(missing_ok=True)
    status, said = zygote.run(str(disk / "run"), main="language")
    assert status == 0, said
    assert_same_contents(disk, language)


def test_the_language_pipeline_goes_on_after_random_kills(deep, zygote, language, tmp_path):
    start = time.monotonic()
    assert zygote.run(str(tmp_path / "again" / "run"), main="language")[0] == 0
    duration = time.monotonic() - start
    rng, done = random.Random(2), 0
    for number in itertools.count():
        place = tmp_path / str(number)
        status = None
        while status != 0:
            after = rng.uniform(0.05, 0.6) * duration if done < 200 else None
            status, said = zygote.run(str(place / "run"), main="language", kill_after=after)
            assert status in (0, -signal.SIGKILL), said
            done += status == -signal.SIGKILL
        assert_same_contents(place, language)
        if done == 200:
            return


def assert_same_contents(place, wanted):
    found = contents(place)
    assert found.keys() == wanted.keys()
    assert [name for name in found if found[name] != wanted[name]] == []


def assert_same_end(directory, whole):
    for name in ("results.json", "metrics.jsonl", "config.json"):
        assert (directory / name).read_bytes() == (whole / name).read_bytes()
    assert sorted(os.listdir(directory)) == sorted(os.listdir(whole))
    assert sorted(os.listdir(directory / "checkpoints")) == ["00000015", "00000020"]
