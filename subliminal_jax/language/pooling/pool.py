"""Pools finished runs, so that seeds can be run on several machines or one after the other."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from subliminal_jax.entry import one_line
from subliminal_jax.errors import InputError
from subliminal_jax.language.experiment import shown
from subliminal_jax.language.pooling.finished import SWEEP, Finished, finished
from subliminal_jax.language.pooling.merge import pooled
from subliminal_jax.language.repetitions import units_text
from subliminal_jax.language.sweep.experiment import SHOWN
from subliminal_jax.runs import runner


def pool(runs: Sequence[Path], out: Path | None = None, overwrite: bool = False) -> Finished | None:
    """Write the results of all runs as those of one, and print the findings.

    Args:
        runs: directories of finished runs of one script, or their `results.json`.
        out: run directory; None for one named after the runs' digests.
        overwrite: discard what an earlier run left there.

    Returns:
        As `runner.run`.

    Raises:
        InputError: a run is unfinished, changed, of another kind or of an older version; two of
            them share a seed, or differ in more than their seeds; or `out` is one of them.
    """
    started = time.perf_counter()
    if out is not None and out.resolve() in [path.resolve() for path in runs]:
        raise InputError(f"out: {out} is one of the runs that are pooled; choose another directory")
    parts = [(path, finished(path)) for path in runs]
    with _of_one_version(runs):
        whole = pooled(parts)
        sweep = whole["experiment"] == SWEEP
        config = whole["config"]["lm"] if sweep else whole["config"]
        units = units_text(config["references"], config["reference"]["model"])
        experiment = runner.Experiment(
            name=whole["experiment"],
            what=f"{len(parts)} runs pooled, {units}",
            config=whole["config"],
            measure=lambda directory: whole,
            **(SHOWN if sweep else shown(config)),
            out=out,
            overwrite=overwrite,
            started=started,
        )
        return runner.run(experiment)


@contextlib.contextmanager
def _of_one_version(runs: Sequence[Path]) -> Iterator[None]:
    """Refuse results that lack what is read of them, or hold something else there.

    Raises:
        InputError: of the block, or in place of another error.
    """
    try:
        yield
    except InputError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        named = ", ".join(map(str, runs))
        raise InputError(
            f"{named}: cannot be reported on together ({one_line(repr(error))}); pool results that "
            "this version made"
        ) from error
