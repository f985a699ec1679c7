import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from subliminal_jax import environment as environment_module
from subliminal_jax import files
from subliminal_jax.environment import environment, git_revision
from subliminal_jax.errors import InputError, RunError
from subliminal_jax.files import TornRowWarning
from subliminal_jax.runs import RunDirectory

CONFIG = {"members": 5, "hidden": (4, 4), "optimizer": {"learning_rate": 0.1}}


def child(code: str, *args: str | Path, **options) -> subprocess.Popen:
    code = f"import os, sys\nfrom pathlib import Path\nfrom subliminal_jax.runs import *\n{code}"
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, args)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        **options,
    )


HOLD = """
with RunDirectory.open(Path(sys.argv[1]), {}):
    print("held", flush=True)
    sys.stdin.read()
"""

# Each process goes at the same directory once per line it reads, and holds it until the next.
RACE = """
for line in sys.stdin:
    try:
        run = RunDirectory.open(Path(line.strip()), {})
        print("won", flush=True)
    except InputError as error:
        run = None
        print(error, flush=True)
    sys.stdin.readline()
    if run: run.close()
"""


def names(path: Path) -> set[str]:
    return {entry.name for entry in path.iterdir()}


# Opening


def test_new_directory_says_what_it_holds(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with RunDirectory.open(Path("a/b"), CONFIG) as run:
        assert run.path == tmp_path / "a" / "b"
        assert json.loads((run.path / "config.json").read_text()) == run.config
        assert run.config == CONFIG | {"hidden": [4, 4]}
        lock = json.loads((run.path / "run.lock").read_text())
        assert lock["pid"] == os.getpid()


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
        assert names(tmp_path) == {"notes.md", "kept", "config.json", "run.lock"}
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
    assert names(tmp_path / "run") == {"config.json", "run.lock"}


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
    with pytest.raises(InputError, match=r"--out .*: holds files but no run of ours"):
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
                with pytest.raises(InputError, match=r"--out .*\(Permission denied\)"):
                    RunDirectory.open(path, CONFIG)


# The lock


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


def test_closed_directory_takes_no_more(tmp_path):
    with RunDirectory.open(tmp_path, CONFIG) as run:
        pass
    run.close()
    assert (tmp_path / "run.lock").read_text() == ""
    with pytest.raises(ValueError, match="is closed"):
        run.write_text("a.txt", "a")


# Writing whole files


@pytest.mark.parametrize(
    "name",
    [
        *("../x", "/x", "a/b", "", ".", "..", ".hidden", "a\n", "a\0", "x" * 201, "-rf", "é"),
        *("config.json", "results.json", "run.lock", "run.files.jsonl"),
    ],
)
def test_odd_names_are_refused(tmp_path, name):
    with RunDirectory.open(tmp_path / "run", CONFIG) as run:
        before = names(run.path)
        for write in (
            lambda: run.write_text(name, "x"),
            lambda: run.append_row(name, {}),
            lambda: run.read_rows(name),
            lambda: run.subdirectory(name),
        ):
            with pytest.raises(InputError, match="cannot be a file of a run"):
                write()
        assert names(run.path) == before
    assert names(tmp_path) == {"run"}


WRITE_FOR_EVER = """
run = RunDirectory.open(Path(sys.argv[1]), {})
print("up", flush=True)
number = 0
while True:
    number += 1
    run.write_bytes("data.bin", b"%d" % (number % 10) * 400_000)
    run.append_row("rows.jsonl", {"row": number, "fill": "x" * 3000})
"""


def test_killed_while_writing_leaves_whole_files(tmp_path):
    whole_rows = 0
    for attempt in range(12):
        with child(WRITE_FOR_EVER, tmp_path) as writer:
            assert writer.stdout.readline() == "up\n"
            time.sleep(0.02 + 0.007 * attempt)
            os.kill(writer.pid, signal.SIGKILL)
        data = tmp_path / "data.bin"
        if data.exists():
            content = data.read_bytes()
            assert len(content) == 400_000
            assert len(set(content)) == 1
        with RunDirectory.open(tmp_path, {}) as run:
            assert not [name for name in names(tmp_path) if name.endswith(files.PARTIAL)]
            rows = run.read_rows("rows.jsonl")
            assert len(rows) >= whole_rows
            whole_rows = len(rows)
    assert whole_rows > 0


def test_rest_of_a_killed_write_is_removed(tmp_path):
    RunDirectory.open(tmp_path, CONFIG).close()
    (tmp_path / f".a.txt{files.PARTIAL}").write_text("half")
    (tmp_path / ".profile").write_text("mine")
    with RunDirectory.open(tmp_path, CONFIG) as run:
        assert names(tmp_path) == {"config.json", "run.lock", ".profile"}
        (tmp_path / f".a.txt{files.PARTIAL}").symlink_to(tmp_path / ".profile")
        run.write_text("a.txt", "whole")
    assert (tmp_path / ".profile").read_text() == "mine"


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_failing_write_leaves_the_old_file(tmp_path, monkeypatch, step, code):
    with RunDirectory.open(tmp_path, CONFIG) as run:
        run.write_text("a.txt", "old")
        before = names(tmp_path)

        def fail(*args):
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(os, step, fail)
        full = code != errno.EIO
        with pytest.raises(InputError if full else OSError, match="disk full" if full else "rror"):
            run.write_text("a.txt", "new and longer")
        monkeypatch.undo()
        assert (tmp_path / "a.txt").read_text() == "old"
        assert names(tmp_path) == before


def test_order_of_a_whole_write(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append(os.fstat(fd).st_mode), fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append("replace"), replace(a, b)))
    files.write_whole(tmp_path / "a", b"x")
    kinds = [call if call == "replace" else oct(call)[:-3] for call in calls]
    assert kinds == ["0o100", "replace", "0o40"]  # file, rename, directory


