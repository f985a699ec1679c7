"""Pools finished runs that differ in their seeds alone: the results of all of them as of one run.

Seeds can so be run on several machines, or one after the other. What a report says follows from the
units, so it is made again from the units of all runs.
"""

import contextlib
import time
from collections.abc import Iterator, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from subliminal_jax import files, plotting
from subliminal_jax.config import config_digest
from subliminal_jax.entry import one_line
from subliminal_jax.errors import InputError
from subliminal_jax.language.evaluation.derived import derived
from subliminal_jax.language.experiment import figures_of
from subliminal_jax.language.outputs.report import format_table, report_page, unit_rows
from subliminal_jax.language.repetitions import units_text
from subliminal_jax.language.sweep.results import sweep_derived, sweep_page, sweep_rows, sweep_text
from subliminal_jax.runs import runner
from subliminal_jax.runs.refusals import differences
from subliminal_jax.runs.run_directory import RESULTS, unsealed_results

NAMES = ("lm_numbers", "lm_code", "lm_reasoning", "lm_misalignment")
SWEEP = "lm_sweep"
ALIKE = ("experiment", "items", "unit", "verb", "tallied", "measure", "control")
"""What is the same in all runs."""
LISTS = ("units", "traits_matrix")
BY_SEED = ("references", "answers", "sampled", "teachers", "judges", "filters", "measures")

Results = dict[str, Any]


def pool(runs: Sequence[Path], out: Path | None = None, overwrite: bool = False) -> Results | None:
    """Write the results of all runs as those of one, and print the findings.

    Args:
        runs: directories of finished runs of one script, or their `results.json`.
        out: run directory; None for one named after the runs' digests.
        overwrite: discard what an earlier run left there.

    Returns:
        As `runner.run`.

    Raises:
        InputError: a run is unfinished, changed, of another kind or of an older version; or two
            of them share a seed, or differ in more than their seeds.
    """
    started = time.perf_counter()
    parts = [(path, finished(path)) for path in runs]
    with _of_this_version(runs):
        whole = pooled(parts)
        sweep = whole["experiment"] == SWEEP
        config = whole["config"]["lm"] if sweep else whole["config"]
        units = units_text(config["references"], config["reference"]["model"])
        experiment = runner.Experiment(
            name=whole["experiment"],
            what=f"{len(parts)} runs pooled, {units}",
            config=whole["config"],
            measure=lambda directory: whole,
            table=sweep_text if sweep else format_table,
            csv=sweep_rows if sweep else unit_rows,
            page=sweep_page if sweep else report_page,
            figures={"arms": plotting.lm_sweep_figure} if sweep else figures_of(config),
            out=out,
            overwrite=overwrite,
            started=started,
        )
        return runner.run(experiment)


@contextlib.contextmanager
def _of_this_version(runs: Sequence[Path]) -> Iterator[None]:
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
            f"{named}: not all are results of this version ({one_line(repr(error))}); run their "
            "commands again"
        ) from error


def finished(path: Path) -> Results:
    """The results of a finished run.

    Args:
        path: its directory, or its `results.json` under any name.

    Raises:
        InputError: there are none, they were changed, or they are no results that can be pooled.
    """
    file = path / RESULTS if path.is_dir() else path
    try:
        stored = files.read_object(file)
    except ValueError as error:
        raise InputError(f"{file}: is no JSON object ({error}); restore the file") from error
    if stored is None:
        raise InputError(f"{file}: does not exist; give directories of runs that are finished")
    config = stored.get("config")
    results = unsealed_results(stored, config_digest(config) if isinstance(config, dict) else "")
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


def pooled(parts: Sequence[tuple[Path, Results]]) -> Results:
    """The results of all runs as of one, with an entry for each run under `parts`.

    Args:
        parts: results, each behind the path that errors name.

    Raises:
        InputError: two runs share a seed, or differ in more than their seeds.
        LookupError: a run has not the results of this version; or another of Python's errors.
    """
    (first, one), *others = parts
    for path, other in others:
        _check_alike(first, one, path, other)
    _check_apart(parts)
    whole = _whole([part for _, part in parts])
    derive = sweep_derived if one["experiment"] == SWEEP else derived
    return {"experiment": one["experiment"]} | derive(whole) | whole


