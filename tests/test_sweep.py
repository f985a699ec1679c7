"""Sweeps: cells and their refusals, cells against the experiment itself, results, resuming."""

import csv
import dataclasses
import json

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scripts import ROOT, results_of, rewrite_rows

from subliminal_jax.config import read_config
from subliminal_jax.data.images import load_images
from subliminal_jax.errors import InputError
from subliminal_jax.mnist.arms import Arm
from subliminal_jax.mnist.config import with_pairs
from subliminal_jax.mnist.relations import Different, Perturbed, Same, SharedOutputs
from subliminal_jax.mnist.study import Study
from subliminal_jax.mnist.sweeps import cells as sweep
from subliminal_jax.mnist.sweeps import results as sweep_results
from subliminal_jax.mnist.sweeps.config import SweepConfig, cells, gather_flags
from subliminal_jax.plotting import sweep_figure
from subliminal_jax.runs.run_directory import RunDirectory

CONFIGS = sorted((ROOT / "configs").glob("mnist_sweep_*.yaml"))
SMALL = {
    "data": "digits", "members": 2, "width": 16, "batch": 256, "learning_rate": 2e-3,
    "teacher_epochs": 2, "student_epochs": 1, "noise_images": 512, "block": 3,
}  # fmt: skip


def config_of(*axes, **changes):
    return with_pairs(SweepConfig(**SMALL | {"sweep": axes} | changes))


def test_cells_are_all_combinations_in_order():
    found = cells(config_of("aux=1,2", "learning-rate=1e-3,0.5"))
    assert [cell.name for cell in found] == [
        f"aux={aux} learning_rate={rate}" for aux in (1, 2) for rate in ("0.001", "0.5")
    ]
    assert [(c.config.aux, c.config.learning_rate) for c in found][1] == (1, 0.5)
    assert found[1].config.width == 16
    named = cells(config_of(cases={"as it is": {}, "wide": {"width": 32}}))
    assert [(cell.name, cell.config.width) for cell in named] == [("as it is", 16), ("wide", 32)]
    ranges = cells(config_of("pixel_range=0:1,-1:1"))
    assert [cell.config.pixel_range for cell in ranges] == [(0, 1), (-1, 1)]


def test_values_are_parsed_as_flags_and_have_distinct_names():
    assert [cell.config.aux for cell in cells(config_of("aux=010,1"))] == [10, 1]
    near = cells(config_of("learning_rate=1e-4,0.00010000001,.5"))
    names = ["learning_rate=0.0001", "learning_rate=0.00010000001", "learning_rate=0.5"]
    assert [cell.name for cell in near] == names
    trained = cells(config_of("train_heads=true,False"))
    assert [cell.config.train_heads for cell in trained] == [True, False]


