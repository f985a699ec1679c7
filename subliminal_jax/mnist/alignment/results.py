"""Results of the alignment experiment: intervals, paired differences, tables."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64
from scipy.stats import pearsonr

from subliminal_jax import stats
from subliminal_jax.mnist.alignment.config import COURSES
from subliminal_jax.report.results import bracketed, interval_values, p_text
from subliminal_jax.report.tables import CsvRows, Table

NETWORKS = ("reference", "teacher", *COURSES)
KINDS = ("accuracy", "probe", "cka")
# Follow-up work, 25 models: accuracy of their own last layer, and of a linear probe of its inputs.
PUBLISHED = {
    "reference": {"accuracy": 0.106, "probe": 0.874},
    "teacher": {"accuracy": 0.937, "probe": 0.939},
    "same": {"accuracy": 0.391, "probe": 0.909},
}
PUBLISHED_CKA = (0.61, 0.98)  # correlation of CKA and accuracy, in two works
# Differences, arm minus arm. The first three were declared beforehand; Holm corrects over all.
PAIRS = {
    "step projected": ("step_projected", "same"),
    "step projected over control": ("step_projected", "control_projected"),
    "gradient projected": ("gradient_projected", "same"),
    "control projected": ("control_projected", "same"),
    "held": ("held", "same"),
    "same over different": ("same", "different"),
    "step projected over untrained": ("step_projected", "reference"),
}


def summarise(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return means and intervals over members, paired differences, and correlations.

    Args:
        rows: a row for every member: `accuracy`, `probe` and `cka` by network, and `curves` by
            kind and course, with a number per step.
    """
    values = {kind: {n: [row[kind][n] for row in rows] for n in NETWORKS} for kind in KINDS}
    curves = {
        course: {
            kind: np.array([row["curves"][kind][course] for row in rows])
            for kind in rows[0]["curves"]
        }
        for course in COURSES
    }
    accuracy = values["accuracy"]
    tested = [
        stats.paired_p_value(accuracy[a], accuracy[b]) if len(rows) > 1 else None
        for a, b in PAIRS.values()
    ]
    corrected = stats.holm([p for p in tested if p is not None]) or [None] * len(PAIRS)
    return {
        "networks": {
            name: {kind: _members(values[kind][name]) for kind in KINDS} for name in NETWORKS
        },
        "courses": {course: _course(course_curves) for course, course_curves in curves.items()},
        "differences": {
            name: _members(np.subtract(accuracy[a], accuracy[b]).tolist()) | {"p_holm": p}
            for (name, (a, b)), p in zip(PAIRS.items(), corrected, strict=True)
        },
        "cka_accuracy": _related(values),
    }


def _course(curves: Mapping[str, Float64[np.ndarray, "m s"]]) -> dict[str, Any]:
    """Return curves, means over steps, the share of positive cosines, and the last losses."""
    summary: dict[str, Any] = {
        "curves": {
            kind: [_mean(step.tolist()) for step in curve.T] for kind, curve in curves.items()
        }
    }
    for kind in ("cosine", "control_cosine", "step_cosine"):
        thirds = np.array_split(curves[kind], min(3, curves[kind].shape[1]), axis=1)
        summary[kind] = _members(curves[kind].mean(axis=1).tolist()) | {
            "positive_steps": float(np.mean(curves[kind] > 0)),
            "thirds": [_members(third.mean(axis=1).tolist()) for third in thirds],
        }
    summary["loss"] = _members(curves["loss"][:, -1].tolist())
    summary["trait_loss"] = _members(curves["trait_loss"][:, -1].tolist())
    summary["trait_loss_change"] = _members(
        (curves["trait_loss"][:, -1] - curves["trait_loss"][:, 0]).tolist()
    )
    return summary


def _related(values: Mapping[str, Mapping[str, Sequence[float]]]) -> dict[str, Any]:
    """Return the correlation of CKA (student to teacher) and accuracy, in three ways."""
    cka, accuracy = values["cka"], values["accuracy"]
    each = {kind: [v for c in COURSES for v in values[kind][c]] for kind in ("cka", "accuracy")}
    means = {k: [float(np.mean(values[k][c])) for c in COURSES] for k in ("cka", "accuracy")}
    return {
        "over all students": _correlation(each["cka"], each["accuracy"]),
        "over the means of the arms": _correlation(means["cka"], means["accuracy"]),
        "within the same initialisation": _correlation(cka["same"], accuracy["same"]),
    }


def _mean(numbers: Sequence[float]) -> dict[str, Any]:
    return interval_values(stats.mean_interval(numbers))


def _members(numbers: Sequence[float]) -> dict[str, Any]:
    """Return the mean with its interval, and every member's value."""
    return _mean(numbers) | {"values": list(numbers)}