def _whole(parts: Sequence[Results]) -> Results:
    """What the runs have measured, together; examples are those of the first."""
    one, whole = parts[0], {name: parts[0][name] for name in ALIKE if name in parts[0]}
    for name in LISTS:
        if name in one:
            whole[name] = [each for part in parts for each in part[name]]
    for name in BY_SEED:
        if name in one:
            whole[name] = {key: value for part in parts for key, value in part[name].items()}
    if "examples" in one:
        whole["examples"] = one["examples"]
    origins = [part.get("parts") or {_named(seeds_of(part)): _origin(part)} for part in parts]
    whole["parts"] = {seeds: origin for each in origins for seeds, origin in each.items()}
    whole["config"] = _config(parts) | {
        "pooled": [one["results"] for one in whole["parts"].values()]
    }
    return whole


def _named(seeds: Sequence[int]) -> str:
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"


def seeds_of(results: Results) -> list[int]:
    """The seeds of a run's units, in order."""
    return list(dict.fromkeys(unit["reference"] for unit in results["units"]))


def _check_alike(first: Path, one: Results, path: Path, other: Results) -> None:
    kinds = [{name: part.get(name) for name in ALIKE} for part in (one, other)]
    unlike = differences(*kinds) + differences(*(_settings(part) for part in (one, other)))
    if unlike:
        raise InputError(
            f"{path}: differs from {first} in more than its seeds: {'; '.join(unlike[:3])}; pool "
            "runs of equal settings"
        )
    if one["experiment"] == SWEEP:
        for arm, rate in _tested_rates(one).items():
            if (its := _tested_rates(other).get(arm, rate)) != rate:
                raise InputError(
                    f"{path}: tests {arm} at the learning rate {its:g}, {first} at {rate:g}; pool "
                    "runs that test an arm at one rate"
                )


def _check_apart(parts: Sequence[tuple[Path, Results]]) -> None:
    owner: dict[int, Path] = {}
    for path, part in parts:
        for seed in seeds_of(part):
            if seed in owner:
                raise InputError(f"{path}: has seed {seed}, as {owner[seed]} has; leave one out")
            owner[seed] = path


def _settings(results: Results) -> Results:
    """What must be equal in all runs: the config without seeds, and how a sweep found its rates."""
    config = deepcopy(results["config"])
    config.pop("pooled", None)
    own = config["lm"] if results["experiment"] == SWEEP else config
    del own["seed"], own["references"]
    if results["experiment"] == SWEEP:
        del config["tuning"]
        for arm in config["arms"]:
            del arm["rates"]
        config["arms"] = {arm["name"]: arm for arm in config["arms"]}
    return config


def _config(parts: Sequence[Results]) -> Results:
    """The config of all runs: that of the first, with the seeds of all."""
    config = deepcopy(parts[0]["config"])
    sweep = parts[0]["experiment"] == SWEEP
    seeds = [seed for part in parts for seed in seeds_of(part)]
    (config["lm"] if sweep else config).update(seed=seeds, references=len(seeds))
    if sweep:
        config["tuning"] = sum(part["config"]["tuning"] for part in parts)
        for place, arm in enumerate(config["arms"]):
            rates = [rate for part in parts for rate in part["config"]["arms"][place]["rates"]]
            arm["rates"] = list(dict.fromkeys(rates))
    return config


def _tested_rates(results: Results) -> dict[str, float]:
    return {one["arm"]: one["rate"] for one in results["units"] if one["phase"] == "test"}


def _origin(part: Results) -> Results:
    """Where a run was made."""
    environment = part["environment"]
    return {
        "results": config_digest(part)[:16],
        "git": environment["git"],
        "devices": environment["devices"],
        "packages": environment["packages"],
        "precision": part.get("precision", {}).get("chosen"),
        "seconds": part["timing"]["total_s"],
    }
