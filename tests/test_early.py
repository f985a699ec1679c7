"""A stop signal or a lack of memory ends a script with one line, even while it imports."""

import ast
import os
import signal
import subprocess
import sys

import pytest
from scripts import ROOT

SCRIPTS = sorted(
    path for path in (ROOT / "experiments").glob("*.py") if "run_main" in path.read_text()
)


def run(code, **options):
    command = [sys.executable, "-c", f"from subliminal_jax import early\n{code}"]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, **options)


@pytest.mark.parametrize(
    ("number", "status", "line"),
    [
        (signal.SIGTERM, 75, "stopped by SIGTERM"),
        (signal.SIGINT, 130, "interrupted"),
    ],
)
def test_a_signal_while_a_script_imports(number, status, line):
    """It ends the process although the import would have caught an exception."""
    code = "import signal\ntry:\n    signal.raise_signal({})\nexcept BaseException:\n    print(0)"
    done = run(code.format(int(number)))
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr == f"error: {line}; run the same command again to resume\n"


def test_a_signal_that_is_ignored_stays_ignored():
    """Jobs that a shell runs in the background ignore interrupts."""
    ignoring = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"
    code = f"{ignoring}\nfrom subliminal_jax import early\nsignal.raise_signal(2)\nprint('on')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout) == (0, "on\n")


def test_run_main_takes_over_the_signals():
    code = (
        "import signal\nfrom subliminal_jax.entry import run_main\ndef main():\n"
        "    try:\n        signal.raise_signal({})\n    finally:\n        print('saved')\n"
        "run_main(main)"
    )
    for number, status in ((signal.SIGTERM, 75), (signal.SIGINT, 130)):
        done = run(code.format(int(number)))
        assert (done.returncode, done.stdout) == (status, "saved\n")


@pytest.mark.parametrize(
    ("error", "printed"),
    [
        ("MemoryError()", "error: out of memory"),
        ("ImportError('x.so: failed to map segment from shared object')", "error: out of memory"),
        ("OSError(24, 'Too many open files', '/a.py')", "error: /a.py: Too many open files; raise"),
        ("ImportError('no such name')", "Traceback"),
    ],
)
def test_what_ends_an_import_is_explained(error, printed):
    done = run(f"raise {error}")
    assert done.returncode == 1
    assert done.stderr.startswith(printed)
    assert printed == "Traceback" or done.stderr.count("\n") == 1


def test_a_memory_limit_that_is_too_low_is_refused():
    command = f'ulimit -v 1000000; exec "$0" {ROOT}/experiments/mnist_aux.py --data digits'
    done = subprocess.run(
        ["bash", "-c", command, sys.executable],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: this process may have 1,024,000,000 bytes of memory")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_scripts_import_it_first(script):
    first = next(node for node in ast.parse(script.read_text()).body if type(node) is not ast.Expr)
    assert ast.unparse(first) == "from subliminal_jax import early"
