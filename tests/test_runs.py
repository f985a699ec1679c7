"""A run directory: opened, locked, finished, and never mixed."""

import contextlib
import json
import os
import tempfile
from pathlib import Path

import pytest
from disks import names

from subliminal_jax import files
from subliminal_jax.errors import InputError
from subliminal_jax.runs.environment import environment
from subliminal_jax.runs.run_directory import RunDirectory

CONFIG = {"members": 5, "hidden": (4, 4), "optimizer": {"learning_rate": 0.1}}
BEGUN = {"config.json", "environment.json", "run.lock"}


# Opening


def test_new_directory_says_what_it_holds(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with RunDirectory.open(Path("a/b"), CONFIG) as run:
        assert run.path == tmp_path / "a" / "b"
        assert json.loads((run.path / "config.json").read_text()) == run.config
        assert run.config == CONFIG | {"hidden": [4, 4]}
        lock = json.loads((run.path / "run.lock").read_text())
        assert lock["pid"] == os.getpid()
        assert json.loads((run.path / "environment.json").read_text()) == environment()


def test_a_run_killed_before_its_config_is_begun_anew(tmp_path, monkeypatch):
    """It says where it runs, then what it is; and it remembers where it was begun."""
    write_whole = files.write_whole

    def killed(path, data):
        if path.name == "config.json":
            raise KeyboardInterrupt
        write_whole(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(files, "write_whole", killed)
        with pytest.raises(KeyboardInterrupt):
            RunDirectory.open(tmp_path, CONFIG)
    assert names(tmp_path) == {"environment.json", "run.lock"}
    (tmp_path / "environment.json").write_text("{}")
    RunDirectory.open(tmp_path, CONFIG).close()
    assert json.loads((tmp_path / "environment.json").read_text()) == environment()
    (tmp_path / "environment.json").write_text("{}")
    RunDirectory.open(tmp_path, CONFIG).close()
    assert (tmp_path / "environment.json").read_text() == "{}"


def test_a_run_does_not_go_on_under_another_compiler(tmp_path, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=8")
    RunDirectory.open(tmp_path, CONFIG).close()
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=x")
    RunDirectory.open(tmp_path, CONFIG).close()
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=true")
    message = (
        r"begun with no flag of XLA and would resume with --xla_cpu_enable_fast_math=true; .*--ov"
    )
    with pytest.raises(InputError, match=message):
        RunDirectory.open(tmp_path, CONFIG)
    with RunDirectory.open(tmp_path, CONFIG, overwrite=True) as run:
        run.finish({})
    monkeypatch.delenv("XLA_FLAGS")
    with RunDirectory.open(tmp_path, CONFIG) as run:  # it is only shown
        assert run.finished


def test_same_config_goes_on(tmp_path):
    with RunDirectory.open(tmp_path / "run", CONFIG) as run:
        run.append_row("metrics.jsonl", {"step": 0})
        run.write_text("note.txt", "old")
    with RunDirectory.open(tmp_path / "run", CONFIG) as run:
        run.append_row("metrics.jsonl", {"step": 1})
        run.write_text("note.txt", "new")
        assert run.read_rows("metrics.jsonl") == [{"step": 0}, {"step": 1}]
        assert (run.path / "note.txt").read_text() == "new"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"members": 6}, ["members 5 -> 6"]),
        ({"members": 5.0}, ["members 5 -> 5.0"]),
        ({"hidden": (4,)}, ["hidden [4, 4] -> [4]"]),
        ({"optimizer": {"learning_rate": 0.2}}, ["optimizer.learning_rate 0.1 -> 0.2"]),
        ({"seed": 0}, ["seed (absent) -> 0"]),
        ({"optimizer": {}}, ["optimizer.learning_rate 0.1 -> (absent)", "optimizer (absent)"]),
        ({"members": 6, "seed": None}, ["members 5 -> 6", "seed (absent) -> null"]),
    ],
)
def test_other_config_is_refused_naming_the_fields(tmp_path, change, named):
    RunDirectory.open(tmp_path / "run", CONFIG).close()
    with pytest.raises(InputError) as caught:
        RunDirectory.open(tmp_path / "run", CONFIG | change)
    message = str(caught.value)
    assert all(part in message for part in named)
    assert message.count(" -> ") == len(named)
    assert "another --out, or add --overwrite" in message
    RunDirectory.open(tmp_path / "run", CONFIG).close()  # The refusal let go of the lock.


