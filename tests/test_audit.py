"""The leak score judged across sweeps: left-out predictions, equal cells, refused directories."""

import json

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scripts import rewrite_rows

from subliminal_jax.config import described
from subliminal_jax.errors import InputError
from subliminal_jax.mnist.config import resolve, with_pairs
from subliminal_jax.mnist.sweeps.config import SweepConfig, cells
from subliminal_jax.mnist.sweeps.leak_across import (
    _centred_ranks,
    across_sweeps,
    audit,
    chance,
    table,
)
from subliminal_jax.mnist.sweeps.leak_prediction import fitted, judge, predictions
from subliminal_jax.mnist.sweeps.sweep_students import (
    SCORES,
    Students,
    read_sweep,
    read_sweeps,
    students,
)
from subliminal_jax.runs.run_directory import RunDirectory

MEMBERS = 4
ACCURACY = {  # of a student of the same initialisation, by axis and value
    "sigma": {"0": 0.6, "0.5": 0.4, "1": 0.2},
    "learning_rate": {"0.0001": 0.3, "0.0003": 0.6, "0.001": 0.7},
    "aux": {"3": 0.6, "10": 0.8},
}


def accuracy_of(axis, value, member):
    return ACCURACY[axis][value] + 0.01 * member


def write_sweep(path, axis, dataset="digits", score=lambda accuracy: accuracy**2):
    """Write a sweep's files; its score orders the students of the same initialisation."""
    config = with_pairs(SweepConfig(members=MEMBERS, sweep=(f"{axis}={','.join(ACCURACY[axis])}",)))
    config = resolve(config, dataset)
    plain = described(config)
    rows = []
    for cell, value in zip(cells(config), ACCURACY[axis], strict=True):
        for member in range(MEMBERS):
            same = accuracy_of(axis, value, member)
            leak = {name: float(score(same)) for name in SCORES}
            accuracy = {"reference": 0.1, "teacher": 0.9, "student_aux": same}
            accuracy["cross_model_aux"] = 0.1 + 0.01 * member
            leaks = {"student_aux": leak, "cross_model_aux": dict.fromkeys(SCORES, 0.0)}
            rows.append({"cell": cell.name, "member": member, "accuracy": accuracy, "leak": leaks})
    with RunDirectory.open(path, plain) as run:
        for row in rows:
            run.append_row("cells.jsonl", row)
    return path


@pytest.fixture(autouse=True)
def fewer_resamples(monkeypatch):
    monkeypatch.setattr("subliminal_jax.mnist.sweeps.leak_prediction.RESAMPLES", 60)
    monkeypatch.setattr("subliminal_jax.mnist.sweeps.leak_across.PERMUTATIONS", 19)


@pytest.fixture
def paths(tmp_path):
    return [write_sweep(tmp_path / axis, axis) for axis in ACCURACY]


def test_a_cell_of_several_sweeps_counts_once(paths):
    """All three sweeps contain the unchanged cell: 8 cells, of which 6 differ."""
    sweeps = [read_sweep(path) for path in paths]
    found = students(sweeps, ("student_aux",), "cosine")
    assert len(found.scores) == 6 * MEMBERS
    unchanged = found.in_sweep.all(axis=0)
    assert unchanged.sum() == MEMBERS
    assert_allclose(found.accuracy[unchanged], 0.6 + 0.01 * np.arange(MEMBERS))
    assert set(found.sweep[unchanged]) == {0}
    assert_allclose(found.scores, found.accuracy**2)


def test_neither_a_sweep_nor_a_cell_is_predicted_from_itself():
    found = Students(
        scores=np.array([2.0, 1.0, 3.0, 2.5, 4.0]),
        accuracy=np.array([0.1, 0.2, 0.3, 0.9, 0.5]),
        cell=np.array([0, 1, 2, 3, 4]),
        member=np.zeros(5, int),
        sweep=np.array([0, 0, 1, 1, 1]),
        in_sweep=np.array([[True, True, False, False, False], [True, False, True, True, True]]),
    )
    predicted = predictions(found)
    # Without the first sweep the scores 3, 2.5 and 4 have .3, .9 and .5: pooled to 17/30.
    assert_allclose(predicted["sweep"][:2], [17 / 30, 17 / 30])
    # Without the second sweep, which contains the first cell too, only the second cell is left.
    assert_allclose(predicted["sweep"][2:], [0.2, 0.2, 0.2])
    others = found.cell != 2
    assert_allclose(
        predicted["cell"][2],
        fitted(found.scores[others], found.accuracy[others], np.array([3.0]))[0],
    )
    one = Students(*(getattr(found, name) for name in ("scores", "accuracy", "cell", "member")),
                   np.zeros(5, int), np.ones((1, 5), bool))  # fmt: skip
    assert np.isnan(predictions(one)["sweep"]).all()


