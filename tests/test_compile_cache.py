"""The compilation cache: kept per user, read by the next process, never used where others write."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from scripts import ROOT

from subliminal_jax.process.compile_cache import DIRECTORY, MOST, SIZE, keep_programs

SCRIPT = """
import sys
from subliminal_jax.entry import run_main

def main():
    import jax
    from jax import monitoring
    events = []
    monitoring.register_event_listener(lambda event, **_: events.append(event))
    print(jax.jit(lambda x: (x @ x.T).sum())(jax.numpy.ones((3, 4))))
    count = lambda name: events.count(f"/jax/compilation_cache/cache_{name}")
    print(count("hits"), count("misses"), file=sys.stderr)

run_main(main)
"""


def counts(home, **variables):
    """Hits and misses of a fresh process."""
    environment = {name: value for name, value in os.environ.items() if "CACHE" not in name}
    environment |= {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(home), **variables}
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True
    )
    assert ended.stdout == "36.0\n", ended.stderr
    return tuple(map(int, ended.stderr.split()))


def test_the_second_process_compiles_nothing(tmp_path):
    with ThreadPoolExecutor() as pool:  # two processes may fill it at once
        firsts = list(pool.map(counts, [tmp_path, tmp_path]))
    assert sum(misses for _, misses in firsts) > 0
    hits, misses = counts(tmp_path)
    assert hits > 0
    assert misses == 0
    for damaged in (tmp_path / "subliminal_jax" / "compiled").glob("*-cache"):
        damaged.unlink()
    assert counts(tmp_path)[0] == 0


def test_it_can_be_switched_off(tmp_path):
    assert counts(tmp_path, JAX_ENABLE_COMPILATION_CACHE="false") == (0, 0)
    assert not list(tmp_path.rglob("*-cache"))


def test_it_is_bounded_and_private(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    environ = {}
    place = keep_programs(environ)
    assert place is not None
    assert environ[DIRECTORY] == str(place)
    assert environ[SIZE] == str(MOST)
    assert place.stat().st_mode & 0o077 == 0
    place.chmod(0o777)
    environ = {}
    assert keep_programs(environ) is None
    assert environ == {}


@pytest.mark.parametrize("home", ["/dev/null/x", "/proc/nowhere", "a\0b"])
def test_nothing_is_kept_where_nothing_can_be(monkeypatch, home):
    monkeypatch.setattr(
        "subliminal_jax.process.compile_cache.user_cache_path", lambda name: ROOT.__class__(home)
    )
    environ = {}
    assert keep_programs(environ) is None
    assert environ == {}


def test_the_users_own_directory_is_left_to_jax():
    environ = {DIRECTORY: "/elsewhere"}
    assert keep_programs(environ) is None
    assert environ == {DIRECTORY: "/elsewhere"}
