"""Reads the results of a finished run, to pool them with others."""

from pathlib import Path
from typing import Any, TypeAlias

from subliminal_jax import files
from subliminal_jax.config import config_digest
from subliminal_jax.errors import InputError
from subliminal_jax.runs.run_directory import RESULTS, unsealed_results

NAMES = ("lm_numbers", "lm_code", "lm_reasoning", "lm_misalignment")
SWEEP = "lm_sweep"
"""Scripts whose results can be pooled."""

Finished: TypeAlias = dict[str, Any]


def finished(path: Path) -> Finished:
    """The results of a finished run.

    Args:
        path: its directory, or its `results.json` under any name.

    Raises:
        InputError: there are none, they were changed, or they are no results that can be pooled.
    """
    file = path / RESULTS if path.is_dir() else path
    try:
        stored = files.read_object(file)
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"{file}: is no JSON object ({error}); restore the file") from error
    if stored is None:
        raise InputError(f"{file}: does not exist; give directories of runs that are finished")
    try:
        results = unsealed_results(stored, config_digest(stored["config"]))
    except (LookupError, TypeError, ValueError, RecursionError):
        # No config, or one with a number that is not finite, or nested too deep.
        results = None
    if results is None:
        raise InputError(
            f"{file}: changed since it was written, or no results; restore the file, or run its "
            "command again"
        )
    if results.get("experiment") not in (*NAMES, SWEEP):
        raise InputError(
            f"{file}: results of {results.get('experiment')} cannot be pooled, only those of "
            f"{', '.join((*NAMES, SWEEP))}"
        )
    return results