def test_overwrite_removes_what_the_run_wrote_and_nothing_else(tmp_path):
    with RunDirectory.open(tmp_path, CONFIG) as run:
        run.write_bytes("figure.png", b"old")
        (run.subdirectory("checkpoints") / "step_1").write_text("old")
        run.append_row("metrics.jsonl", {"step": 0})
        run.finish({"accuracy": 0.5})
    (tmp_path / "notes.md").write_text("mine")
    (tmp_path / "kept").mkdir()
    with RunDirectory.open(tmp_path, {"members": 6}, overwrite=True) as run:
        assert names(tmp_path) == {"notes.md", "kept", *BEGUN}
        assert not run.finished
        assert run.read_rows("metrics.jsonl") == []
        assert json.loads((tmp_path / "config.json").read_text()) == {"members": 6}
        with pytest.raises(InputError, match=r"notes.md: not written by this run"):
            run.write_text("notes.md", "ours")
    assert (tmp_path / "notes.md").read_text() == "mine"


def test_overwrite_does_not_follow_a_tampered_list(tmp_path):
    (tmp_path / "victim").write_text("mine")
    (tmp_path / "victims").mkdir()
    with RunDirectory.open(tmp_path / "run", CONFIG) as run:
        run.write_text("a.txt", "a")
        for name, target in (("link.txt", "victim"), ("links", "victims")):
            run.write_text(name, "b").unlink()
            (tmp_path / "run" / name).symlink_to(tmp_path / target)
    for name in ("../victim", str(tmp_path / "victim"), "..", ""):
        files.append_row(tmp_path / "run" / "run.files.jsonl", {"file": name})
    RunDirectory.open(tmp_path / "run", CONFIG, overwrite=True).close()
    assert (tmp_path / "victim").read_text() == "mine"
    assert (tmp_path / "victims").is_dir()
    assert names(tmp_path / "run") == BEGUN


def test_half_removed_run_is_not_gone_on_with(tmp_path):
    with RunDirectory.open(tmp_path, CONFIG) as run:
        run.write_text("weights.txt", "old")
    (tmp_path / "config.json").unlink()
    with pytest.raises(InputError, match=r"files of a run but no config.json; .* --overwrite"):
        RunDirectory.open(tmp_path, CONFIG)
    assert (tmp_path / "weights.txt").exists()
    RunDirectory.open(tmp_path, CONFIG, overwrite=True).close()
    assert not (tmp_path / "weights.txt").exists()


@pytest.mark.parametrize("content", [b"", b"{", b'{"members": NaN}', b"\xff"])
def test_damaged_config(tmp_path, content):
    RunDirectory.open(tmp_path, CONFIG).close()
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(InputError, match=r"config.json is damaged .*--overwrite"):
        RunDirectory.open(tmp_path, CONFIG)


@pytest.mark.parametrize("present", [{"thesis.tex"}, {"config.json"}, {"run.lock", "thesis.tex"}])
@pytest.mark.parametrize("overwrite", [False, True])
def test_foreign_directory_is_refused_untouched(tmp_path, present, overwrite):
    for name in present:
        (tmp_path / name).write_text("{}")
    with pytest.raises(InputError, match=r"--out .*: holds files but no run;"):
        RunDirectory.open(tmp_path, CONFIG, overwrite=overwrite)
    assert names(tmp_path) == present


def test_not_a_directory(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "run", tmp_path / "a\0b", Path("x" * 300)):
        with pytest.raises(InputError, match=r"--out .*: cannot be used \(.*choose a directory"):
            RunDirectory.open(path, CONFIG)


