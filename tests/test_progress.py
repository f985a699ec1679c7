"""Progress on a terminal, in a log, and in a resumed run."""

import io
import os
import pty
import subprocess
import sys
import termios

import pytest

from subliminal_jax import progress
from subliminal_jax.progress import Progress


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def test_plain_lines_every_five_seconds_and_at_the_end(clock, capsys):
    with Progress(20, "distil students") as shown:
        for step in range(20):
            clock.now += 1
            shown.update(note=f"loss {step}")
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" ")[2] for line in lines] == ["5/20", "10/20", "15/20", "20/20"]
    assert lines[0] == "distil students: 5/20 (25%), 0:05 elapsed, 0:15 left, loss 4"
    assert lines[-1] == "distil students: 20/20 (100%), 0:20 elapsed, 0:00 left, loss 19"


def test_last_line_when_short_or_broken(clock, capsys):
    def train() -> None:
        with Progress(10, "train") as shown:
            shown.update(3)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train()
    assert capsys.readouterr().err == "train: 3/10 (30%), 0:00 elapsed, 0:00 left\n"


def test_nothing_done_gives_no_estimate(clock, capsys):
    with Progress(10, "train"):
        clock.now += 4000
    assert capsys.readouterr().err == "train: 0/10 (0%), 1:06:40 elapsed\n"


def test_resumed_run_counts_only_its_own_pace(clock, capsys):
    with Progress(100, "train", done=90) as shown:
        clock.now += 6
        shown.update(2)
    assert capsys.readouterr().err == "train: 92/100 (92%), 0:06 elapsed, 0:24 left\n"


def test_no_steps_at_all(clock, capsys):
    with Progress(0, "train"):
        pass
    assert capsys.readouterr().err == "train: 0/0 (100%), 0:00 elapsed\n"


@pytest.mark.parametrize("terminal", [False, True])
def test_silent(clock, monkeypatch, terminal):
    stderr = io.StringIO()
    stderr.isatty = lambda: terminal
    monkeypatch.setattr(sys, "stderr", stderr)
    with Progress(3, "train", silent=True) as shown:
        clock.now += 6
        shown.update(3)
    assert stderr.getvalue() == ""
    assert shown.done == 3


def test_bar_on_a_terminal():
    code = (
        "from subliminal_jax.progress import Progress\n"
        "with Progress(8, 'train', done=2) as shown:\n"
        "    for _ in range(6): shown.update(note='loss 0.1')\n"
    )
    leader, follower = pty.openpty()
    termios.tcsetwinsize(follower, (24, 80))
    try:
        subprocess.run([sys.executable, "-c", code], stderr=follower, check=True)
        os.close(follower)
        shown = os.read(leader, 100_000).decode()
    finally:
        os.close(leader)
    assert "\r" in shown
    assert "train" in shown
    assert "8/8" in shown
    assert "loss 0.1" in shown
    assert "elapsed" not in shown