def test_a_score_that_orders_students_is_found_in_all_three_ways(paths):
    read = lambda: [read_sweep(path) for path in paths]
    judged = {(j["start"], j["score"]): j for j in judge(read(), across_sweeps)}
    same = judged["same", "cosine"]
    assert (same["students"], same["cells"], same["sweeps"]) == (24, 6, 3)
    assert same["sweep"]["rho"] > 0.9
    assert same["cell"]["rho"] > 0.9
    assert same["chance"]["cell"]["p"] == pytest.approx(1 / 20)
    assert same["chance"]["cell"]["median"] < 0
    assert same["within"]["rho"] == pytest.approx(1)
    assert same["along"]["rho"] == pytest.approx(1)
    # Shift each sweep's scores: the order stays within sweeps and is lost across them.
    shifted = read()
    for place, sweep in enumerate(shifted):
        for row in sweep.rows:
            row["leak"]["student_aux"]["cosine"] += -10.0 * place
    again = judge(shifted, across_sweeps)
    apart = next(j for j in again if (j["start"], j["score"]) == ("same", "cosine"))
    assert apart["along"]["rho"] == pytest.approx(1)
    assert apart["cell"]["rho"] < 0.9
    low, high = same["sweep"]["ci95"]
    assert low < same["sweep"]["rho"] <= high + 0.05
    different = judged["different", "cosine"]
    assert different["within"] == {"rho": None, "ci95": [None, None]}
    assert judged["both", "cosine"]["students"] == 48
    assert same["error"] < 0.15


def test_a_score_of_noise_predicts_nothing(tmp_path):
    random = np.random.default_rng(0)
    paths = [
        write_sweep(tmp_path / axis, axis, score=lambda _: random.standard_normal())
        for axis in ACCURACY
    ]
    (same,) = [
        j
        for j in audit(read_sweeps(paths))["judged"]
        if (j["start"], j["score"]) == ("same", "cosine")
    ]
    low, high = same["sweep"]["ci95"]
    assert low < 0.4
    assert high - low > 0.3
    assert abs(same["within"]["rho"]) < 0.7
    assert same["chance"]["sweep"]["p"] > 0.05


def test_an_uninformative_score_correlates_negatively_with_what_is_left_out():
    """Each cell is predicted by the mean of the others, .7, .5 and .3: the reverse order."""
    cell, sweep = np.repeat([0, 1, 2], 2), np.zeros(6, int)
    accuracy = np.array([0.1, 0.1, 0.5, 0.5, 0.9, 0.9])
    flat = Students(np.zeros(6), accuracy, cell, np.tile([0, 1], 3), sweep, np.ones((1, 6), bool))
    assert_allclose(predictions(flat)["cell"], [0.7, 0.7, 0.5, 0.5, 0.3, 0.3])
    found = chance(flat, predictions(flat))
    assert found == {"sweep": {"median": None, "p": None}, "cell": {"median": -1.0, "p": 1.0}}


def test_scores_are_permuted_by_whole_cells():
    """Five cells in the order of their scores: no permutation does better than the identity."""
    cell = np.repeat(np.arange(5), 2)
    accuracy = 0.1 + 0.2 * cell
    perfect = Students(accuracy, accuracy, cell, np.tile([0, 1], 5), cell, np.eye(5)[:, cell] > 0)
    found = chance(perfect, predictions(perfect))
    assert found["cell"] == found["sweep"]  # every sweep has one cell
    assert found["cell"]["p"] == pytest.approx(1 / 20)
    assert -1 <= found["cell"]["median"] < 0


def test_the_table_has_the_chosen_score_first(paths):
    text = table(audit(read_sweeps(paths))).text()
    assert "p 0.05" in text
    assert text.index("cosine") < text.index("drop")
    assert "across 3 sweeps on digits" in text
    assert "none" in text


