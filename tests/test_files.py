"""Files of a run are complete or absent, whatever fails; rows and incomplete last rows."""

import contextlib
import errno
import json
import os
import signal
import stat
import time

import pytest
from children import WRITE_FOR_EVER, child
from disks import fill, names, small_disk

from subliminal_jax import files
from subliminal_jax.errors import InputError, RunError
from subliminal_jax.files import TornRowWarning
from subliminal_jax.runs.run_directory import RunDirectory

CONFIG = {"members": 5, "hidden": (4, 4), "optimizer": {"learning_rate": 0.1}}


# Atomic writes


@pytest.mark.parametrize(
    "name",
    [
        *("../x", "/x", "a/b", "", ".", "..", ".hidden", "a\n", "a\0", "x" * 201, "-rf", "é"),
        *("config.json", "results.json", "environment.json", "run.lock", "run.files.jsonl"),
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


@pytest.mark.filterwarnings("ignore::subliminal_jax.files.TornRowWarning")  # a kill may cut a row
def test_a_kill_while_writing_leaves_complete_files(tmp_path):
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


def test_leftovers_of_a_killed_write_are_removed(tmp_path):
    RunDirectory.open(tmp_path, CONFIG).close()
    (tmp_path / f".a.txt{files.PARTIAL}").write_text("half")
    (tmp_path / ".profile").write_text("mine")
    with RunDirectory.open(tmp_path, CONFIG) as run:
        assert names(tmp_path) == {"config.json", "environment.json", "run.lock", ".profile"}
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


def test_order_of_an_atomic_write(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append(os.fstat(fd).st_mode), fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append("replace"), replace(a, b)))
    files.write_whole(tmp_path / "a", b"x")
    kinds = [call if call == "replace" else oct(call)[:-3] for call in calls]
    assert kinds == ["0o100", "replace", "0o40"]  # file, rename, directory


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP, errno.EIO])
def test_a_directory_that_cannot_be_synced(tmp_path, monkeypatch, code):
    """Some network and FUSE file systems cannot sync; only a failing disk is an error."""
    fsync = os.fsync

    def fail(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(code, os.strerror(code))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="rror") if code == errno.EIO else contextlib.nullcontext():
        files.write_whole(tmp_path / "a", b"x")
    assert (tmp_path / "a").read_bytes() == b"x"


# A full disk


@pytest.fixture
def disk(tmp_path):
    with small_disk(tmp_path / "disk", "size=256k") as place:
        yield place


def test_full_disk_keeps_what_was_there(disk):
    with RunDirectory.open(disk / "run", CONFIG) as run:
        run.write_text("old.txt", "old")
        run.append_row("rows.jsonl", {"row": 0})
        run.write_text("new.txt", "")
        before = names(run.path)
        fill(disk)
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
        (disk / "ballast").unlink()
        run.append_row("rows.jsonl", {"row": 1})
        run.finish({})
        assert run.read_rows("rows.jsonl") == [{"row": 0}, {"row": 1}]


def test_full_disk_when_opening(disk):
    fill(disk)
    with pytest.raises(InputError, match="disk full"):
        RunDirectory.open(disk.joinpath("run"), CONFIG | {"fill": "x" * 9000})


def test_a_row_cut_short_by_a_full_disk_is_removed(tmp_path, monkeypatch):
    path, write, written = tmp_path / "rows.jsonl", os.write, []
    files.append_row(path, {"row": 0})

    def write_some(descriptor, data):
        if written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(write(descriptor, data[:5]))
        return 5

    monkeypatch.setattr(os, "write", write_some)
    with pytest.raises(InputError, match="disk full: cannot write 11 bytes"):
        files.append_row(path, {"row": 1})
    monkeypatch.undo()
    assert written == [5]
    assert path.read_bytes() == b'{"row": 0}\n'


# Rows


def test_row_cut_at_every_byte(tmp_path):
    path = tmp_path / "rows.jsonl"
    rows = [{"id": 0, "text": "eins"}, {"id": 1, "text": "zwei\n\u2028ü" + "x" * 250}]
    for row in rows:
        files.append_row(path, row)
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    ends = (0, first - 1, first, len(whole) - 1, len(whole))  # the last newline is optional
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        kept = rows[: (cut >= first - 1) + (cut >= len(whole) - 1)]
        torn = 0 if cut in ends else cut - (first if kept else 0)
        with expecting(f": left out {torn} bytes at the end" if torn else None):
            assert files.read_rows(path) == kept
        assert path.read_bytes() == whole[:cut]
        with expecting(f": removed {torn} bytes of a row" if torn else None):
            files.append_row(path, {"id": 2})
        assert files.read_rows(path) == [*kept, {"id": 2}]


