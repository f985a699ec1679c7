"""Records where a run's tiny references are cached, for programs that read the run later."""

import contextlib
import os
from pathlib import Path

from subliminal_jax import files
from subliminal_jax.errors import InputError
from subliminal_jax.execution import hosts
from subliminal_jax.runs.shared_run import SharedRun

PLACES = "places.json"


def note_cache(run: SharedRun, cache: Path) -> None:
    """Records the cache's path, unless it can be found already; all hosts must call it.

    It records a path relative to the run, which survives moving both together, and an absolute one.
    """
    place = cache.absolute()
    if not hosts.by_first(lambda: _is_known(run.path, place)):
        noted = {"cache_from_here": os.path.relpath(place, run.path), "cache": str(place)}
        run.write(PLACES, files.strict_json(noted, indent=2) + "\n")


def find_cache(run: Path) -> Path:
    """Path of the cache that a run used.

    Raises:
        InputError: it is not recorded, or no longer exists.
    """
    places = _noted(run)
    for place in places:
        if place.is_dir():
            return place
    raise InputError(f"{run}: its references are no longer in {places[-1]}; give --cache DIR")


def _is_known(run: Path, cache: Path) -> bool:
    with contextlib.suppress(InputError, OSError):
        return find_cache(run).samefile(cache)
    return False


def _noted(run: Path) -> list[Path]:
    """Recorded paths of a run's cache, likelier one first."""
    try:
        noted = files.read_object(run / PLACES)
        if noted is not None:
            return [run / noted["cache_from_here"], Path(noted["cache"])]
    except InputError:
        raise
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{run / PLACES}: damaged; give --cache DIR") from error
    raise InputError(
        f"{run}: does not record where its references are (no {PLACES}); give --cache DIR"
    )