# A full disk


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 256 KiB: a real one where mounting is allowed, else none."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)]
    try:
        mounted = subprocess.run(command, capture_output=True).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("mounting a small file system needs root; the faked full disk is tested above")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def fill(place: Path) -> None:
    with contextlib.suppress(OSError), (place / "ballast").open("wb", buffering=0) as file:
        while file.write(b"x" * 4096):
            pass


def test_full_disk_keeps_what_was_there(small_disk):
    with RunDirectory.open(small_disk / "run", CONFIG) as run:
        run.write_text("old.txt", "old")
        run.append_row("rows.jsonl", {"row": 0})
        run.write_text("new.txt", "")
        before = names(run.path)
        fill(small_disk)
        big = "x" * 9000
        for write in (
            lambda: run.write_text("old.txt", big),
            lambda: run.write_text("new.txt", big),
            lambda: run.append_row("rows.jsonl", {"row": 1, "fill": big}),
            lambda: run.finish({"fill": big}),
        ):
            with pytest.raises(InputError, match=r"disk full: .* 9,[01]\d\d bytes to /.*free"):
                write()
        assert names(run.path) == before
        assert not run.finished
        assert (run.path / "old.txt").read_text() == "old"
        assert run.read_rows("rows.jsonl") == [{"row": 0}]
        (small_disk / "ballast").unlink()
        run.append_row("rows.jsonl", {"row": 1})
        run.finish({})
        assert run.read_rows("rows.jsonl") == [{"row": 0}, {"row": 1}]


def test_full_disk_when_opening(small_disk):
    fill(small_disk)
    with pytest.raises(InputError, match="disk full"):
        RunDirectory.open(small_disk.joinpath("run"), CONFIG | {"fill": "x" * 9000})


def test_row_cut_short_by_a_full_disk_is_taken_back(tmp_path, monkeypatch):
    path = tmp_path / "rows.jsonl"
    files.append_row(path, {"row": 0})
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:5]))
    with pytest.raises(InputError, match="disk full: cannot write 11 bytes"):
        files.append_row(path, {"row": 1})
    monkeypatch.undo()
    assert path.read_bytes() == b'{"row": 0}\n'


# Rows


def test_row_cut_at_every_byte(tmp_path):
    path = tmp_path / "rows.jsonl"
    rows = [{"id": 0, "text": "eins"}, {"id": 1, "text": "zwei\n\u2028ü" + "x" * 250}]
    for row in rows:
        files.append_row(path, row)
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    assert files.read_rows(path) == rows
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        kept = rows[:1] if cut >= first else []
        torn = cut - (first if kept else 0)
        if torn:
            with pytest.warns(TornRowWarning, match=f": removed {torn} bytes of a row"):
                assert files.read_rows(path) == kept
        else:
            assert files.read_rows(path) == kept
        assert path.read_bytes() == whole[: first if kept else 0]


def test_appending_repairs_a_torn_row_first(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"row": 0}\n{"ro')
    with pytest.warns(TornRowWarning, match="removed 4 bytes"):
        files.append_row(path, {"row": 1})
    assert files.read_rows(path) == [{"row": 0}, {"row": 1}]


@pytest.mark.parametrize("size", [10, 65_535, 65_536, 65_537, 200_000])
def test_long_torn_row(tmp_path, size):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"row": 0}\n' + b"x" * size)
    with pytest.warns(TornRowWarning, match=f"removed {size} bytes"):
        assert files.read_rows(path) == [{"row": 0}]


@pytest.mark.parametrize(
    "line",
    [b"", b"{", b"\xff", b"\x00", b"[1]", b"3", b'{"a": NaN}', b'{"a": 1} {}', b"[" * 100_000],
)
def test_bad_line_in_the_middle(tmp_path, line):
    path = tmp_path / "rows.jsonl"
    content = b'{"row": 0}\n' + line + b'\n{"row": 2}\n'
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"rows.jsonl: line 2 is no row"):
        files.read_rows(path)
    assert path.read_bytes() == content


