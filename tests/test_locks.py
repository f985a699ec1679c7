"""One process at a time uses a run directory; others are told which one."""

import errno
import fcntl
import json
import os

import pytest
from children import HOLD, RACE, child

from subliminal_jax.errors import InputError
from subliminal_jax.runs import locks
from subliminal_jax.runs.run_directory import RunDirectory

CONFIG = {"members": 5}


def test_two_processes_race_for_one_directory(tmp_path):
    rounds = 50
    with child(RACE) as one, child(RACE) as two:
        for number in range(rounds):
            for process in (one, two):
                print(tmp_path / f"run{number}", file=process.stdin, flush=True)
            answers = [process.stdout.readline().strip() for process in (one, two)]
            assert answers.count("won") == 1, answers
            winner = (one, two)[answers.index("won")]
            refusal = answers[1 - answers.index("won")]
            assert f"in use by another run (pid {winner.pid} on " in refusal
            assert ", started 2" in refusal
            assert "choose another --out" in refusal
            for process in (one, two):
                print("next", file=process.stdin, flush=True)
        one.stdin.close()
        two.stdin.close()
    assert len(list(tmp_path.iterdir())) == rounds


def test_lock_of_a_killed_process_is_taken_over(tmp_path):
    for _ in range(5):
        with child(HOLD, tmp_path) as holder:
            assert holder.stdout.readline() == "held\n"
            with pytest.raises(InputError, match=f"pid {holder.pid} on"):
                RunDirectory.open(tmp_path, {})
            holder.kill()
            holder.wait()
            assert json.loads((tmp_path / "run.lock").read_text())["pid"] == holder.pid
            with RunDirectory.open(tmp_path, {}):
                assert json.loads((tmp_path / "run.lock").read_text())["pid"] == os.getpid()


def test_a_lock_that_is_a_link_is_not_followed(tmp_path):
    (tmp_path / "victim").write_text("mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.lock").symlink_to(tmp_path / "victim")
    with pytest.raises(InputError, match=r"cannot be used \(Too many levels .* run\.lock\)"):
        RunDirectory.open(tmp_path / "run", CONFIG)
    assert (tmp_path / "victim").read_text() == "mine"


@pytest.mark.parametrize("put", [os.mkdir, os.mkfifo], ids=["directory", "pipe"])
def test_a_lock_that_is_not_a_file(tmp_path, put):
    put(tmp_path / "run.lock")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match=r"run\.lock(: is not a file|\))"):
        RunDirectory.open(tmp_path, CONFIG)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP])
def test_a_file_system_without_locks(tmp_path, monkeypatch, number):
    def flock(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(InputError) as caught:
        RunDirectory.open(tmp_path / "run", CONFIG)
    line = str(caught.value)
    assert line.startswith(f"--out {tmp_path}/run: its file system has no file locks (flock: ")
    assert "choose --out on another one" in line


def test_a_released_lock_names_nobody(tmp_path):
    lock = locks.take(tmp_path / "run.lock", "--out")
    with pytest.raises(locks.InUse) as caught:
        locks.take(tmp_path / "run.lock", "--out")
    assert caught.value.holder.startswith(f"pid {os.getpid()} on ")
    locks.release(lock)
    assert (tmp_path / "run.lock").read_bytes() == b""
    locks.release(locks.take(tmp_path / "run.lock", "--out"))
