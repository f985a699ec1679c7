"""Freed memory goes back to the system."""

from pathlib import Path

import pytest

from subliminal_jax.process.freed_memory import _trim, give_back_memory

MB = 10**6


def resident():
    """Bytes of this process in memory."""
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * 4096


@pytest.mark.skipif(_trim() is None, reason="the C library is not glibc")
def test_what_lies_between_blocks_in_use_is_given_back():
    blocks = [bytearray(60_000) for _ in range(4000)]
    in_use = blocks[::20]
    full = resident()
    del blocks
    give_back_memory()
    assert resident() < full - 150 * MB
    assert len(in_use) == 200