def _correlation(a: Sequence[float], b: Sequence[float]) -> dict[str, Any]:
    """Return Pearson's correlation with Fisher's interval; None if undefined."""
    if len(a) < 4 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return {"r": None, "ci95": [None, None], "n": len(a)}
    correlation = pearsonr(a, b)
    low, high = correlation.confidence_interval(0.95)
    return {"r": float(correlation.statistic), "ci95": [float(low), float(high)], "n": len(a)}


def finding(summary: Mapping[str, Any]) -> str:
    """Return a summary: the alignment, and the effect of removing it."""
    courses, networks = summary["courses"], summary["networks"]
    read = {name: networks[name]["accuracy"]["mean"] for name in NETWORKS}
    return (
        f"Trait and distillation gradients have a mean cosine of "
        f"{bracketed(courses['same']['cosine'])} from the same initialisation and "
        f"{bracketed(courses['different']['cosine'])} from another. The student reads "
        f"{read['same']:.1%} of the test digits; {read['step_projected']:.1%} if its steps are "
        f"projected to leave the trait's loss unchanged to first order "
        f"({read['control_projected']:.1%} for a control's loss), "
        f"{read['gradient_projected']:.1%} if its gradients are, and {read['held']:.1%} if it is "
        "held near the reference in its first epochs."
    )


def tables(results: Mapping[str, Any]) -> list[Table]:
    """Return tables of networks, courses and paired differences."""
    return [_network_table(results), _course_table(results), _difference_table(results)]


def _network_table(results: Mapping[str, Any]) -> Table:
    rows = []
    for name in NETWORKS:
        measured, published = results["networks"][name], PUBLISHED.get(name, {})
        cells = []
        for kind in ("accuracy", "probe"):
            cells += [bracketed(measured[kind]), f"{published[kind]:.3f}" if published else ""]
        rows.append((name, *cells, bracketed(measured["cka"]) if name != "teacher" else ""))
    correlations = "; ".join(
        f"{_correlated(related)} {over}" for over, related in results["cka_accuracy"].items()
    )
    low, high = PUBLISHED_CKA
    return Table(
        "Accuracy of every network, and of a probe of its features",
        ("network", "accuracy", "published", "probe", "published", "CKA to teacher"),
        tuple(rows),
        "Accuracy: of the network itself on the test digits. Probe: of a multinomial regression "
        "on its last hidden layer. CKA: of that layer and the teacher's, on test digits. 95% "
        "intervals, Student's t over members. Correlation of CKA and accuracy "
        f"(published {low:.2f} and {high:.2f}; Fisher's interval, as if students were "
        f"independent): {correlations}.",
    )


def _course_table(results: Mapping[str, Any]) -> Table:
    rows = []
    for name, means in results["courses"].items():
        cosine = means["cosine"]
        rows.append(
            (
                name,
                bracketed(cosine, "+.3f"),
                f"{cosine['positive_steps']:.0%}",
                bracketed(means["control_cosine"], "+.3f"),
                bracketed(means["step_cosine"], "+.3f"),
                bracketed(means["trait_loss_change"], "+.3f"),
                f"{means['loss']['mean']:.1e}",
            )
        )
    return Table(
        "Trait and distillation, step by step",
        (
            "student",
            "cosine",
            "positive",
            "control",
            "cosine of step",
            "change of trait loss",
            "loss",
        ),
        tuple(rows),
        "Cosine: of the student's gradient and the trait's before any projection, mean over "
        "steps; positive: share of steps and members. Cosine of step: of the step taken and "
        "the descent direction of the trait's loss. Loss: the student's own at its last step. "
        "Projected: without the component along the trait's gradient, in the gradient before Adam "
        "or in the step after it. Control: the step is projected along the gradient of the same "
        "digits under shuffled labels, and its cosine is that with this gradient.",
    )


def _difference_table(results: Mapping[str, Any]) -> Table:
    return Table(
        "Paired differences of accuracy",
        ("difference", "mean", "p"),
        tuple(
            (name, bracketed(difference, "+.3f"), p_text(difference["p_holm"]))
            for name, difference in results["differences"].items()
        ),
        "Student's paired t over members, Holm-corrected.",
    )


def _correlated(correlation: Mapping[str, Any]) -> str:
    if correlation["r"] is None:
        return "none"
    low, high = correlation["ci95"]
    return f"{correlation['r']:+.2f} [{low:+.2f}, {high:+.2f}]"


def value_rows(results: Mapping[str, Any]) -> CsvRows:
    """Return a CSV row for every network, quantity and member."""
    rows = [
        (name, kind, member, value)
        for name, kinds in results["networks"].items()
        for kind, measured in kinds.items()
        for member, value in enumerate(measured["values"])
    ]
    return ("network", "quantity", "member", "value"), rows
