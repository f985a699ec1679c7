"""Run directories and processes that are refused, in one line that says where and what to do."""

import json
import os
import subprocess
import time

import pytest
from disks import fill, small_disk
from scripts import AUX_ARMS, ROOT, flags

from subliminal_jax.mnist import memory

SCRIPTS = ["mnist_aux", "mnist_init"]
DIGITS = ["--data", "digits", "--out", "run"]


def test_out_is_a_file(refused, tmp_path):
    (tmp_path / "file").write_text("mine")
    for out in ("file", "file/run"):
        line = refused("mnist_aux", "--data", "digits", "--out", out)
        assert line.startswith("--out ")
        assert "choose a directory you can write to" in line
    assert (tmp_path / "file").read_text() == "mine"


def test_out_holds_other_things(refused, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("mine")
    line = refused("mnist_aux", *DIGITS, "--overwrite")
    assert "holds files but no run; choose a new or an empty directory" in line
    assert os.listdir(tmp_path / "run") == ["thesis.tex"]


def test_out_cannot_be_written(refused, tmp_path):
    with small_disk(tmp_path / "disk", "size=64k,ro"):
        line = refused("mnist_aux", "--data", "digits", "--out", "disk/run")
    assert "cannot be used (Read-only file system)" in line


def test_out_is_on_a_full_disk(refused, tmp_path):
    with small_disk(tmp_path / "disk", "size=64k"):
        fill(tmp_path / "disk")
        line = refused("mnist_aux", "--data", "digits", "--out", "disk/run")
        assert line.startswith("disk full: ")
        assert "disk/run" in line
        assert "free some space, or choose another --out" in line


# What an earlier run left behind


def leave(directory, rows=(), results=None):
    """A run directory as an interrupted run of SMALL leaves it, with these rows."""
    from subliminal_jax.config import described, read_config
    from subliminal_jax.mnist.config import MnistConfig, resolve, with_pairs
    from subliminal_jax.runs.run_directory import RunDirectory

    path = directory.parent / "settings.yaml"
    settings = {"members": 3, "data": "digits"}
    path.write_text("".join(f"{name}: {value}\n" for name, value in settings.items()))
    config = resolve(with_pairs(read_config(MnistConfig, path)), "digits")
    with RunDirectory.open(directory, described(config)) as run:
        for row in rows:
            run.append_row("members.jsonl", row)
        if results is not None:
            run.finish(results)
    return ["--config", str(path), "--out", str(directory)]


def row(member, **changes):
    sound = {
        "member": member,
        "accuracy": dict.fromkeys(AUX_ARMS, 0.5),
        "init_distance": dict.fromkeys(AUX_ARMS[2:], 1.0),
        "losses": {arm: [1.0, 0.5] for arm in AUX_ARMS[1:]},
    }
    return sound | changes


UNSOUND = {
    "no member": {"accuracy": {}},
    "member of another run": row(3),
    "member below none": row(-1),
    "member in words": row("1"),
    "member twice": row(0),
    "another arm's row": row(1, accuracy=dict.fromkeys([*AUX_ARMS, "same"], 0.5)),
    "an arm too few": row(1, accuracy=dict.fromkeys(AUX_ARMS[:-1], 0.5)),
    "accuracy in words": row(1, accuracy=dict.fromkeys(AUX_ARMS, "high")),
    "no accuracy": row(1, accuracy=None),
    "distances in a list": row(1, init_distance=[1.0] * 4),
    "losses of no epoch": row(1, losses={arm: [] for arm in AUX_ARMS[1:]}),
}


@pytest.mark.parametrize("case", UNSOUND)
def test_rows_that_no_run_wrote(script, tmp_path, case):
    words = leave(tmp_path / "run", [row(0), UNSOUND[case], row(2)])
    line = script("mnist_aux", *words).assert_one_line(2)
    assert "members.jsonl: line 2 is not a row of this run" in line
    assert "remove that line" in line
    assert not (tmp_path / "run" / "results.json").exists()


@pytest.mark.parametrize("damaged", [b"\n", b"\x00\n", b"\xff\xfe\n", b'{"member": 1\n', b"7\n"])
def test_damaged_rows(script, tmp_path, damaged):
    words = leave(tmp_path / "run", [row(0)])
    with (tmp_path / "run" / "members.jsonl").open("ab") as file:
        file.write(damaged)
    line = script("mnist_aux", *words).assert_one_line(2)
    assert "members.jsonl: line 2 is not a row" in line


@pytest.mark.parametrize("results", [{}, {"arms": {}}, {"arms": {"a": {"mean": "?"}}}, {"arms": 1}])
def test_results_that_no_run_wrote(script, tmp_path, results):
    words = leave(tmp_path / "run", [row(m) for m in range(3)], results)
    line = script("mnist_aux", *words).assert_one_line(2)
    assert "results.json: changed since it was written, or an older version's" in line
    assert line.endswith("remove it and run the same command again")


@pytest.mark.parametrize("name", ["members.jsonl", "results.json"])
def test_numbers_that_were_changed(script, tmp_path, name):
    results = {"arms": {"a": {"mean": 0.5}}} if name == "results.json" else None
    words = leave(tmp_path / "run", [row(m) for m in range(3)], results)
    path = tmp_path / "run" / name
    path.write_text(path.read_text().replace("0.5", "0.6"))
    line = script("mnist_aux", *words).assert_one_line(2)
    where = "members.jsonl: line 1 changed since it was written"
    assert (where if results is None else "results.json: changed since it was written") in line


def test_a_directory_of_another_config(script, tmp_path):
    words = leave(tmp_path / "run", [row(0)])
    line = script("mnist_aux", *words, "--seed", "1", "--width", "8").assert_one_line(2)
    assert "holds a run of another config: seed 0 -> 1; width 256 -> 8; pairs" in line
    line = script("mnist_init", *words).assert_one_line(2)
    assert "holds a run of another config: logits (absent)" in line
    assert "choose another --out, or add --overwrite" in line


def test_a_directory_in_use(script, tmp_path):
    from subliminal_jax.runs.run_directory import RunDirectory

    words = leave(tmp_path / "run", [row(0)])
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    with RunDirectory.open(tmp_path / "run", config):
        for more in ([], ["--overwrite"]):
            line = script("mnist_aux", *words, *more).assert_one_line(2)
            assert f"in use by another run (pid {os.getpid()} on " in line
    assert (tmp_path / "run" / "members.jsonl").read_text().count("\n") == 1


def test_a_refused_run_leaves_its_directory_free(refused):
    for words in (["--width", "10000000"], ["--devices", "9", "--execution", "pmap"]):
        assert "another config" not in refused("mnist_aux", *DIGITS, *words)


# Memory


def test_the_memory_that_is_needed_is_counted():
    from subliminal_jax.mnist.config import Lengths
    from subliminal_jax.models.mlp import MlpConfig

    network = MlpConfig(inputs=2, hidden=(3,), classes=1, aux=1)  # 2*3+3 + 3*2+2 = 17 weights
    schedule = Lengths(batch=5, teacher_epochs=1, student_epochs=1, noise_images=7)
    # 4 members with a reference, and three times a teacher and two students; logits 7*2
    numbers = 4 * (1 + 3 * 3) * 17 + 4 * 7 * 2 + 5 * (2 + 3 + 2)
    assert memory.needed_bytes(network, schedule, 2, 4) == 4 * numbers
    assert 2**28 < memory.memory_bytes(1) < 2**50


# Processes


def test_a_process_ends_in_one_line(scripts, tmp_path):
    ended = scripts.run("mnist_aux", "--members", "x", cwd=tmp_path)
    assert ended.assert_one_line(2).startswith("--members: should be a whole number")
    ended = scripts.run("mnist_init", *DIGITS, "--masks", "absent.npz", cwd=tmp_path)
    assert ended.assert_one_line(2).startswith("mask absent.npz: cannot be read")
    assert not (tmp_path / "run").exists()


def test_losses_that_are_not_finite_stop_the_run(scripts, tmp_path):
    ended = scripts.run("mnist_aux", *flags(learning_rate="1e30", out="run"), cwd=tmp_path)
    line = ended.assert_one_line(1)
    assert line.startswith("the loss of teacher is nan at step ")
    assert "in member 0; a smaller --learning-rate usually helps" in line
    assert not (tmp_path / "run" / "results.json").exists()
    assert not (tmp_path / "run" / "members.jsonl").exists()
    ended = scripts.run("mnist_aux", *flags(learning_rate="nan", out="run"), cwd=tmp_path)
    assert ended.assert_one_line(2).startswith("--learning_rate is nan")


def test_nobody_reads_the_help(scripts, tmp_path):
    process = scripts.start("mnist_aux", "--help", cwd=tmp_path)
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert (process.wait(), err) == (141, "")


def test_an_output_that_is_full(scripts, tmp_path):
    command = f"exec python {ROOT}/experiments/mnist_aux.py --help > /dev/full"
    command = command.replace("python", os.sys.executable)
    done = subprocess.run(command, shell=True, env=scripts.environment, capture_output=True)
    assert done.returncode == 2
    assert done.stderr.startswith(b"error: disk full: cannot write")


def test_an_interrupt_while_training(scripts, tmp_path):
    words = flags(teacher_epochs=100_000, out="run")
    with scripts.start("mnist_aux", *words, cwd=tmp_path) as process:
        config, end = tmp_path / "run" / "config.json", time.monotonic() + 60
        while not config.exists() and time.monotonic() < end:
            time.sleep(0.05)
        process.send_signal(2)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "error: interrupted; run the same command again to resume"
    assert "Traceback" not in err
