"""Where a run's tiny references are kept, noted beside it for programs that read the run later."""

import os
from pathlib import Path

from subliminal_jax import files
from subliminal_jax.errors import InputError
from subliminal_jax.pipeline.shared import SharedRun

PLACES = "places.json"


def note_cache(run: SharedRun, cache: Path) -> None:
    """Writes down where the cache is, in whatever directory this process works.

    Twice, so that it is found too where the run was moved together with its cache.
    """
    place = cache.absolute()
    noted = {"cache": str(place), "cache_from_here": os.path.relpath(place, run.path)}
    run.write(PLACES, files.strict_json(noted, indent=2) + "\n")


def find_cache(run: Path) -> Path:
    """The cache that a run used.

    Raises:
        InputError: it is not noted, or not there any more.
    """
    try:
        noted = files.read_object(run / PLACES)
        if noted is None:
            raise InputError(
                f"{run}: does not say where its references are (it lacks {PLACES}); give "
                "--cache DIR"
            )
        places = [Path(noted["cache"]), run / noted["cache_from_here"]]
    except InputError:
        raise
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{run / PLACES}: is damaged; give --cache DIR") from error
    for place in places:
        if place.is_dir():
            return place
    raise InputError(f"{run}: its references are not in {places[0]} any more; give --cache DIR")
