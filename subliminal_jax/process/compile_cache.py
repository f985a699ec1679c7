"""The persistent compilation cache: a program that was compiled once on a machine is read again.

It is JAX's own cache, in a directory of the user. `JAX_COMPILATION_CACHE_DIR` chooses another
directory, `JAX_ENABLE_COMPILATION_CACHE=false` switches it off. Its key covers the program, the
device, the flags and the versions of JAX and XLA, so results do not depend on it.
"""

import os
import stat
from collections.abc import Mapping, MutableMapping
from pathlib import Path

from platformdirs import user_cache_path

DIRECTORY, SIZE = "JAX_COMPILATION_CACHE_DIR", "JAX_COMPILATION_CACHE_MAX_SIZE"
MOST = 1 << 30
"""Bytes that it may hold; the programs that were not used for longest are removed first."""
SETTINGS: Mapping[str, str] = {
    # Most of our programs compile in less than JAX's threshold of a second, but there are dozens.
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    SIZE: str(MOST),
}


def keep_programs(environ: MutableMapping[str, str] = os.environ) -> Path | None:
    """Let JAX, which must not be imported yet, keep what it compiles; returns the directory.

    None where the user chose or where nothing can be kept: on a read-only home, say. A program in
    the cache is run without question, so a directory that others could write to is not used.

    Args:
        environ: the variables of this process, from which JAX reads its settings.
    """
    if DIRECTORY in environ:
        return None
    place = user_cache_path("subliminal_jax") / "compiled"
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _is_private(place):
            return None
    except (OSError, ValueError):
        return None
    environ[DIRECTORY] = str(place)
    for name, value in SETTINGS.items():
        environ.setdefault(name, value)
    return place


def _is_private(place: Path) -> bool:
    """Whether this user alone can write to a directory, and can."""
    if not os.access(place, os.W_OK | os.X_OK):
        return False
    if not hasattr(os, "getuid"):
        return True
    status = place.stat()
    return status.st_uid == os.getuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
