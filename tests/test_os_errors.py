"""Any error of the operating system ends a script in one line: what, where, what to do."""

import errno
import logging
import os
import subprocess
import sys
import threading

import pytest
from disks import small_disk

from subliminal_jax import files
from subliminal_jax.entry import outcome, run_main
from subliminal_jax.errors import InputError
from subliminal_jax.execution import hosts
from subliminal_jax.process import memory_limit as limits
from subliminal_jax.process import os_errors

PATH = "/disk/run/a.txt"


def error_of(code, path=PATH):
    return OSError(code, os.strerror(code), path)


def wrapped(error, kind=ValueError):
    try:
        try:
            raise error
        except OSError as cause:
            raise kind("the library failed") from cause
    except kind as wrapping:
        return wrapping


@pytest.mark.parametrize(
    ("code", "status", "advice"),
    [
        (errno.EACCES, 2, "change its permissions"),
        (errno.EROFS, 2, "choose a path that can be written to"),
        (errno.EFBIG, 2, "ulimit -f"),
        (errno.ENAMETOOLONG, 2, "choose a shorter path"),
        (errno.ELOOP, 2, "give the path of the file itself"),
        (errno.EISDIR, 2, "give the path of a file"),
        (errno.ENOTDIR, 2, "correct the path"),
        (errno.ENOENT, 2, "correct the path"),
        (errno.EMFILE, 2, "ulimit -n"),
        (errno.ENOLCK, 2, "has no file locks"),
        (errno.EIO, 1, "the disk or its server failed"),
        (errno.ESTALE, 1, "the disk or its server failed"),
        (errno.EPROTO, 1, "run the same command again"),
    ],
)
def test_every_error_names_what_where_and_what_to_do(code, status, advice):
    line, found = outcome(error_of(code))
    assert found == status
    assert line.startswith(f"{PATH}: {os.strerror(code)}; ")
    assert advice in line


def test_errors_with_fewer_or_more_fields():
    line, status = outcome(OSError("only words"))
    assert (line.partition(";")[0], status) == ("only words", 1)
    assert outcome(TimeoutError())[0].startswith("TimeoutError; ")
    assert "working directory" in outcome(error_of(errno.ENOENT, None))[0]
    moved = OSError(errno.EXDEV, "Invalid cross-device link", "a", None, "b")
    assert outcome(moved)[0].startswith("a -> b: Invalid cross-device link; ")
    assert outcome(error_of(errno.EACCES, b"a\xff"))[0].startswith("a\udcff: ")
    assert outcome(OSError(errno.EBADF, "Bad file descriptor", 7))[0].startswith("Bad file")
    assert outcome(ValueError("embedded null byte")) == (
        "a path contains a zero byte; correct the path",
        2,
    )


def test_errors_wrapped_by_libraries():
    assert outcome(wrapped(error_of(errno.EACCES)))[0].startswith(f"{PATH}: Permission denied")
    text = "OUT_OF_RANGE: Failed writing: \"/x/d/a2\": File too large [os_error_code='27']"
    assert outcome(ValueError(text))[0].startswith("/x/d/a2: File too large; ")
    text = 'Error writing "/x/y": [OS error 28: ENOSPC No space left on device]'
    assert outcome(RuntimeError(text))[0].startswith("disk full: cannot write to /x/y")
    text = "RESOURCE_EXHAUSTED: Error writing file: No space left on device"  # and not of memory
    assert outcome(RuntimeError(text))[0].startswith("disk full: cannot write;")


@pytest.mark.parametrize(
    "error",
    [KeyError("bug"), ValueError("[Errno 28] in words"), wrapped(error_of(errno.ENOENT), KeyError)],
)
def test_bugs_are_not_explained_away(error):
    assert outcome(error) is None


# A full disk


def test_a_disk_without_inodes_does_not_claim_bytes_free(tmp_path):
    with small_disk(tmp_path / "disk", "size=10m,nr_inodes=8") as place:
        for number in range(6):
            (place / f"{number}.txt").touch()
        with pytest.raises(InputError, match=r"disk full: .*no inodes free"):
            [files.write_whole(place / f"more{number}.txt", b"x") for number in range(3)]
        assert "bytes free" not in os_errors.disk_full_line(place / "new")


