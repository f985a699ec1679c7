"""Results of an MNIST experiment: every arm's mean and interval over members."""

from collections.abc import Mapping, Sequence
from typing import Any

from subliminal_jax import stats
from subliminal_jax.config import config_dict
from subliminal_jax.data.images import ImageData
from subliminal_jax.mnist.arms import Arm
from subliminal_jax.mnist.config import MnistConfig, resolve
from subliminal_jax.report.results import interval_values, percent

# Cloud et al. 2025, figure 10b, read off the vector graphic to +-.002; 100 members.
PUBLISHED = {
    "reference": 0.0998,
    "teacher": 0.943,
    "student_aux": 0.528,
    "student_all": 0.913,
    "cross_model_aux": 0.106,
    "cross_model_all": 0.743,
}
# Settings that may differ from the paper's: its figure is still about the same experiment.
MAY_DIFFER = {
    *("members", "seed", "recipe", "noise_bits", "pairs"),
    *("data", "data_dir", "out", "overwrite"),
    *("execution", "devices", "members_at_once", "block"),
}


def summarise(
    name: str,
    config: MnistConfig,
    described: Mapping[str, Any],
    data: ImageData,
    arms: Mapping[str, Arm],
    rows: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Return the results of all members.

    Args:
        name: name of the experiment.
        config: the resolved config.
        described: the config as plain values, as in the run directory.
        data: the images.
        arms: the students.
        rows: a row per member, in member order, with `accuracy` and `init_distance` by arm.
    """
    published = PUBLISHED if _as_published(config) else {}
    summary: dict[str, Any] = {}
    for arm in ("reference", "teacher", *arms):
        summary[arm] = _summary([row["accuracy"][arm] for row in rows], config.recipe)
        summary[arm]["published"] = published.get(arm)
    for arm, student in arms.items():
        distances = [row["init_distance"][arm] for row in rows]
        summary[arm]["init_distance"] = _summary(distances, config.recipe)
        summary[arm]["relation"] = config_dict(student.relation)
        summary[arm]["logits"] = student.logits
    return {
        "experiment": name,
        "dataset": data.name,
        "data": data.facts(),
        "config": dict(described),
        "arms": summary,
    }


def gain(arms: Mapping[str, Any], arm: str, over: str) -> stats.Interval:
    """Return the difference of two arms' accuracies, paired by member; `arms` as in the results."""
    return stats.paired_difference(arms[arm]["values"], arms[over]["values"])


def relations_finding(results: Mapping[str, Any]) -> str:
    """Return up to which noise a student beats one of another initialisation, as a sentence.

    It does if the whole 95% interval of `gain` is above 0.
    """
    arms = results["arms"]
    sigmas = [
        entry["relation"]["sigma"]
        for arm, entry in arms.items()
        if entry.get("relation", {}).get("kind") == "perturbed"
        and gain(arms, arm, "different").low > 0
    ]
    reach = f"up to sigma {max(sigmas):g}" if sigmas else "at none of the sigmas"
    return (
        f"Students read {percent(arms['same'])} of the test digits from the teacher's own "
        f"initialisation and {percent(arms['different'])} from another's; perturbed students "
        f"beat students of another initialisation {reach}."
    )


def _summary(values: list[float], recipe: str) -> dict[str, Any]:
    if recipe == "published":
        interval = stats.normal_interval_published(values)
    else:
        interval = stats.mean_interval(values)
    return interval_values(interval) | {"values": values}


def _as_published(config: MnistConfig) -> bool:
    """Whether figure 10 has these settings."""
    paper = config_dict(resolve(MnistConfig(), "mnist"))
    ours = config_dict(config)
    return config.data == "mnist" and all(
        ours[field] == value for field, value in paper.items() if field not in MAY_DIFFER
    )