def test_a_running_sweep_is_read_up_to_its_last_whole_row(paths):
    rows = paths[0] / "cells.jsonl"
    whole = rows.read_bytes()
    rows.write_bytes(whole[:-10])
    assert len(read_sweep(paths[0]).rows) == 3 * MEMBERS - 1
    assert rows.read_bytes() == whole[:-10]


def test_ranks_within_a_cell_by_hand():
    values, cell = np.array([3.0, 1.0, 2.0, 5.0, 9.0]), np.array([0, 0, 0, 1, 1])
    assert_allclose(_centred_ranks(values, cell), [1 / 3, -1 / 3, 0, -0.25, 0.25])


BROKEN = {
    "another cell": lambda row: row | {"cell": "sigma=7"},
    "no leak": lambda row: {k: v for k, v in row.items() if k != "leak"},
    "a score is missing": lambda row: row | {"leak": {"student_aux": {"drop": 1.0}}},
    "a leak without an accuracy": lambda row: (
        row | {"leak": {"student_all": row["leak"]["student_aux"]}}
    ),
    "accuracy as text": lambda row: row | {"accuracy": row["accuracy"] | {"teacher": "good"}},
}
CHANGED = {
    "no JSON": lambda line: "{",
    "a list": lambda line: "[]",
    "another number": lambda line: line.replace("0.9", "0.8"),
    "no digest": lambda line: json.dumps(
        {k: v for k, v in json.loads(line).items() if k != "digest"}
    ),
}
REFUSED = r"cells\.jsonl: line 2 is not a row of this sweep"


@pytest.mark.parametrize("how", BROKEN)
def test_a_row_of_another_form_is_refused(paths, how):
    config = json.loads((paths[0] / "config.json").read_text())
    with RunDirectory.open(paths[0], config) as run:
        first, second, *rest = run.read_rows("cells.jsonl")
        rewrite_rows(run, "cells.jsonl", [first, BROKEN[how](second), *rest])
    with pytest.raises(InputError, match=REFUSED):
        read_sweep(paths[0])


@pytest.mark.parametrize("how", CHANGED)
def test_a_row_that_was_changed_is_refused(paths, how):
    file = paths[0] / "cells.jsonl"
    first, second, *rest = file.read_text().splitlines()
    file.write_text("\n".join([first, CHANGED[how](second), *rest]) + "\n")
    with pytest.raises(InputError, match=REFUSED):
        read_sweep(paths[0])


def test_sweeps_that_cannot_be_judged_together_are_refused(paths, tmp_path, script):
    with pytest.raises(InputError, match="given twice"):
        read_sweeps([paths[0], paths[0]])
    same_name = write_sweep(tmp_path / "again" / "sigma", "aux")
    with pytest.raises(InputError, match="two directories are named sigma"):
        read_sweeps([paths[0], same_name])
    other = write_sweep(tmp_path / "other", "aux", dataset="mnist")
    with pytest.raises(InputError, match="other is on mnist, sigma on digits"):
        read_sweeps([paths[0], other])
    with pytest.raises(InputError, match="fewer than three cells"):
        audit(read_sweeps([paths[2]]))
    refused = script("leak_audit", "--runs", str(tmp_path))
    assert "not a sweep's directory" in refused.assert_one_line(2)
    (tmp_path / "there.json").write_text("{}")
    refused = script("leak_audit", "--runs", str(paths[0]), "--out", "there.json")
    assert "--out there.json: cannot be used" in refused.assert_one_line(2)


def test_the_script_is_a_run_like_the_others(paths, tmp_path, script):
    flags = ("leak_audit", "--runs", *map(str, paths), "--out", "audit")
    ended = script(*flags)
    assert ended.status == 0, ended.err
    assert "sigma: 12 cells and members" in ended.out
    assert "Report and numbers: " in ended.out
    written = json.loads((tmp_path / "audit" / "results.json").read_text())
    assert written["sweeps"] == {"sigma": 12, "learning_rate": 12, "aux": 8}
    assert len(written["judged"]) == 12
    assert (tmp_path / "audit" / "results.csv").read_text().count("\n") == 1 + 4 * 12
    assert written["finding"] in (tmp_path / "audit" / "report.html").read_text()
    again = script(*flags)
    assert "already done" in again.err
    assert again.out == ended.out
    rows = paths[0] / "cells.jsonl"  # as before its last row was measured
    rows.write_text("".join(rows.read_text().splitlines(keepends=True)[:-1]))
    refused = script(*flags)
    assert "holds a run of another config: sweeps.sigma " in refused.assert_one_line(2)