def test_a_quota_is_distinguished_from_a_full_disk():
    assert "quota" in outcome(error_of(errno.EDQUOT))[0]
    assert "quota" not in outcome(error_of(errno.ENOSPC))[0]


def test_free_space_is_of_the_nearest_existing_directory(tmp_path):
    assert "bytes free" in os_errors.disk_full_line(tmp_path / "not" / "there")


@pytest.mark.parametrize("code", [errno.EFBIG, errno.EROFS])
def test_the_file_that_could_not_be_written_is_named(tmp_path, monkeypatch, code):
    """The system names no file when a write or a sync fails."""

    def fail(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fail)
    for write in (
        lambda: files.write_whole(tmp_path / "a.txt", b"x"),
        lambda: files.append_row(tmp_path / "a.jsonl", {}),
    ):
        with pytest.raises(OSError, match=rf"{os.strerror(code)}: '{tmp_path}/a\.") as caught:
            write()
        assert outcome(caught.value)[1] == 2
    assert (tmp_path / "a.jsonl").read_bytes() == b""


def test_a_file_that_grows_too_large(tmp_path):
    """With the kernel's own error, at the limit that a shell sets."""
    code = (
        "import resource\nfrom pathlib import Path\nfrom subliminal_jax import entry, files\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))\n"
        "path = Path('rows.jsonl')\n"
        "def main():\n    while True: files.append_row(path, {'fill': 'x' * 700})\n"
        "entry.run_main(main)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: rows.jsonl: File too large; raise the limit")
    assert len(files.read_rows(tmp_path / "rows.jsonl")) == 2


# Memory


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        ImportError("libjax.so: failed to map segment from shared object"),
        RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 80 bytes."),
        RuntimeError("std::bad_alloc"),
        RuntimeError("can't start new thread"),
        wrapped(OSError(errno.ENOMEM, "Cannot allocate memory")),
    ],
)
def test_out_of_memory(monkeypatch, error):
    line, status = outcome(error)
    assert (line.partition(";")[0], status) == ("out of memory", 1)
    monkeypatch.setattr(os_errors, "memory_limit", lambda: 4_000_000_000)
    assert "or raise the limit of 4,000,000,000 bytes on this process (ulimit -v)" in (
        os_errors.out_of_memory_line()
    )


def test_a_memory_limit_that_is_too_low_is_refused(monkeypatch):
    monkeypatch.setattr(limits, "memory_limit", lambda: 1_000_000_000)
    with pytest.raises(InputError, match=r"1,000,000,000 bytes .*\(ulimit -v 2000000\)"):
        limits.check_memory_limit()
    for enough in (limits.LEAST_MEMORY, None):
        monkeypatch.setattr(limits, "memory_limit", lambda: enough)  # noqa: B023
        limits.check_memory_limit()


# Hosts and threads


def test_an_error_on_the_first_host_is_raised_on_all():
    """Otherwise the other hosts would wait for the first one."""

    def fail():
        raise error_of(errno.EROFS)

    with pytest.raises(InputError, match=f"{PATH}: Read-only file system"):
        hosts.on_first(fail)


def in_a_thread(error):
    def fail():
        raise error

    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()


def logged(error):
    try:
        raise error
    except type(error):
        logging.getLogger("absl").exception("in the background")


@pytest.mark.parametrize("tell", [in_a_thread, logged])
@pytest.mark.parametrize("ending", [InputError("disk full"), KeyError("bug"), None])
def test_a_thread_traceback_is_held_back_for_a_reported_error(monkeypatch, tell, ending):
    """It is shown if the script ends well, or with a bug."""
    shown = []
    monkeypatch.setattr(threading, "excepthook", lambda arguments: shown.append("died"))
    handler = logging.Handler()
    handler.emit = lambda record: shown.append("logged")
    monkeypatch.setattr(logging.getLogger("absl"), "handlers", [handler])
    monkeypatch.setattr(logging.getLogger("absl"), "propagate", False)

    def main():
        tell(error_of(errno.ENOSPC))
        assert shown == []
        tell(KeyError("another bug"))
        assert len(shown) == 1
        if ending is not None:
            raise ending

    with pytest.raises((SystemExit, KeyError)):
        run_main(main)
    assert len(shown) == (1 if isinstance(ending, InputError) else 2)
