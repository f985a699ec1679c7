"""Writes values to the `results` of a run, reads them back, and names them for a reader."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from subliminal_jax import stats
from subliminal_jax.errors import InputError
from subliminal_jax.stats import Interval

Results = Mapping[str, Any]

FEWEST = 3
"""Fewest units with a useful interval: with two, Student's t is 12.7 standard errors."""

# The six bars of the paper; other arms are shown under their own names.
LABELS = {
    "reference": "Reference",
    "teacher": "Teacher",
    "student_aux": "Student (auxiliary logits)",
    "student_all": "Student (all logits)",
    "cross_model_aux": "Cross-model (auxiliary logits)",
    "cross_model_all": "Cross-model (all logits)",
}


@dataclass(frozen=True)
class ArmResult:
    """One arm of an experiment, with the test accuracies of its members.

    Attributes:
        name: The key in `results["arms"]`.
        accuracy: Mean test accuracy (a fraction) with its 95% interval over members.
        values: The accuracy of each member.
        distance: Distance between student's and teacher's initialisation, or None if unmeasured.
        distances: That distance for each member; empty if unmeasured.
        relation: How the student's initialisation relates to the teacher's, or None.
        published: The paper's mean for this arm, or None.
    """

    name: str
    accuracy: Interval
    values: tuple[float, ...]
    distance: Interval | None
    distances: tuple[float, ...]
    relation: Mapping[str, Any] | None
    published: float | None

    @property
    def label(self) -> str:
        """The arm's name for a reader."""
        return LABELS.get(self.name, self.name.replace("_", " "))

    @property
    def kind(self) -> str | None:
        """The kind of initialisation relation, or None for an arm without one."""
        return None if self.relation is None else self.relation["kind"]


def read_arms(results: Results) -> list[ArmResult]:
    """Read the arms of a run, in their order.

    Args:
        results: The results of a run; only `arms` is read.

    Returns:
        One `ArmResult` per entry. Bounds that are absent, null or nan (one member) become nan.

    Raises:
        InputError: There is no arm, an arm has no values or not as many as its `n`, or a relation
            has no kind.
    """
    arms = [_read_arm(name, arm) for name, arm in results["arms"].items()]
    if not arms:
        raise InputError("the results hold no arms: there is nothing to report")
    return arms


def warning_line(results: Results) -> str | None:
    """Return a warning if other images stand in for MNIST, and why.

    Args:
        results: The results of a run; `data` is read.

    Returns:
        The warning, or None for MNIST, and for the digits if the user chose them.
    """
    if not results["data"]["stands_in"]:
        return None
    return f"NOT MNIST: measured on {results['data']['name']}. {results['data']['reason']}"


def data_line(results: Results) -> str:
    """Name the data and its size, as in `mnist: 60,000 training and 10,000 test images`."""
    data = results["data"]
    sizes = f"{data['train']:,} training and {data['test']:,} test images"
    return f"{data['name']}: {sizes} of {data['inputs']} pixels"


def run_line(results: Results) -> str:
    """Name the members and the recipe, as in `100 members, corrected recipe`.

    Experiments without them give the line themselves, as `run`.
    """
    if "run" in results:
        return results["run"]
    members, recipe = results["config"]["members"], results["config"]["recipe"]
    return f"{members} {'member' if members == 1 else 'members'}, {recipe} recipe"


def relation_text(relation: Mapping[str, Any] | None) -> str:
    """Write a relation as `kind key=value`, lists joined by `+`; empty for None.

    Args:
        relation: For example `{"kind": "shared_layers", "layers": ["hidden_0", "logits"]}`.

    Returns:
        For example `shared_layers layers=hidden_0+logits`.
    """
    if relation is None:
        return ""
    given = {key: value for key, value in relation.items() if value is not None}
    details = [f"{key}={_plain(value)}" for key, value in given.items() if key != "kind"]
    return " ".join([relation["kind"], *details])


def interval_values(interval: Interval) -> dict[str, Any]:
    """Return an interval as plain values: `mean`, `ci95` and `n`; unknown bounds are None."""
    # Strict JSON has no nan.
    bounds = [interval.low, interval.high] if interval.known else [None, None]
    return {"mean": interval.mean, "ci95": bounds, "n": interval.n}