@contextlib.contextmanager
def ordinary_user():
    """Root may write anywhere, so it becomes nobody for a while."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_unwritable(tmp_path):
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o555)
        with ordinary_user():
            for path in (Path(place), Path(place) / "run"):
                with pytest.raises(InputError, match=r"--out .*\(Permission denied"):
                    RunDirectory.open(path, CONFIG)


# What lies in the way


def test_what_killed_writers_left_is_removed_and_what_others_left_is_not(tmp_path):
    (tmp_path / "victim").mkdir()
    run = tmp_path / "run"
    RunDirectory.open(run, CONFIG).close()
    (run / ".figure.png.run-partial").write_text("half")
    (run / ".link.run-partial").symlink_to(tmp_path / "victim")
    os.mkfifo(run / ".pipe.run-partial")
    (run / ".owl.run-partial").mkdir()  # an export's, that may be at work
    (run / ".owl.run-partial" / "model").write_text("half")
    for overwrite in (False, True):
        RunDirectory.open(run, CONFIG, overwrite=overwrite).close()
        assert names(run) == BEGUN | {".owl.run-partial"}
        assert names(run / ".owl.run-partial") == {"model"}
    assert (tmp_path / "victim").is_dir()


@pytest.mark.parametrize("put", [os.mkdir, os.mkfifo], ids=["directory", "pipe"])
@pytest.mark.parametrize("name", ["config.json", "results.json", "run.lock"])
def test_what_is_no_file_is_refused_and_stays(tmp_path, put, name):
    RunDirectory.open(tmp_path, CONFIG).close()
    (tmp_path / name).unlink(missing_ok=True)
    put(tmp_path / name)
    there = names(tmp_path)
    for overwrite in (False, True)[: 1 + (put is os.mkdir)]:
        with pytest.raises(InputError, match=name):
            RunDirectory.open(tmp_path, CONFIG, overwrite=overwrite)
    assert names(tmp_path) == there


def test_a_path_that_leads_in_a_circle_or_is_too_long(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path in (tmp_path / "loop", tmp_path / "loop" / "run", tmp_path / Path(*["x" * 200] * 30)):
        with pytest.raises(InputError, match=r"--out .*: cannot be used \(.*choose a directory"):
            RunDirectory.open(path, CONFIG)


# Finishing


def test_closed_directory_takes_no_more(tmp_path):
    with RunDirectory.open(tmp_path, CONFIG) as run:
        pass
    run.close()
    assert (tmp_path / "run.lock").read_text() == ""
    with pytest.raises(ValueError, match="is closed"):
        run.write_text("a.txt", "a")


def test_finish(tmp_path):
    with RunDirectory.open(tmp_path, CONFIG) as run:
        assert not run.finished
        run.finish({"accuracy": 0.5})
        assert run.finished
    with RunDirectory.open(tmp_path, CONFIG) as run:
        assert run.finished
        assert run.results() == {"accuracy": 0.5}
        with pytest.raises(ValueError, match="config_digest"):
            run.finish({"config_digest": "x"})


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"{}", b'{"config_digest": "x"}', b"\xff", b'{"accuracy": 1e999}'],
)
def test_damaged_results(tmp_path, content):
    with RunDirectory.open(tmp_path, CONFIG) as run:
        run.finish({"accuracy": 0.5})
        (tmp_path / "results.json").write_bytes(content)
        with pytest.raises(InputError, match=r"results\.json: changed since .*--overwrite"):
            run.results()
    with pytest.raises(InputError, match=r"results\.json: changed since .*--overwrite"):
        RunDirectory.open(tmp_path, CONFIG)


def test_results_of_another_config_are_refused(tmp_path):
    for name, config in (("a", CONFIG), ("b", CONFIG | {"members": 6})):
        with RunDirectory.open(tmp_path / name, config) as run:
            run.finish({})
    (tmp_path / "a" / "results.json").replace(tmp_path / "b" / "results.json")
    with pytest.raises(InputError, match=r"results\.json: .* another run's"):
        RunDirectory.open(tmp_path / "b", CONFIG | {"members": 6})
