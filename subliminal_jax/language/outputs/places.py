"""Where a run's tiny references are kept, noted beside it for programs that read the run later."""

import contextlib
import os
from pathlib import Path

from subliminal_jax import files
from subliminal_jax.errors import InputError
from subliminal_jax.execution import hosts
from subliminal_jax.runs.shared_run import SharedRun

PLACES = "places.json"


def note_cache(run: SharedRun, cache: Path) -> None:
    """Writes down where the cache is, unless that is known; all hosts call it.

    Twice: as seen from the run, so that it is found where both were moved together, and from the
    root.
    """
    place = cache.absolute()
    if not hosts.by_first(lambda: _is_known(run.path, place)):
        noted = {"cache_from_here": os.path.relpath(place, run.path), "cache": str(place)}
        run.write(PLACES, files.strict_json(noted, indent=2) + "\n")


def find_cache(run: Path) -> Path:
    """The cache that a run used.

    Raises:
        InputError: it is not noted, or not there any more.
    """
    places = _noted(run)
    for place in places:
        if place.is_dir():
            return place
    raise InputError(f"{run}: its references are not in {places[-1]} any more; give --cache DIR")


def _is_known(run: Path, cache: Path) -> bool:
    with contextlib.suppress(InputError, OSError):
        return find_cache(run).samefile(cache)
    return False


def _noted(run: Path) -> list[Path]:
    """Where a run's cache may be, the likelier place first."""
    try:
        noted = files.read_object(run / PLACES)
        if noted is not None:
            return [run / noted["cache_from_here"], Path(noted["cache"])]
    except InputError:
        raise
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{run / PLACES}: is damaged; give --cache DIR") from error
    raise InputError(
        f"{run}: does not say where its references are (it lacks {PLACES}); give --cache DIR"
    )
