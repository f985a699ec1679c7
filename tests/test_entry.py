"""How a script ends: its one line, its status, and a traceback for bugs only."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from textwrap import dedent
from types import SimpleNamespace

import pytest

from subliminal_jax import entry
from subliminal_jax.entry import run_main
from subliminal_jax.errors import InputError, RunError


def raising(error: BaseException):
    def main() -> None:
        raise error

    return main


def wrapped_disk_full() -> None:
    try:
        raise OSError(errno.ENOSPC, "No space left on device", "/disk/file")
    except OSError as error:
        raise ValueError("the checkpoint library failed") from error


def handling_disk_full() -> None:
    try:
        raise OSError(errno.EDQUOT, "Disk quota exceeded", "/disk/file")
    except OSError:
        raise ValueError("while handling it") from None


@pytest.mark.parametrize(
    ("main", "status", "line"),
    [
        (raising(InputError("--members: too few")), 2, "error: --members: too few"),
        (raising(RunError("loss is nan at step 3")), 1, "error: loss is nan at step 3"),
        (raising(KeyboardInterrupt()), 130, "error: interrupted; run the same command again"),
        (raising(OSError(errno.ENOSPC, "full", "/disk/file")), 2, "error: disk full: cannot write"),
        (raising(OSError(errno.EDQUOT, "quota")), 2, "error: disk full: cannot write"),
        (wrapped_disk_full, 2, "error: disk full: cannot write to /disk/file"),
        (raising(InputError("a\nb\x1b[31mc")), 2, "error: a b [31mc\n"),
    ],
)
def test_one_line_and_status(capsys, monkeypatch, main, status, line):
    left: list[int] = []
    monkeypatch.setattr(entry, "leave_jax_behind", left.append)  # it would end this process
    with pytest.raises(SystemExit) as caught:
        run_main(main)
    assert caught.value.code == status
    assert left == [130] * (status == 130)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(line)
    assert err.count("\n") == 1


def test_success(capsys):
    with pytest.raises(SystemExit) as caught:
        run_main(lambda: None)
    assert caught.value.code == 0
    assert capsys.readouterr() == ("", "")


def test_an_exit_of_main_passes_through():
    with pytest.raises(SystemExit) as caught:
        run_main(raising(SystemExit(75)))
    assert caught.value.code == 75


@pytest.mark.parametrize(
    "main",
    [
        raising(ZeroDivisionError("bug")),
        handling_disk_full,
    ],
)
def test_bugs_keep_their_traceback(main):
    with pytest.raises((ZeroDivisionError, ValueError)):
        run_main(main)


def without_device():
    raise AssertionError


@pytest.mark.parametrize("error", [AssertionError(), RuntimeError("Unable to initialize backend")])
def test_no_device_is_not_a_bug(capsys, monkeypatch, error):
    monkeypatch.setitem(sys.modules, "jax", SimpleNamespace(devices=without_device))
    monkeypatch.setenv("JAX_PLATFORMS", "abacus")
    with pytest.raises(SystemExit) as caught:
        run_main(raising(error))
    assert caught.value.code == 2
    line = "error: JAX finds no device (JAX_PLATFORMS='abacus'); unset it, or set it to cpu\n"
    assert capsys.readouterr() == ("", line)


@pytest.mark.parametrize(
    ("error", "devices"), [(AssertionError(), list), (KeyError("bug"), without_device)]
)
def test_a_bug_is_not_taken_for_a_lack_of_devices(monkeypatch, error, devices):
    monkeypatch.setitem(sys.modules, "jax", SimpleNamespace(devices=devices))
    with pytest.raises(type(error)):
        run_main(raising(error))


def run(code: str) -> list[str]:
    return [sys.executable, "-c", f"from subliminal_jax.entry import run_main\n{code}"]


def test_process_shows_no_traceback_for_a_refusal_and_one_for_a_bug():
    code = "from subliminal_jax.errors import InputError\ndef main():\n raise {}\nrun_main(main)"
    refused = subprocess.run(run(code.format("InputError('no')")), capture_output=True, text=True)
    assert (refused.returncode, refused.stderr) == (2, "error: no\n")
    bug = subprocess.run(run(code.format("KeyError('no')")), capture_output=True, text=True)
    assert bug.returncode == 1
    assert "Traceback" in bug.stderr


@pytest.mark.parametrize(
    ("number", "status", "line"),
    [
        (signal.SIGINT, 130, "interrupted"),
        (signal.SIGTERM, 75, "stopped by SIGTERM"),
    ],
)
def test_interrupted_process(number, status, line):
    code = "import time\ndef main():\n print('up', flush=True)\n time.sleep(30)\nrun_main(main)"
    with subprocess.Popen(
        run(code), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout.readline() == "up\n"
        time.sleep(0.05)
        child.send_signal(number)
        _, err = child.communicate(timeout=10)
    assert child.returncode == status
    assert err == f"error: {line}; run the same command again to resume\n"


def test_what_jax_computes_is_not_waited_for():
    """A program of minutes, begun in the background as long ones are."""
    code = """
    def main():
        import jax
        import jax.numpy as jnp
        step = lambda _, x: jnp.tanh(x @ x)
        run = jax.jit(lambda n, x: jax.lax.fori_loop(0, n, step, x))
        result = run.lower(1, jnp.ones((700, 700))).compile()(100_000, jnp.ones((700, 700)))
        print("up", flush=True)
        jax.block_until_ready(result)
    run_main(main)
    """
    with subprocess.Popen(
        run(dedent(code)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout.readline() == "up\n"
        child.send_signal(signal.SIGTERM)
        try:
            _, err = child.communicate(timeout=30)
        finally:
            child.kill()
    assert child.returncode == 75
    assert err == "error: stopped by SIGTERM; run the same command again to resume\n"


@pytest.mark.parametrize(
    ("number", "status", "line"),
    [
        (signal.SIGINT, 130, "interrupted"),
        (signal.SIGTERM, 75, "stopped by SIGTERM"),
    ],
)
def test_a_process_interrupted_during_an_import(tmp_path, number, status, line):
    """Even if the module catches the exception; a C++ module might abort."""
    module = "import time\ntry:\n print('up', flush=True)\n time.sleep(30)\n"
    module += "except BaseException:\n raise ImportError('of something else')\n"
    (tmp_path / "slow.py").write_text(module)
    code = "def main():\n import slow\nrun_main(main)"
    with subprocess.Popen(
        run(code),
        env=os.environ | {"PYTHONPATH": f"{Path(__file__).parents[1]}:{tmp_path}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout.readline() == "up\n"
        child.send_signal(number)
        _, err = child.communicate(timeout=10)
    assert (child.returncode, err) == (
        status,
        f"error: {line}; run the same command again to resume\n",
    )


@pytest.mark.parametrize(
    ("number", "status", "what"),
    [
        (signal.SIGINT, 130, "interrupted"),
        (signal.SIGTERM, 75, "stopped by SIGTERM"),
    ],
)
def test_an_interrupt_in_a_destructor_is_not_lost(capsys, number, status, what):
    class Dropped:
        def __del__(self):
            signal.raise_signal(number)

    def main() -> None:
        Dropped()
        time.sleep(10)

    started = time.monotonic()
    with pytest.raises(SystemExit) as caught:
        run_main(main)
    assert caught.value.code == status
    assert time.monotonic() - started < 9
    line = f"error: {what}; run the same command again to resume\n"
    assert capsys.readouterr() == ("", line)


def test_signal_handlers_are_restored():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit):
        run_main(lambda: None)
    assert signal.getsignal(signal.SIGTERM) == before


def test_other_errors_in_a_destructor_are_still_reported(monkeypatch):
    seen = []
    monkeypatch.setattr(sys, "unraisablehook", seen.append)

    class Broken:
        def __del__(self):
            raise ValueError("broken")

    with pytest.raises(SystemExit):
        run_main(Broken)
    assert [error.exc_type for error in seen] == [ValueError]
    assert sys.unraisablehook == seen.append
