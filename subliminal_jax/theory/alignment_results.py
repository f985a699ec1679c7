"""Results of the alignment experiment: intervals, paired differences, tables."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import pearsonr

from subliminal_jax import report, stats
from subliminal_jax.tables import Table
from subliminal_jax.theory.alignment_config import ARMS

NETWORKS = ("reference", "teacher", *ARMS)
# Follow-up work, 25 members: linear probes of the last hidden layer.
PUBLISHED_PROBES = {"reference": 0.874, "teacher": 0.939, "same": 0.909}


def summarise(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means and intervals over members, paired differences, and what goes with what."""
    values = {
        kind: {name: [row[kind][name] for row in rows] for name in rows[0][kind]}
        for kind in ("accuracy", "probe", "cka", "loss")
    }
    curves = {arm: np.array([row["cosine"][arm] for row in rows]) for arm in ARMS}
    pairs = {
        "projection": ("same_projected", "same"),
        "projection_control": ("same_projected_control", "same"),
        "projection_over_control": ("same_projected", "same_projected_control"),
        "held": ("same_held", "same"),
        "same_over_different": ("same", "different"),
    }
    accuracy = values["accuracy"]
    alike = [row["cka"][arm] for row in rows for arm in ARMS]
    ends = [row["accuracy"][arm] for row in rows for arm in ARMS]
    return {
        "networks": {
            name: {kind: _plain(values[kind][name]) for kind in values if name in values[kind]}
            for name in NETWORKS
        },
        "cosine": {
            arm: {
                "mean": _plain(curve.mean(axis=1).tolist()),
                "positive_steps": float(np.mean(curve.mean(axis=0) > 0)),
                "curve": [_plain(step.tolist()) for step in curve.T],
            }
            for arm, curve in curves.items()
        },
        "differences": {
            name: _plain(np.subtract(accuracy[a], accuracy[b]).tolist())
            for name, (a, b) in pairs.items()
        },
        "cka_accuracy": {
            "all": _correlation(alike, ends),
            "same": _correlation(values["cka"]["same"], accuracy["same"]),
        },
    }


def _plain(values: Sequence[float]) -> dict[str, Any]:
    interval = stats.mean_interval(values)
    bounds = [interval.low, interval.high] if interval.known else [None, None]
    return {"mean": interval.mean, "ci95": bounds, "n": interval.n, "values": list(values)}


def _correlation(a: Sequence[float], b: Sequence[float]) -> float | None:
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(pearsonr(a, b).statistic)


def finding(found: Mapping[str, Any]) -> str:
    """One sentence: the alignment, and what its removal does."""
    cosine, networks = found["cosine"], found["networks"]
    accuracy = {name: networks[name]["accuracy"]["mean"] for name in NETWORKS}
    return (
        f"Trait and distillation gradients have a mean cosine of "
        f"{_number(cosine['same']['mean'])} from the same initialisation and "
        f"{_number(cosine['different']['mean'])} from another. The student reads "
        f"{accuracy['same']:.1%}; without the common component {accuracy['same_projected']:.1%}, "
        f"without a control's {accuracy['same_projected_control']:.1%}, held near its start at "
        f"first {accuracy['same_held']:.1%}."
    )


def tables(results: Mapping[str, Any]) -> list[Table]:
    """Networks, and paired differences."""
    networks, cosine = results["networks"], results["cosine"]
    rows = []
    for name in NETWORKS:
        found = networks[name]
        cells = [_number(found[kind]) if kind in found else "" for kind in ("accuracy", "probe")]
        cells.append(f"{PUBLISHED_PROBES[name]:.3f}" if name in PUBLISHED_PROBES else "")
        cells.append(_number(found["cka"]) if "cka" in found else "")
        cells.append(_number(cosine[name]["mean"]) if name in cosine else "")
        cells.append(f"{found['loss']['mean']:.1e}" if "loss" in found else "")
        rows.append((name, *cells))
    columns = ("network", "accuracy", "probe", "published", "CKA to teacher", "cosine", "loss")
    related = results["cka_accuracy"]
    r = {k: "none" if v is None else f"{v:+.2f}" for k, v in related.items()}
    return [
        Table(
            "Students whose gradients are compared with the trait's at every step",
            columns,
            tuple(rows),
            "Cosine: of the trait's and the distillation's gradient before any steering, mean over "
            "steps. Projected: without the component along the trait's gradient; control: along "
            "that of shuffled labels. Held: KL divergence from its start in the first epochs. "
            "Probe: the class head retrained on digits (published for comparison). Loss: of the "
            f"distillation at the last step. Correlation of CKA and accuracy: {r['all']} over all "
            f"students, {r['same']} among those of the same initialisation.",
        ),
        Table(
            "Paired differences of accuracy",
            ("difference", "mean"),
            tuple((name, _number(d, "+")) for name, d in results["differences"].items()),
        ),
    ]


def _number(arm: Mapping[str, Any], sign: str = "") -> str:
    low, high = arm["ci95"]
    if low is None:
        return f"{arm['mean']:{sign}.3f}"
    return f"{arm['mean']:{sign}.3f} [{low:{sign}.3f}, {high:{sign}.3f}]"


def format_text(results: Mapping[str, Any]) -> str:
    """The finding and all tables for a terminal."""
    return "\n".join([report.preamble(results), *(table.text() for table in tables(results))])


def format_csv(results: Mapping[str, Any]) -> str:
    """A row for every network and member, in full precision."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["network", "quantity", "member", "value"])
    for name, kinds in results["networks"].items():
        for kind, found in kinds.items():
            for member, value in enumerate(found["values"]):
                writer.writerow([name, kind, member, value])
    return text.getvalue()
