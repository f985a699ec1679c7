"""Snapshots of a directory, to detect changes."""

import hashlib
import os
import stat
from fnmatch import fnmatch
from pathlib import Path

LARGE = 8 << 20
"""Bytes; a larger file is compared by size and time only."""

OURS = ("run.lock", "*.run-partial", "*.lock", "places.json")
"""Files that a command may always change: locks, partial files of a killed command, and the
present location of a run's references."""


def snapshot(root: Path) -> dict[str, tuple[str, bytes | str]]:
    """Return every entry below a directory: its kind, and its content, digest or target."""
    found: dict[str, tuple[str, bytes | str]] = {}
    for directory, names, files in os.walk(root):
        for name in [*names, *files]:
            path = Path(directory) / name
            found[str(path.relative_to(root))] = _entry(path)
    return found


def _entry(path: Path) -> tuple[str, bytes | str]:
    about = path.lstat()
    if stat.S_ISLNK(about.st_mode):
        return "link", os.readlink(path)
    if not stat.S_ISREG(about.st_mode):
        return str(stat.S_IFMT(about.st_mode)), ""
    if about.st_size > LARGE or not os.access(path, os.R_OK):
        return "large", f"{about.st_size} {about.st_mtime_ns}"
    data = path.read_bytes()
    return ("rows", data) if path.suffix == ".jsonl" else ("file", hashlib.sha256(data).digest())


def changed(
    before: dict[str, tuple[str, bytes | str]], root: Path, allowed: tuple[str, ...] = ()
) -> list[str]:
    """Return the entries that are gone or changed; row files may have grown.

    Args:
        before: as returned by `snapshot`.
        root: the directory.
        allowed: patterns of names in it that may change, with everything below them.
    """
    now = snapshot(root)

    def kept(name: str) -> bool:
        old, new = before[name], now.get(name)
        if new is None or new == old:
            return new == old
        return old[0] == new[0] == "rows" and new[1].startswith(old[1])  # type: ignore[arg-type]

    def watched(name: str) -> bool:
        first, last = name.split("/")[0], name.split("/")[-1]
        ours = any(fnmatch(last, pattern) for pattern in OURS)
        return not ours and not any(fnmatch(first, pattern) for pattern in allowed)

    return [name for name in before if watched(name) and not kept(name)]