def test_one_write_for_each_row(tmp_path, monkeypatch):
    written, synced = [], []
    write, fsync = os.write, os.fsync
    monkeypatch.setattr(os, "write", lambda fd, data: (written.append(data), write(fd, data))[1])
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(len(written)), fsync(fd)))
    files.append_row(tmp_path / "rows.jsonl", {"row": 0})
    files.append_row(tmp_path / "rows.jsonl", {"row": 1})
    assert written == [b'{"row": 0}\n', b'{"row": 1}\n']
    assert synced == [1, 1, 2]  # The first also makes the new name last.


def test_rows_do_not_follow_links(tmp_path):
    (tmp_path / "victim").write_text("mine")
    (tmp_path / "rows.jsonl").symlink_to(tmp_path / "victim")
    for use in (files.read_rows, lambda path: files.append_row(path, {})):
        with pytest.raises(OSError, match="symbolic links"):
            use(tmp_path / "rows.jsonl")
    assert (tmp_path / "victim").read_text() == "mine"


# JSON


@pytest.mark.parametrize(
    ("value", "error", "path"),
    [
        ({"sweep": [{"loss": 1.0}, {"loss": float("nan")}]}, RunError, r"sweep\[1\].loss is nan"),
        ({"loss": float("-inf")}, RunError, "loss is -inf"),
        (float("nan"), RunError, "the value is nan"),
        ({"a": {"b": {1, 2}}}, TypeError, "a.b is a set"),
        ({"a": {1: 2}}, TypeError, "a has the key 1"),
    ],
)
def test_values_without_a_json_form(tmp_path, value, error, path):
    with RunDirectory.open(tmp_path, CONFIG) as run:
        with pytest.raises(error, match=path):
            run.write_json("a.json", value)
        if isinstance(value, dict):
            with pytest.raises(error, match=path):
                run.append_row("a.jsonl", value)
            with pytest.raises(error, match=path):
                run.finish(value)
    assert not (tmp_path / "a.json").exists()
    assert not (tmp_path / "results.json").exists()


def test_json_file(tmp_path):
    with RunDirectory.open(tmp_path, CONFIG) as run:
        path = run.write_json("a.json", {"text": "ü\ud800", "list": (1, None, True, 0.5)})
    assert json.loads(path.read_text()) == {"text": "ü\ud800", "list": [1, None, True, 0.5]}


# Finishing


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


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"config_digest": "x"}', b"\xff"])
def test_results_that_do_not_count(tmp_path, content):
    with RunDirectory.open(tmp_path, CONFIG) as run:
        run.finish({})
        (tmp_path / "results.json").write_bytes(content)
        assert not run.finished


def test_results_of_another_config_do_not_count(tmp_path):
    for name, config in (("a", CONFIG), ("b", CONFIG | {"members": 6})):
        with RunDirectory.open(tmp_path / name, config) as run:
            run.finish({})
    (tmp_path / "a" / "results.json").replace(tmp_path / "b" / "results.json")
    with RunDirectory.open(tmp_path / "b", CONFIG | {"members": 6}) as run:
        assert not run.finished


# Environment


def test_environment():
    described = environment()
    assert described == json.loads(files.strict_json(described))
    assert described["python"] == ".".join(map(str, sys.version_info[:3]))
    assert described["packages"]["pydantic"].count(".") == 2
    assert described["cpu_count"] == os.cpu_count()


def test_environment_leaves_out_absent_packages(monkeypatch):
    monkeypatch.setattr(environment_module, "PACKAGES", ("no-such-package", "pydantic"))
    assert list(environment()["packages"]) == ["pydantic"]


def test_environment_needs_no_jax():
    code = "import sys\nfrom subliminal_jax.environment import environment\nenvironment()\n"
    code += "sys.exit('jax' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_git_revision(tmp_path, monkeypatch):
    def git(*words: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        command = ["git", "-C", str(tmp_path), *identity, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    assert git_revision(tmp_path) is None
    git("init", "-q")
    (tmp_path / "code.py").write_text("1")
    (tmp_path / "inner").mkdir()
    git("add", ".")
    git("commit", "-qm", "first")
    commit = git("rev-parse", "HEAD")
    assert git_revision(tmp_path) == commit
    assert git_revision(tmp_path / "inner") is None
    (tmp_path / "untracked").write_text("1")
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    assert git_revision(tmp_path) == commit
    monkeypatch.delenv("GIT_DIR")
    (tmp_path / "code.py").write_text("2")
    assert git_revision(tmp_path) == f"{commit}+dirty"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_revision(tmp_path) is None
