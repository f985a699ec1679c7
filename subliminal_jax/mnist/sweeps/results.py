"""Results of a sweep: means and intervals by cell, differences, and published values."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from subliminal_jax import stats
from subliminal_jax.data.images import ImageData
from subliminal_jax.mnist.arms import PAPER_ARMS
from subliminal_jax.mnist.sweeps import leak_prediction as prediction
from subliminal_jax.mnist.sweeps import sweep_speed
from subliminal_jax.mnist.sweeps.config import CONTROL, Cell, SweepConfig, plain
from subliminal_jax.mnist.sweeps.sweep_students import Sweep
from subliminal_jax.report.results import bracketed, interval_values, p_text
from subliminal_jax.report.tables import CsvRows, Table

DIFFERENCES = (0.01, 0.02, 0.05, 0.1, 0.2)


def summarise(
    config: SweepConfig, cells: Sequence[Cell], rows: Sequence[Mapping[str, Any]], data: ImageData
) -> dict[str, Any]:
    """Return the summary of all cells as plain values.

    The first student is compared with its control of another initialisation (in a cell without one,
    with its own reference), and with the same members' student in the base cell: the cell that
    changes nothing, or else the first. Both families of p-values are Holm-corrected.

    Args:
        config: the resolved sweep.
        cells: the cells of the sweep.
        rows: a row for every cell and member.
        data: the images; published values are those of MNIST.
    """
    student = config.students[0]
    values = {cell.name: _values(cell.name, rows) for cell in cells}
    base = _base(config, cells)
    summary: list[dict[str, Any]] = []
    for cell in cells:
        arms = values[cell.name]
        published = config.published.get(cell.name, {}) if data.name == "mnist" else {}
        control = CONTROL if CONTROL in arms else "reference"
        summary.append(
            {
                "name": cell.name,
                "changes": plain(cell),
                "arms": {arm: _arm(each, published.get(arm)) for arm, each in arms.items()},
                "control": control,
                "gain": _difference(arms[student], arms[control]),
                "against_base": _difference(arms[student], values[base][student]),
            }
        )
    for family in ("gain", "against_base"):
        tested = [c for c in summary if family == "gain" or c["name"] != base]
        if config.members > 1:
            corrected = stats.holm([cell[family]["p"] for cell in tested])
            for cell, p in zip(tested, corrected, strict=True):
                cell[family]["p_holm"] = p
    return {
        "student": student,
        "base": base,
        "cells": summary,
        "power": _power(summary, base),
        "prediction": prediction.judge([_sweep(cells, rows, data)], prediction.in_one_sweep),
        "run": f"{config.members} members in each of {len(cells)} cells, {config.recipe} recipe",
    }


def _sweep(cells: Sequence[Cell], rows: Sequence[Mapping[str, Any]], data: ImageData) -> Sweep:
    """Return the rows as those of a sweep whose cells all differ."""
    return Sweep("this sweep", data.name, {cell.name: cell.name for cell in cells}, rows)


def _values(name: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    own = sorted((row for row in rows if row["cell"] == name), key=lambda row: row["member"])
    return {arm: [row["accuracy"][arm] for row in own] for arm in own[0]["accuracy"]}


def _base(config: SweepConfig, cells: Sequence[Cell]) -> str:
    unchanged = [
        cell.name
        for cell in cells
        if all(getattr(config, name) == getattr(cell.config, name) for name in cell.changes)
    ]
    return (unchanged or [cells[0].name])[0]


def _arm(values: list[float], published: Sequence[float] | None) -> dict[str, Any]:
    interval = stats.mean_interval(values)
    arm: dict[str, Any] = interval_values(interval) | {"values": values, "published": None}
    if published:
        half = published[1] if len(published) > 1 else 0.0
        own = interval.high - interval.mean if interval.known else 0.0
        arm["published"] = {
            "mean": published[0],
            "half_width": half,
            "agrees": abs(interval.mean - published[0]) <= math.hypot(own, half)
            if interval.known
            else None,
        }
    return arm


def _difference(a: list[float], b: list[float]) -> dict[str, Any]:
    difference = interval_values(stats.paired_difference(a, b))
    difference |= {"sd": 0.0, "p": None, "p_holm": None}
    if len(a) > 1:
        difference["sd"] = float(np.std(np.subtract(a, b), ddof=1))
        difference["p"] = stats.paired_p_value(a, b)
    return difference


def _power(summary: Sequence[Mapping[str, Any]], base: str) -> list[dict[str, Any]]:
    """Return the members needed to detect a difference, given the spreads measured."""
    families = {
        "between two cells": [c["against_base"]["sd"] for c in summary if c["name"] != base],
        "from the control": [c["gain"]["sd"] for c in summary],
    }
    rows = []
    for name, spreads in families.items():
        spread = float(np.median([s for s in spreads if s > 0] or [0.0]))
        if spread > 0:
            needed = [stats.members_needed(d, spread) for d in DIFFERENCES]
            rows.append({"of": name, "spread": spread, "members": needed})
    return rows


def finding(summary: Mapping[str, Any]) -> str:
    """Return one sentence: the student's range over cells, and how many published values agree."""
    student, cells = summary["student"], summary["cells"]
    means = {cell["name"]: cell["arms"][student]["mean"] for cell in cells}
    low, high = min(means, key=lambda n: means[n]), max(means, key=lambda n: means[n])
    judged = [
        arm["published"]["agrees"]
        for cell in cells
        for arm in cell["arms"].values()
        if arm["published"] and arm["published"]["agrees"] is not None
    ]
    ends = f"between {means[low]:.1%} ({low}) and {means[high]:.1%} ({high})"
    if len(means) == 1:
        ends = f"{means[low]:.1%} ({low})"
    text = f"{student} reads {ends} of the test digits"
    return (
        f"{text}; {sum(judged)} of {len(judged)} published values agree." if judged else f"{text}."
    )


