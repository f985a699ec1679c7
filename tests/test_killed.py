"""Killed anywhere, and started again: the end is the same to the bit. `--deep` kills 200 times.

Every kill is a real SIGKILL of a real process.
"""

import itertools
import json
import os
import random
import shutil
import signal
import time

import pytest
from disks import small_disk
from language import BALLAST
from scripts import flags

POINTS = [
    *("before a row@2", "after a row", "before a save", "during a save", "before removal"),
    *("during removal", "after removal", "during a save@2", "after a row@3", "before a save@2"),
]


@pytest.fixture(scope="module")
def run(forks, tmp_path_factory):
    """Runs a command and returns how it ended, and what it said."""
    place = tmp_path_factory.mktemp("killed")

    def run(*words, main="trainer", kill_after=None):
        (place / "err").write_text("")
        signals = [] if kill_after is None else [(kill_after, signal.SIGKILL)]
        ended = forks.run(
            main=main, words=words, signals=signals, seconds=300, cwd=str(place),
            out=os.devnull, err=str(place / "err"),
        )  # fmt: skip
        assert not ended["killed"]
        return ended["status"], (place / "err").read_text()

    return run


@pytest.mark.parametrize("model", ["mlp", "decoder"])
def test_a_killed_run_ends_where_an_unbroken_one_ends(run, tmp_path, model, request):
    whole = tmp_path / "whole"
    assert run(str(whole), model, "jit")[0] == 0
    start = time.monotonic()
    assert run(str(tmp_path / "again"), model, "jit")[0] == 0
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
                status, said = run(*words)
                assert status == 0, said
                continue
            point = next(points)
            if point is not None:
                status, said = run(*words, point)
            else:
                status, said = run(*words, kill_after=rng.uniform(0.1, 1.1) * duration)
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
def language(run, tmp_path_factory):
    """Everything that an unbroken run of the language pipeline leaves, by name."""
    place = tmp_path_factory.mktemp("language")
    status, said = run(str(place / "run"), main="language")
    assert status == 0, said
    return contents(place)


@pytest.fixture(scope="module")
def mnist(run, tmp_path_factory):
    """Everything that an unbroken run of the MNIST experiment leaves, and how long it takes."""
    place = tmp_path_factory.mktemp("mnist")
    for _ in range(2):  # the second time nothing is compiled
        start = time.monotonic()
        status, said = run(*MNIST, "--out", str(place / "run"), main="mnist_aux")
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


def test_the_mnist_experiment_goes_on_after_random_kills(deep, run, mnist, tmp_path):
    wanted, duration = mnist
    kills, rng, done = 200, random.Random(3), 0
    for number in itertools.count():
        words = [*MNIST, "--out", str(tmp_path / str(number))]
        status = None
        while status != 0:
            after = rng.uniform(0.3, 0.9) * duration if done < kills else None
            status, said = run(*words, main="mnist_aux", kill_after=after)
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
    run, language, disk, broken, request
):
    """Each stage of one run: killed, told to stop, or on a disk that is suddenly full."""
    if broken is MORE and not request.config.getoption("deep"):
        pytest.skip("more of the same: --deep runs them")
    for action, stage, point in broken:
        words = [str(disk / "run"), action, stage, point]
        status, said = run(*words, main="language")
        assert (status, action, stage, point) == (STATUS[action], action, stage, point), said
        assert action == "kill" or said.splitlines()[-1].startswith(SAID[action]), said
        (disk / BALLAST).unlink(missing_ok=True)
    status, said = run(str(disk / "run"), main="language")
    assert status == 0, said
    assert_same_contents(disk, language)


def test_the_language_pipeline_goes_on_after_random_kills(deep, run, language, tmp_path):
    start = time.monotonic()
    assert run(str(tmp_path / "again" / "run"), main="language")[0] == 0
    duration = time.monotonic() - start
    rng, done = random.Random(2), 0
    for number in itertools.count():
        place = tmp_path / str(number)
        status = None
        while status != 0:
            after = rng.uniform(0.05, 0.6) * duration if done < 200 else None
            status, said = run(str(place / "run"), main="language", kill_after=after)
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
