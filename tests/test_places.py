"""A run's cache of references is found after moves, or the error asks for --cache."""

import shutil

import pytest

from subliminal_jax.errors import InputError
from subliminal_jax.language.outputs.places import PLACES, find_cache, note_cache
from subliminal_jax.runs.shared_run import shared_run


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run that recorded its cache from a relative path."""
    (tmp_path / "start" / "cache").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "start")
    cache = (tmp_path / "start" / "cache").relative_to(tmp_path / "start")
    with shared_run(tmp_path / "start" / "run", {}) as run:
        note_cache(run, cache)
    monkeypatch.chdir(tmp_path)
    return run.path


def test_the_cache_is_found_from_another_working_directory(run, tmp_path):
    assert find_cache(run).samefile(tmp_path / "start" / "cache")


def test_the_cache_is_found_after_moving_run_and_cache_together(run, tmp_path):
    (tmp_path / "start").rename(tmp_path / "moved")
    found = find_cache(tmp_path / "moved" / "run")
    assert found.samefile(tmp_path / "moved" / "cache")


def test_the_cache_is_found_after_moving_the_run_alone(run, tmp_path):
    run.rename(tmp_path / "elsewhere")
    assert find_cache(tmp_path / "elsewhere") == tmp_path / "start" / "cache"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"does not record where its references are \(no places.json\); give --cache"),
        (b"{", "places.json: damaged; give --cache"),
        (b"[]", "places.json: damaged"),
        (b'{"cache": 1, "cache_from_here": "a"}', "places.json: damaged"),
        (b'{"cache": "/no/where", "cache_from_here": "no"}', "are no longer in /no/where"),
    ],
)
def test_an_unknown_cache_is_asked_for(run, content, message):
    (run / PLACES).unlink()
    if content is not None:
        (run / PLACES).write_bytes(content)
    with pytest.raises(InputError, match=message):
        find_cache(run)


def test_a_record_that_still_holds_is_not_rewritten(run, tmp_path):
    """Not even in a copy of run and cache."""
    shutil.copytree(tmp_path / "start", tmp_path / "copy")
    path = tmp_path / "copy" / "run" / PLACES
    before = path.read_bytes(), path.stat().st_mtime_ns
    with shared_run(tmp_path / "copy" / "run", {}) as again:
        note_cache(again, tmp_path / "copy" / "cache")
        assert (path.read_bytes(), path.stat().st_mtime_ns) == before
        note_cache(again, tmp_path / "other")
    assert str(tmp_path / "other") in path.read_text()
