"""The results of several runs that differ in their seeds alone, as of one run.

What a report says follows from the units, so it is made again from the units of all runs.
"""

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

from subliminal_jax.config import config_digest
from subliminal_jax.errors import InputError
from subliminal_jax.language.evaluation.derived import derived
from subliminal_jax.language.pooling.finished import SWEEP, Finished
from subliminal_jax.language.sweep.results import sweep_derived
from subliminal_jax.runs.refusals import differences

ALIKE = ("experiment", "items", "unit", "verb", "tallied", "measure", "control")
"""Results that must be the same in all runs."""
LISTS = ("units", "traits_matrix")
"""Results that are listed one behind the other."""
MERGED = ("references", "answers", "sampled", "teachers", "judges", "filters", "measures")
"""Results by seed, or by measure, that are put together."""
ENVIRONMENT = ("git", "python", "packages", "platform", "devices", "cores", "variables")
"""What is kept of where a run was made."""


def pooled(parts: Sequence[tuple[Path, Finished]]) -> Finished:
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


def _whole(parts: Sequence[Finished]) -> Finished:
    """What the runs have measured, together; examples are those of the first."""
    one, whole = parts[0], {name: parts[0][name] for name in ALIKE if name in parts[0]}
    for name in LISTS:
        if name in one:
            whole[name] = [each for part in parts for each in part[name]]
    for name in MERGED:
        if name in one:
            whole[name] = {key: value for part in parts for key, value in part[name].items()}
    if "examples" in one:
        whole["examples"] = one["examples"]
    if "precision" in one:
        whole["precision"] = {"chosen": one["precision"]["chosen"]}
    origins = [part.get("parts") or {_named(seeds_of(part)): _origin(part)} for part in parts]
    whole["parts"] = {seeds: origin for each in origins for seeds, origin in each.items()}
    digests = [origin["results"] for origin in whole["parts"].values()]
    whole["config"] = _config(parts) | {"pooled": digests}
    return whole


def _named(seeds: Sequence[int]) -> str:
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"


def seeds_of(results: Finished) -> list[int]:
    """The seeds of a run's units, in order."""
    return list(dict.fromkeys(unit["reference"] for unit in results["units"]))


def _check_alike(first: Path, one: Finished, path: Path, other: Finished) -> None:
    kinds = [{name: part.get(name) for name in ALIKE} for part in (one, other)]
    unlike = differences(*kinds) + differences(*(_settings(part) for part in (one, other)))
    if unlike:
        raise InputError(
            f"{path}: differs from {first} in more than its seeds: {'; '.join(unlike[:3])}; pool "
            "runs of equal settings"
        )
    if _models(one) != _models(other):
        raise InputError(
            f"{path}: its model is another than that of {first}, by its digest; pool runs of one "
            "model"
        )
    if one["experiment"] == SWEEP:
        for arm, rate in _tested_rates(one).items():
            if (its := _tested_rates(other).get(arm, rate)) != rate:
                raise InputError(
                    f"{path}: tests {arm} at the learning rate {its:g}, {first} at {rate:g}; pool "
                    "runs that test an arm at one rate"
                )


def _check_apart(parts: Sequence[tuple[Path, Finished]]) -> None:
    """Refuse runs that share a seed, or that chose learning rates apart."""
    tuned = [path for path, part in parts if part["config"].get("tuning")]
    if len(tuned) > 1:
        raise InputError(
            f"{tuned[1]}: chose its own learning rates, as {tuned[0]} did; pool one run that did "
            "with runs of tuning 0, which test its rates"
        )
    owner: dict[int, Path] = {}
    for path, part in parts:
        for seed in seeds_of(part):
            if seed in owner:
                raise InputError(f"{path}: has seed {seed}, as {owner[seed]} has; leave one out")
            owner[seed] = path


def _settings(results: Finished) -> Finished:
    """What must be equal in all runs, beside the model's digest.

    The config without seeds, the model's place, and how a sweep found its rates; and the precision
    that was chosen.
    """
    config = deepcopy(results["config"])
    config.pop("pooled", None)
    config["chosen precision"] = results.get("precision", {}).get("chosen")
    own = config["lm"] if results["experiment"] == SWEEP else config
    del own["seed"], own["references"]
    if own["reference"]["model"] is not None:
        own["reference"]["model"] = "given"
    if results["experiment"] == SWEEP:
        del config["tuning"]
        for arm in config["arms"]:
            del arm["rates"]
    return config


def _config(parts: Sequence[Finished]) -> Finished:
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


def _models(results: Finished) -> set[tuple[bool, str]]:
    """The digests of the given model and of the other one beside it; none for tiny references."""
    config = results["config"]
    own = config["lm"] if results["experiment"] == SWEEP else config
    if own["reference"]["model"] is None:
        return set()
    return {(label.isdigit(), one["digest"]) for label, one in results["references"].items()}


def _tested_rates(results: Finished) -> dict[str, float]:
    return {one["arm"]: one["rate"] for one in results["units"] if one["phase"] == "test"}


def _origin(part: Finished) -> Finished:
    """Where a run was made."""
    environment = part["environment"]
    return {
        "results": config_digest(part)[:16],
        "seconds": part["timing"]["total_s"],
        **{name: environment[name] for name in ENVIRONMENT},
    }