def tables(results: Mapping[str, Any]) -> list[Table]:
    """Return tables of the cells, the members needed, the predictions and the speed."""
    shown = [_cell_table(results), *_power_tables(results)]
    if results["prediction"]:
        shown.append(prediction.table(results["prediction"]))
    if speed := results.get("timing", {}).get("speed"):
        shown.append(sweep_speed.table(speed))
    return shown


def _cell_table(summary: Mapping[str, Any]) -> Table:
    student = summary["student"]
    published = any(arm["published"] for cell in summary["cells"] for arm in cell["arms"].values())
    rows = []
    for cell in summary["cells"]:
        arms = cell["arms"]
        row = [cell["name"], f"{arms['teacher']['mean']:.3f}", bracketed(arms[student])]
        if published:
            row.append(_published(arms[student]["published"]))
        row += [bracketed(arms[cell["control"]]) + ("" if cell["control"] == CONTROL else " *")]
        row += [p_text(cell["gain"]["p_holm"]), bracketed(cell["against_base"], "+.3f")]
        own = cell["name"] == summary["base"]
        row += ["base" if own else p_text(cell["against_base"]["p_holm"])]
        rows.append(tuple(row))
    columns = ["cell", "teacher", student, *(["published"] if published else [])]
    columns += ["control", "p", "against base", "p"]
    others = [
        f"{cell['name']}, {arm}: {bracketed(values)}"
        + (f", published {_published(values['published'])}" if values["published"] else "")
        for cell in summary["cells"]
        for arm, values in cell["arms"].items()
        if (values["published"] and arm != student) or _imitates_all(arm)
    ]
    note = (
        "95% intervals, Student's t over members. Control: a student of another initialisation, or "
        "with * the reference. p: paired t test of the student against the control, and "
        "against the base cell's student, each Holm-corrected over the cells. Published: + ours "
        "agrees with it at 95%, - it does not."
    )
    note += " Further: " + "; ".join(others) + "." if others else ""
    return Table("Test accuracy by cell", tuple(columns), tuple(rows), note)


def _imitates_all(arm: str) -> bool:
    """Return whether an arm is a student of all logits."""
    return arm in PAPER_ARMS and PAPER_ARMS[arm].logits == "all"


def _power_tables(summary: Mapping[str, Any]) -> list[Table]:
    if not summary["power"]:
        return []
    rows = tuple(
        (row["of"], f"{row['spread']:.3f}", *(f"{n:,}" for n in row["members"]))
        for row in summary["power"]
    )
    title = "Members needed to detect a difference d (power 80%, level 5%)"
    columns = ("difference", "sd of pairs", *(f"d = {d:g}" for d in DIFFERENCES))
    return [Table(title, columns, rows)]


def accuracy_rows(results: Mapping[str, Any]) -> CsvRows:
    """Return a CSV row for every cell, arm and member."""
    rows = [
        (cell["name"], arm, member, value)
        for cell in results["cells"]
        for arm, measured in cell["arms"].items()
        for member, value in enumerate(measured["values"])
    ]
    return ("cell", "arm", "member", "accuracy"), rows


def _published(value: Mapping[str, Any] | None) -> str:
    if value is None:
        return ""
    sign = {True: " +", False: " -", None: ""}[value["agrees"]]
    return f"{value['mean']:.3f}{sign}"
