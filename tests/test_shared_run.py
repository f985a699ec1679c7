"""Several runs that want one directory: each waits for the one that makes it, and says for whom."""

import signal
from types import SimpleNamespace

import pytest
from children import HOLD, child

from subliminal_jax.errors import InputError
from subliminal_jax.interrupt import Terminated, terminations_raised
from subliminal_jax.runs import shared_run as module
from subliminal_jax.runs.locks import InUse
from subliminal_jax.runs.run_directory import RunDirectory
from subliminal_jax.runs.shared_run import shared_run

FINISH = HOLD.replace("{}):", "{}) as run:") + "    run.finish({'found': 1})\n"


@pytest.fixture
def at_a_look(monkeypatch):
    """Does something in place of the first sleep, and nothing in place of the others."""

    def replace(act):
        acts = [act]
        sleep = lambda seconds: acts.pop()() if acts else None
        monkeypatch.setattr(module, "time", SimpleNamespace(sleep=sleep))

    return replace


@pytest.fixture
def holder(tmp_path):
    with child(FINISH, tmp_path / "it") as holder:
        assert holder.stdout.readline() == "held\n"
        yield holder


def test_of_a_run_of_ones_own_another_is_refused(tmp_path, holder):
    message = f"in use by another run .pid {holder.pid} on "
    with pytest.raises(InputError, match=message), shared_run(tmp_path / "it", {}):
        pass


def test_it_is_read_once_it_is_made(tmp_path, holder, at_a_look, capsys):
    def end():
        holder.communicate("")
        assert holder.returncode == 0

    at_a_look(end)
    with shared_run(tmp_path / "it", {}, makes="the reference") as run:
        assert run.results() == {"found": 1}
        with RunDirectory.open(tmp_path / "it", {}, overwrite=True):
            pass  # which needs the lock, that a reader does not have
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"waiting for another run (pid {holder.pid} on ")
    assert line.endswith(f"), which makes the reference in {tmp_path / 'it'}")
    assert ", started 2" in line


def test_where_the_maker_dies_the_next_one_goes_on(tmp_path, holder, at_a_look):
    def kill():
        holder.kill()
        holder.wait()

    at_a_look(kill)
    with shared_run(tmp_path / "it", {}, makes="it") as run:
        assert not run.finished
        with pytest.raises(InUse):
            RunDirectory.open(tmp_path / "it", {})


@pytest.mark.parametrize(
    ("number", "error"), [(signal.SIGTERM, Terminated), (signal.SIGINT, KeyboardInterrupt)]
)
def test_a_signal_ends_the_wait(tmp_path, holder, at_a_look, number, error):
    at_a_look(lambda: signal.raise_signal(number))
    waiting = shared_run(tmp_path / "it", {}, makes="it")
    with terminations_raised(), pytest.raises(error), waiting:
        pass


def test_what_no_waiting_helps_is_refused(tmp_path):
    (tmp_path / "it").write_text("")
    waiting = shared_run(tmp_path / "it", {}, makes="it")
    with pytest.raises(InputError, match=r"cannot be used \(File exists\)"), waiting:
        pass