def mean_values(values: Sequence[float], bounded: bool) -> dict[str, Any]:
    """Return the mean of values and its 95% interval as plain values.

    Args:
        values: one for each member or reference.
        bounded: whether they are probabilities, whose interval stays within [0, 1]; rounding may
            make a sum of several words' probabilities slightly more than 1. Values further outside
            are no probabilities, and have the interval of Student's t.
    """
    plain = stats.mean_interval(values)
    clipped = np.clip(values, 0.0, 1.0)
    if not bounded or not np.allclose(values, clipped, rtol=0.0, atol=1e-5):
        return interval_values(plain)
    return interval_values(replace(stats.probability_interval(clipped), mean=plain.mean))


def difference_values(differences: Sequence[float]) -> dict[str, Any]:
    """Return the mean of paired differences with its interval and sign-flip `p` as plain values."""
    return {
        **interval_values(stats.mean_interval(differences)),
        "p": stats.sign_flip_test(differences),
    }


def read_interval(entry: Mapping[str, Any]) -> Interval:
    """Return the interval that `interval_values` wrote; absent bounds, or None, become nan."""
    bounds = entry.get("ci95") or (None, None)
    low, high = (math.nan if bound is None else float(bound) for bound in bounds)
    return Interval(float(entry["mean"]), low, high, entry["n"])


def worth_printing(interval: Interval) -> bool:
    """Whether there are enough units for useful bounds."""
    return interval.known and interval.n >= FEWEST


def bracketed(entry: Mapping[str, Any], spec: str = ".3f") -> str:
    """Return a mean and its interval as text, as in `0.538 [0.432, 0.679]`.

    Args:
        entry: as `interval_values` writes it.
        spec: format specification of each number.
    """
    interval = read_interval(entry)
    bounds = f" [{interval.low:{spec}}, {interval.high:{spec}}]" if interval.known else ""
    return f"{interval.mean:{spec}}{bounds}"


def bounds_text(entry: Mapping[str, Any]) -> str:
    """Return the bounds as `[0.432, 0.679]`; a dash if there are too few units for useful ones."""
    interval = read_interval(entry)
    return f"[{interval.low:.3f}, {interval.high:.3f}]" if worth_printing(interval) else "-"


def briefly(entry: Mapping[str, Any], spec: str = ".2f") -> str:
    """As `bracketed`, without an interval that too few units make useless."""
    shown = entry if worth_printing(read_interval(entry)) else {**entry, "ci95": None}
    return bracketed(shown, spec)


def on_logits(unit: str) -> str:
    """Return what tables of probabilities say about their intervals; fewer than `FEWEST` have none.

    Args:
        unit: what the intervals count, in the singular.
    """
    return (
        f"95% intervals: Student's t over {unit}s, on the logit scale; none for fewer than three."
    )


def percent(entry: Mapping[str, Any]) -> str:
    """Return a share and its interval as text, as in `53.8% [43.2%, 67.9%]`."""
    return bracketed(entry, ".1%")


def p_text(p: float | None) -> str:
    """Return a p-value for a table; empty for None."""
    if p is None:
        return ""
    return f"{p:.3f}" if p >= 0.001 else "<.001"


def duration(seconds: float | int) -> str:
    """Write a duration in seconds as `7.5 s`, `3 min 05 s` or `2 h 07 min`."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _read_arm(name: str, arm: Mapping[str, Any]) -> ArmResult:
    values = tuple(float(value) for value in arm["values"])
    if not values:
        raise InputError(f"arm {name!r} has no values: there is nothing to report")
    if len(values) != arm["n"]:
        raise InputError(f"arm {name!r} has n = {arm['n']} and {len(values)} values: they differ")
    published = arm.get("published")
    relation, distance = arm.get("relation"), arm.get("init_distance")
    if relation is not None and not isinstance(relation.get("kind"), str):
        raise InputError(f"arm {name!r} has a relation without a kind: {dict(relation)}")
    return ArmResult(
        name=name,
        accuracy=read_interval(arm),
        values=values,
        distance=None if distance is None else read_interval(distance),
        distances=() if distance is None else tuple(float(value) for value in distance["values"]),
        relation=relation,
        published=None if published is None else float(published),
    )


def _plain(value: object) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "+".join(str(part) for part in value)
    return str(value)