REFUSED = {
    "no axis": ([], "sweep: give at least one axis"),
    "unknown": (["auxx=1,2"], "sweep: 'auxx' is not a setting; did you mean aux?"),
    "empty": (["aux="], "sweep: 'aux=' lacks a value"),
    "no list": (["aux"], "sweep: 'aux' lacks a value"),
    "a gap": (["aux=1,,2"], "sweep: 'aux=1,,2' lacks a value"),
    "no number": (["aux=three"], "cell aux=three: aux: should be a valid integer"),
    "a fraction": (["aux=2.5"], "cell aux=2.5: aux: should be a valid integer"),
    "width 0": (["width=64,0"], "cell width=0: width: should be greater than or equal to 1"),
    "negative": (["sigma=0,-1"], "cell sigma=-1: sigma: should be greater than or equal to 0"),
    "unknown word": (["noise=perlin"], "cell noise=perlin: noise: should be 'uniform'"),
    "impossible pair": (["loss=mse", "temperature=2"], "cell loss=mse temperature=2: temperature"),
    "twice": (["aux=1", "aux=2"], "sweep: aux is given twice"),
    "a value twice": (["aux=1,1"], "sweep: 'aux=1,1' has a value twice"),
    "fixed": (["members=2,3"], "sweep: members is the same in all cells"),
    "no finite number": (
        ["learning_rate=1e-3,inf"],
        "cell learning_rate=inf: learning_rate is inf",
    ),
    "a thousand": (
        [f"width={','.join(map(str, range(1, 40)))}", f"aux={','.join(map(str, range(1, 40)))}"],
        "sweep: more than 1000 cells",
    ),
    "memory": (["width=10000000"], "cell width=10000000: a block of"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_impossible_sweep_is_refused_before_any_work(script, tmp_path, case):
    axes, expected = REFUSED[case]
    words = ["--sweep", *axes, "--data", "digits", "--out", "run"]
    assert expected in script("mnist_sweep", *words).assert_one_line(2)
    assert not (tmp_path / "run").exists()


def test_a_setting_fixed_in_all_cells_is_refused_as_an_axis():
    with pytest.raises(InputError, match=r"data_dir is .* cells; give it once, as --data-dir$"):
        cells(config_of("data-dir=1"))
    with pytest.raises(InputError, match=r"sweep: published is the same in all cells$"):
        cells(config_of("published=1"))


def test_impossible_cases_are_refused():
    with pytest.raises(InputError, match="give either axes or cases"):
        config_of("aux=1", cases={"a": {}})
    with pytest.raises(InputError, match="cell a: seed is the same"):
        cells(config_of(cases={"a": {"seed": 1}}))
    with pytest.raises(InputError, match="cell a: auxx: no such setting"):
        cells(config_of(cases={"a": {"auxx": 1}}))
    config = config_of(cases={"a": {}, "b": {"aux": 3}})
    with pytest.raises(InputError, match="cells a and b are the same"):
        sweep.plan(config, cells(config), load_images("digits", None))


def test_every_flag_may_give_an_axis():
    words = ["--sweep", "a=1", "--members", "3", "--sweep=b=2", "--sweep", "c=1", "d=2"]
    assert gather_flags(words) == ["--members", "3", "--sweep", "a=1", "b=2", "c=1", "d=2"]
    assert gather_flags(["--members", "3"]) == ["--members", "3"]
    assert gather_flags(["--sweep"]) == ["--sweep"]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_published_values_are_of_cells_that_are_run(path):
    config = read_config(SweepConfig, path)
    assert set(config.published) <= {cell.name for cell in cells(config)}
    assert config.members >= 2


def test_arms_follow_from_the_settings():
    config = config_of("aux=1", "sigma=1")
    assert sweep._arm(dataclasses.replace(config, aux=4, loss="mse"), "student_aux") == Arm(
        relation=Same(), logits="aux", aux=4, loss="mse", temperature=1.0
    )
    arm = sweep._arm(dataclasses.replace(config, sigma=0.5), "student_all")
    assert (arm.relation, arm.logits) == (Perturbed(sigma=0.5), "all")
    assert sweep._arm(config, "cross_model_aux").relation == Different()
    for shares, outputs in {"heads": (0, 13), "class_head": (0, 10), "aux_head": (10, 13)}.items():
        arm = sweep._arm(dataclasses.replace(config, shares=shares), "student_aux")
        assert arm.relation == SharedOutputs(first=outputs[0], end=outputs[1])


@pytest.fixture(scope="module")
def measured():
    """One program: two rates, two epochs of teacher and students, two auxiliary counts."""
    config = config_of(
        "aux=2,3", "learning_rate=2e-3,1e-2", "teacher_epochs=1,2", "student_epochs=1,2"
    )
    works = sweep.plan(config, cells(config), load_images("digits", None))
    steps = []
    rows = [row for work in works for row in sweep.measure(config, work, never, steps.append)]
    assert sum(steps) == sweep.epochs(config, works)
    return works, {(row["cell"], row["member"]): row for row in rows}


def never(cell, member):
    return False


def test_cells_share_what_they_can(measured):
    works, rows = measured
    assert len(works) == 1
    assert len(works[0].dials) == 2
    assert sorted(works[0].branches) == [1, 2]
    assert [len(study.arms) for ((study, *_),) in works[0].branches.values()] == [4, 4]
    assert len(rows) == 16 * 2


def test_a_cell_is_the_experiment_with_its_settings(measured):
    """With as many auxiliary logits as the widest cell, so that the draws are equal."""
    _, rows = measured
    rate, teacher, student = 1e-2, 2, 1
    changes = {"learning_rate": rate, "teacher_epochs": teacher, "student_epochs": student}
    config = config_of(**changes)
    arms = {"student_aux": Arm(relation=Same()), "cross_model_aux": Arm(relation=Different())}
    study = Study(config, load_images("digits", None), arms)
    (block,) = study.blocks()
    reference, taught = study.train_teachers(block)
    students = study.distill(block, reference, study.label_noise(block, taught))
    outcome = study.evaluate(block, reference, taught, students)
    for place, member in enumerate(outcome.member):
        name = f"aux=3 learning_rate={rate:g} teacher_epochs={teacher} student_epochs={student}"
        row = rows[name, int(member)]
        names = ["reference", "teacher", *arms]
        expected = dict(zip(names, outcome.accuracy[place], strict=True))
        assert row["accuracy"] == pytest.approx(expected, abs=1.5 / 360)
        losses = study.epoch_losses(place)
        assert list(row["losses"]) == list(losses) == names[1:]
        for network, epochs in losses.items():
            assert len(epochs) == (teacher if network == "teacher" else student)
            assert_allclose(row["losses"][network], epochs, rtol=1e-3)
        assert row["init_distance"]["student_aux"] == 0
        assert row["init_distance"]["cross_model_aux"] == pytest.approx(1.41, abs=0.2)


def test_cells_differ_where_their_settings_do(measured):
    _, rows = measured
    teachers = {name: row["accuracy"]["teacher"] for (name, m), row in rows.items() if m == 0}
    by = lambda *words: {t for n, t in teachers.items() if all(w in n.split() for w in words)}
    assert len(by("learning_rate=0.002", "teacher_epochs=1")) == 1
    assert len(by("teacher_epochs=1")) == 2
    assert len(by("learning_rate=0.01")) == 2
    assert len({row["accuracy"]["student_aux"] for row in rows.values()}) > 8


def test_every_student_has_a_leak_score(measured):
    _, rows = measured
    for row in rows.values():
        assert set(row["leak"]) == {"student_aux", "cross_model_aux"}
        assert set(row["leak"]["student_aux"]) == {"drop", "cosine", "sign_drop", "towards"}
    same = [row["leak"]["student_aux"] for row in rows.values()]
    other = [row["leak"]["cross_model_aux"] for row in rows.values()]
    mean = lambda leaks, score: np.mean([one[score] for one in leaks])
    assert mean(same, "cosine") > abs(mean(other, "cosine")) + 0.01
    assert mean(same, "towards") > 0.01


def rows_of(accuracies):
    return [
        {"cell": cell, "member": m, "accuracy": dict(zip(arms, values, strict=True)), "leak": {}}
        for cell, arms, members in accuracies
        for m, values in enumerate(members)
    ]


ARMS = ("reference", "teacher", "student_aux", "cross_model_aux")
ROWS = rows_of([
    ("aux=1", ARMS, [(0.1, 0.9, 0.1, 0.1), (0.2, 0.9, 0.2, 0.1), (0.1, 0.9, 0.15, 0.1)]),
    ("aux=3", ARMS[:3], [(0.1, 0.9, 0.5), (0.2, 0.9, 0.7), (0.1, 0.9, 0.6)]),
])  # fmt: skip


@pytest.fixture
def summary():
    published = {"aux=3": {"student_aux": (0.61, 0.1)}, "aux=1": {"student_aux": (0.5,)}}
    config = config_of("aux=1,3", members=3, published=published)
    data = dataclasses.replace(load_images("digits", None), name="mnist")
    return sweep_results.summarise(config, cells(config), ROWS[::-1], data)


def test_results_by_hand(summary):
    one, three = summary["cells"]
    assert summary["base"] == "aux=3"
    assert three["arms"]["student_aux"]["values"] == [0.5, 0.7, 0.6]
    assert three["arms"]["student_aux"]["mean"] == pytest.approx(0.6)
    assert (one["control"], three["control"]) == ("cross_model_aux", "reference")
    assert three["gain"]["mean"] == pytest.approx(np.mean([0.4, 0.5, 0.5]))
    assert one["against_base"]["mean"] == pytest.approx(np.mean([-0.4, -0.5, -0.45]))
    assert one["against_base"]["sd"] == pytest.approx(0.05)
    # t = 9 sqrt(3); with two degrees of freedom p = 1 - t / sqrt(2 + t^2)
    t = 9 * np.sqrt(3)
    assert one["against_base"]["p"] == pytest.approx(1 - t / np.sqrt(2 + t**2))
    assert one["against_base"]["p_holm"] == one["against_base"]["p"]
    assert three["gain"]["p_holm"] == pytest.approx(2 * three["gain"]["p"])
    agrees = [cell["arms"]["student_aux"]["published"]["agrees"] for cell in summary["cells"]]
    assert agrees == [False, True]
    assert "1 of 2 published values agree" in sweep_results.finding(summary)
    assert "between 15.0% (aux=1) and 60.0% (aux=3)" in sweep_results.finding(summary)


def test_the_table_shows_ours_beside_the_published(summary):
    table = sweep_results.tables(summary)[0].text()
    lines = {line.split()[0]: line for line in table.splitlines() if line.startswith("aux=")}
    assert "0.600 [0.352, 0.848]" in lines["aux=3"]
    assert "0.610 +" in lines["aux=3"]
    assert "0.500 -" in lines["aux=1"]
    assert lines["aux=3"].rstrip().endswith("base")
    power = sweep_results.tables(summary)[1]
    assert power.rows[0][:2] == ("between two cells", "0.050")
    figure = sweep_figure(summary | {
        "finding": "F", "dataset": "mnist", "run": "r",
        "data": {"name": "d", "train": 1, "test": 1, "inputs": 1, "stands_in": False},
    })  # fmt: skip
    axes = figure.axes[0]
    assert axes.get_xlabel() == "aux"
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1", "3"]


def test_one_cell_is_not_between_two():
    config = config_of("aux=3", members=3)
    rows = [row for row in ROWS if row["cell"] == "aux=3"]
    found = sweep_results.summarise(config, cells(config), rows, load_images("digits", None))
    said = sweep_results.finding(found)
    assert said == "student_aux reads 60.0% (aux=3) of the test digits."


def test_published_values_are_of_mnist_alone():
    config = config_of("aux=1,3", members=3, published={"aux=3": {"student_aux": (0.6,)}})
    found = sweep_results.summarise(config, cells(config), ROWS, load_images("digits", None))
    assert found["cells"][1]["arms"]["student_aux"]["published"] is None


def test_one_member_has_no_p_value():
    config = config_of("aux=1,3", members=2)
    one = [row for row in ROWS if row["member"] == 0]
    config = dataclasses.replace(config, members=1)
    found = sweep_results.summarise(config, cells(config), one, load_images("digits", None))
    assert found["cells"][0]["gain"]["p"] is None
    assert found["power"] == []
    assert "student_aux reads" in sweep_results.finding(found)


def test_a_sweep_resumes_where_it_stopped(scripts, tmp_path):
    words = [f"--{name.replace('_', '-')}={value}" for name, value in SMALL.items()]
    words += ["--sweep", "aux=2,3", "--sweep", "sigma=0,1", "--out", "run"]
    run_again = lambda: scripts.run("mnist_sweep", *words, cwd=tmp_path)
    ended = run_again()
    assert ended.status == 0, ended.err
    run = tmp_path / "run"
    first = results_of(run)
    assert [cell["name"] for cell in first["cells"]][1] == "aux=2 sigma=1"
    assert first["base"] == "aux=3 sigma=0"
    with (run / "results.csv").open() as file:
        table = list(csv.DictReader(file))
    assert len(table) == (4 * 3 + 2) * 2  # the first and the last cell have a control
    assert float(table[4]["accuracy"]) == first["cells"][0]["arms"]["student_aux"]["values"][0]
    for name in ("figure.png", "figure.pdf", "report.html"):
        assert (run / name).stat().st_size > 100

    # 64-16-16-13 has 1,488 weights, 464 of them after the first layer; 2 members, 6 students.
    speed, training, forward = first["timing"]["speed"], 4 * 1488 + 2 * 464, 2 * 1488
    flop = {name: found["flop"] for name, found in speed["phases"].items()}
    assert flop.pop("whole run") == sum(flop.values())
    assert flop == {
        "teach": 2 * 2 * 1437 * training,
        "label": 2 * 512 * forward,
        "distill": 2 * 6 * 512 * training,
        "evaluate": 2 * 8 * 360 * forward,
    }
    assert speed["matrix_rate"]["flop_per_s"] > 1e8
    assert "of the matrix rate" in ended.out

    lines = (run / "cells.jsonl").read_bytes().splitlines(keepends=True)
    assert len(lines) == 8
    (run / "results.json").unlink()
    (run / "cells.jsonl").write_bytes(b"".join(lines[:3]))
    again = run_again()
    assert again.status == 0, again.err
    assert "resuming: 3 of 8 rows are done" in again.err
    assert results_of(run)["cells"] == first["cells"]
    one_left = results_of(run)["timing"]["speed"]["phases"]["teach"]["flop"]
    assert one_left in (flop["teach"], flop["teach"] / 2)  # of the members that were left

    (run / "results.json").unlink()
    row = json.loads(lines[0]) | {"cell": "aux=7 sigma=0"}
    (run / "cells.jsonl").write_bytes(json.dumps(row).encode() + b"\n")
    assert "line 1 changed since it was written" in run_again().err
    del row["digest"]
    with RunDirectory.open(run, json.loads((run / "config.json").read_text())) as directory:
        rewrite_rows(directory, "cells.jsonl", [row])
    assert "line 1 is not a row of this run" in run_again().err


def test_undefined_differences_are_not_shown():
    assert_allclose(sweep_results._difference([0.1, 0.2], [0.1, 0.2])["p"], 1.0)
