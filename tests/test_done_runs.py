"""What a run wrote, when it is read again: by many at a time, and only as it was written."""

import json
import os
import shutil
import subprocess

import pytest
from disks import small_disk

from subliminal_jax.errors import InputError
from subliminal_jax.runs.locks import InUse
from subliminal_jax.runs.run_directory import RunDirectory

CONFIG = {"members": 5}


CHANGES = {
    "null": lambda text: "null",
    "another number": lambda text: text.replace("0.5", "0.6"),
    "another name": lambda text: text.replace("accuracy", "precision"),
    "of the version before": lambda text: json.dumps(
        {k: v for k, v in json.loads(text).items() if k != "results_digest"}
    ),
}


@pytest.mark.parametrize("how", CHANGES)
def test_results_that_were_changed_are_refused(tmp_path, how):
    with RunDirectory.open(tmp_path, CONFIG) as run:
        run.finish({"accuracy": 0.5})
    path = tmp_path / "results.json"
    path.write_text(CHANGES[how](path.read_text()))
    with pytest.raises(InputError, match=r"results\.json: changed since .*remove it"):
        RunDirectory.open(tmp_path, CONFIG)
    path.unlink()
    with RunDirectory.open(tmp_path, CONFIG) as run:
        assert not run.finished


def test_rows_that_this_run_did_not_write_are_refused(tmp_path):
    for name, config in (("a", CONFIG), ("b", CONFIG | {"seed": 1})):
        with RunDirectory.open(tmp_path / name, config) as run:
            run.append_row("members.jsonl", {"member": 0, "accuracy": 0.5})
            run.append_row("members.jsonl", {"member": 1, "accuracy": 0.25})
    path = tmp_path / "a" / "members.jsonl"
    first, second = path.read_text().splitlines(keepends=True)
    _, other = (tmp_path / "b" / "members.jsonl").read_text().splitlines(keepends=True)
    bare = json.dumps({"member": 1, "accuracy": 0.25}) + "\n"
    with RunDirectory.open(tmp_path / "a", CONFIG) as run:
        for line in (second.replace("0.25", "0.75"), other, bare):
            path.write_text(first + line)
            with pytest.raises(InputError, match=r"members\.jsonl: line 2 changed since"):
                run.read_rows("members.jsonl")
        path.write_text(second)
        assert run.read_rows("members.jsonl") == [{"member": 1, "accuracy": 0.25}]


@pytest.fixture
def done(tmp_path):
    path = tmp_path / "done"
    with RunDirectory.open(path, CONFIG) as run:
        run.write_text("figure.txt", "seen")
        (run.subdirectory("checkpoints") / "step_1").write_text("old")
        run.finish({"accuracy": 0.5})
    return path


def test_many_read_it_at_a_time_and_one_writes(done):
    before = {path: path.stat().st_mtime_ns for path in done.rglob("*")}
    with RunDirectory.open(done, CONFIG) as one, RunDirectory.open(done, CONFIG) as two:
        assert one.results() == two.results() == {"accuracy": 0.5}
        assert before == {path: path.stat().st_mtime_ns for path in done.rglob("*")}
        one.write_text("figure.txt", "again")
        with pytest.raises(InUse, match=f"in use by another run .pid {os.getpid()} on"):
            two.write_text("figure.txt", "too")
        with pytest.raises(InUse):
            RunDirectory.open(done, CONFIG, overwrite=True)
        two.discard("checkpoints")  # later, by whoever can
        assert (done / "checkpoints").is_dir()
    with RunDirectory.open(done, CONFIG) as run:
        run.discard("checkpoints")
        run.discard("checkpoints")
    assert not (done / "checkpoints").exists()
    assert (done / "figure.txt").read_text() == "again"


def test_it_is_read_on_a_read_only_disk(done, tmp_path):
    with small_disk(tmp_path / "disk", "size=1m") as disk:
        shutil.copytree(done, disk / "run")
        shutil.copytree(done, disk / "begun")
        (disk / "begun" / "results.json").unlink()
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        with RunDirectory.open(disk / "run", CONFIG) as run:
            assert run.results() == {"accuracy": 0.5}
            run.discard("checkpoints")
            with pytest.raises(InputError, match=r"cannot be used \(Read-only file system: run.lo"):
                run.write_text("figure.txt", "again")
        with pytest.raises(InputError, match=r"members 5 -> 6"):
            RunDirectory.open(disk / "run", CONFIG | {"members": 6})
        with pytest.raises(InputError, match=r"begun: cannot be used \(Read-only file system"):
            RunDirectory.open(disk / "begun", CONFIG)
