"""A script whose output cannot be written, or whose terminal is tiny."""

import subprocess
import sys

import pytest
from scripts import ROOT

MAIN = """
import sys
from subliminal_jax.entry import run_main
from subliminal_jax.errors import InputError
def main():
    print("watching", file=sys.stderr)
    sys.stderr.flush()
    open({read!r}).close()
    print({text!r})
run_main(main)
"""


def run(redirection, text="done", read="/dev/null"):
    code = MAIN.format(text=text, read=read)
    command = f'exec "$0" -c "$1" {redirection}'
    return subprocess.run(
        ["bash", "-c", command, sys.executable, code], capture_output=True, text=True, cwd=ROOT
    )


@pytest.mark.parametrize("redirection", ["2>/dev/full", "2>&-"])
def test_a_run_outlives_a_stderr_that_cannot_be_written(redirection):
    ended = run(redirection)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "done\n", "")
    assert run(redirection, read="/absent").returncode == 2


@pytest.mark.parametrize("text", ["few", "many" * 5000])
def test_results_that_cannot_be_written_are_an_error(text):
    ended = run(">/dev/full", text)
    assert ended.returncode == 2
    first, last = ended.stderr.splitlines()
    assert first == "watching"
    assert last.startswith("error: disk full: cannot write to <standard output>; ")
    assert run(">/dev/full 2>&1", text).returncode == 2


def test_no_file_gets_the_number_of_a_closed_stream():
    """What C++ libraries print to stderr would be written into that file."""
    code = (
        "from subliminal_jax.process import streams\n"
        "streams.prepare(); print(open('/dev/null').fileno())"
    )
    command = ["bash", "-c", 'exec "$0" -c "$1" <&- 2>&-', sys.executable, code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert int(done.stdout) > 2


@pytest.mark.parametrize(
    "setting", [{"COLUMNS": "1"}, {"COLUMNS": "x", "LINES": "1"}, {"TERM": "dumb"}]
)
def test_the_smallest_terminals(script, monkeypatch, setting):
    for name, value in setting.items():
        monkeypatch.setenv(name, value)
    line = script("mnist_aux", "--members", "x").assert_one_line(2)
    assert line == "--members: should be a whole number, not 'x'; see --help"
    shown = script("mnist_aux", "--help")
    assert shown.status == 0
    assert "Independent runs of the whole" in " ".join(shown.out.split())