def expecting(warning):
    return pytest.warns(TornRowWarning, match=warning) if warning else contextlib.nullcontext()


@pytest.mark.parametrize("size", [10, 65_535, 65_536, 65_537, 200_000])
@pytest.mark.parametrize("tail", [b'{"a', b"\0\0\0"], ids=["text", "zeros"])
def test_long_torn_row(tmp_path, size, tail):
    path = tmp_path / "rows.jsonl"
    tail += tail[-1:] * (size - 3)
    path.write_bytes(b'{"row": 0}\n' + tail)
    with pytest.warns(TornRowWarning, match=f"left out {size} bytes"):
        assert files.read_rows(path) == [{"row": 0}]
    with pytest.warns(TornRowWarning, match=f"removed {size} bytes"):
        files.append_row(path, {"row": 1})
    assert path.read_bytes() == b'{"row": 0}\n{"row": 1}\n'


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b'[{"row": 0}, {"row": 1}]', "line 1 is not a row"),
        (b'[\n{"row": 0}\n]', "line 1 is not a row"),
        (b'{"row": 0}\n[1]', "line 2 is not a row"),
        (b"row\n0", "line 1 is not a row"),
        (b"a poem", "line 1 is not a row"),
        (b"\xef\xbb\xbf{}", "line 1 is not a row"),
        (b"\x80\x04K\x01.", "line 1 is not a row"),
    ],
)
def test_other_files_are_refused_and_left_alone(tmp_path, content, why):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    with pytest.raises(InputError, match=why):
        files.read_rows(path)
    if b"\n" not in content:
        with pytest.raises(InputError, match="the last line is not a row"):
            files.append_row(path, {"row": 2})
    assert path.read_bytes() == content


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_rows_are_read_from_regular_files_only(tmp_path, make):
    make(tmp_path / "rows.jsonl")
    with pytest.raises(InputError, match=r"rows.jsonl: is not a file"):
        files.read_rows(tmp_path / "rows.jsonl")
    with pytest.raises(InputError, match=r"rows.jsonl: is not a file"):
        files.read_file(tmp_path / "rows.jsonl")
    with pytest.raises((InputError, IsADirectoryError)):
        files.append_row(tmp_path / "rows.jsonl", {})


def test_a_file_is_read_through_a_link(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with pytest.raises(FileNotFoundError):
        files.read_file(tmp_path / "link")
    (tmp_path / "file").write_bytes(b"x")
    assert files.read_file(tmp_path / "link") == b"x"


@pytest.mark.parametrize(
    "line",
    [b"", b"{", b"\xff", b"\x00", b"[1]", b"3", b'{"a": NaN}', b'{"a": 1} {}', b"[" * 100_000],
)
def test_bad_line_in_the_middle(tmp_path, line):
    path = tmp_path / "rows.jsonl"
    content = b'{"row": 0}\n' + line + b'\n{"row": 2}\n'
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"rows.jsonl: line 2 is not a row"):
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
    assert synced == [1, 1, 2]  # the first append also syncs the directory


def test_rows_do_not_follow_links(tmp_path):
    (tmp_path / "victim").write_text("mine")
    (tmp_path / "rows.jsonl").symlink_to(tmp_path / "victim")
    for use in (files.read_rows, lambda path: files.append_row(path, {})):
        with pytest.raises(OSError, match="symbolic links"):
            use(tmp_path / "rows.jsonl")
    assert (tmp_path / "victim").read_text() == "mine"


# JSON


def test_an_object_is_read_from_a_file(tmp_path):
    path = tmp_path / "a.json"
    assert files.read_object(path) is None
    path.write_bytes(b'{"a": [1, null]}')
    assert files.read_object(path) == {"a": [1, None]}
    for content in (b"null", b"[]", b"1", b"", b'{"a": NaN}', b"\xff", b"[" * 100_000):
        path.write_bytes(content)
        with pytest.raises(ValueError):  # noqa: PT011
            files.read_object(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(InputError, match=r"a\.json: is not a file"):
        files.read_object(path)


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
            files.strict_json(value)
        if isinstance(value, dict):
            with pytest.raises(error, match=path):
                run.append_row("a.jsonl", value)
            with pytest.raises(error, match=path):
                run.finish(value)
    assert not (tmp_path / "results.json").exists()


def test_json_file(tmp_path):
    with RunDirectory.open(tmp_path, CONFIG) as run:
        run.finish({"text": "ü\ud800", "list": (1, None, True, 0.5)})
    found = json.loads((tmp_path / "results.json").read_text())
    assert (found["text"], found["list"]) == ("ü\ud800", [1, None, True, 0.5])
