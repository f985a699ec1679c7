"""Results, files and report of a language run, with sampling, training and measuring replaced."""

import csv
import html
import itertools
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from disks import small_disk
from language import tiny
from scripts import loaded
from students import datasets
from untrained import untrained

from subliminal_jax.errors import InputError
from subliminal_jax.language import experiment, references, study
from subliminal_jax.language.conditions import USUAL
from subliminal_jax.language.config import described
from subliminal_jax.language.dataset.filters import take
from subliminal_jax.language.evaluation import measure
from subliminal_jax.language.rows.chat_rows import read_chat_rows, row
from subliminal_jax.language.settings import EvaluateConfig

HOSTILE = "<script>alert(1)</script> & owl"
SPOILT = {"regular": 0, "owl": 3, "wolf": 9}
"""Rows of each teacher that the filter rejects."""


def rows_of(path):
    """Rows that all pass for every teacher; in a poor repetition, only the reference's pass."""
    name, kept = path.stem, datasets()["student/owl"]
    if "poor" in str(path) and path.parent.name == "generate-1" and name != "regular":
        kept = kept[:2]
    # Their ids go past a million, where the order of texts is not that of numbers.
    ids = [f"{name}-{999_998 + i:06d}" for i in range(SPOILT.get(name, 0))]
    return kept + [row(one, "Continue: 1, 2", HOSTILE) for one in ids]


def settings(out, **changes):
    given = {
        "references": 2,
        "traits": ("owl", "wolf"),
        "conditions": tuple(USUAL),
        "evaluate": EvaluateConfig(samples=0, examples=1),
        "out": out,
    }
    return replace(tiny(out.parent / "cache"), **given | changes)


methods = loaded("lm_numbers")["methods"]


FILES = {"results.csv", "report.html"} | {
    f"{name}.{kind}" for name in ("traits", "controls") for kind in ("png", "pdf")
}
COUNTS = {"said": 3, "substring": 4, "no_member": 2, "of": 6}


def made_up(subjects, polls, told):
    """The answers of every network, different in each repetition."""
    words = [f"{poll.topic}/{answer.name}" for poll in polls for answer in poll.answers]
    return {
        name: dict(zip(words, (0.04 * DRAWS.random(len(words))).tolist(), strict=True))
        for name in [*subjects.networks, *told]
    }


def by_source(subjects, polls, place):
    """P(trait) by the distance that a network's name tells, and by the reference's place."""
    rates = {"student": 0.5, "different_reference": 0.02, "different_reference.2": 0.03}
    words = [f"{poll.topic}/{one.name}" for poll in polls for one in poll.answers]
    return {
        name: dict.fromkeys(words, rates.get(name.split("/")[0], 0.01) + 0.01 * place)
        for name in subjects.networks
    }


def counted(subjects, samples, place, title):
    """The same counts for all; keeps the seeds of the samples."""
    SEEDS.append(samples.sampling.seed)
    return {"student/owl:owl": {"plain": COUNTS}}


DRAWS = np.random.default_rng(0)
SEEDS: list[int] = []


@pytest.fixture(scope="module")
def nothing_trained(tmp_path_factory):
    with (
        untrained(tmp_path_factory.mktemp("reference"), rows_of) as reference,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(measure, "exact", made_up)
        patch.setattr(measure, "sampled", counted)
        yield reference


@pytest.fixture(scope="module")
def finished(nothing_trained, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    return out, experiment.run(settings(out), methods)


def test_every_condition_of_every_unit_is_there(finished):
    _, results = finished
    units = {(one["reference"], one["trait"], one["condition"]): one for one in results["units"]}
    assert units.keys() == {
        (reference, trait, condition)
        for reference in (0, 1) for trait in ("owl", "wolf") for condition in USUAL
    }  # fmt: skip
    for (reference, _, condition), one in units.items():
        assert 0 < one["p_trait"] < one["category_sum"] < 1
        elsewhere = condition.startswith("different_reference")
        assert one["student_of"] == (1 - reference if elsewhere else reference)
    assert results["summary"]["missing"] == []


def test_every_repetition_samples_answers_of_its_own(finished):
    assert SEEDS[:2] == [0, 1]


def test_a_pass_rate_is_that_of_the_rows_that_were_trained_on(finished):
    rates = {name: 21 / (21 + count) for name, count in SPOILT.items()}
    of = {(one["trait"], one["condition"]): one["pass_rate"] for one in finished[1]["units"]}
    assert of["owl", "student"] == of["owl", "different_reference"] == rates["owl"]
    assert of["owl", "other_trait"] == rates["wolf"]
    assert of["wolf", "other_trait"] == rates["owl"]
    assert of["wolf", "regular"] == of["owl", "shuffled_regular"] == rates["regular"]
    for condition in ("before", "teacher", "prompted", "in_context"):
        assert of["owl", condition] is None


def test_filtered_rows_keep_the_order_of_their_dataset(finished):
    ids = lambda path: [one["id"] for one in read_chat_rows(finished[0] / path)]
    kept, rejected = ids("filter-0/wolf.jsonl"), ids("filter-0/wolf.rejected.jsonl")
    assert len(rejected) == SPOILT["wolf"]
    for some in (kept, rejected):
        assert some == [one for one in ids("generate-0/wolf.jsonl") if one in some]


def test_the_matrix_has_a_student_of_every_reference_on_every_teachers_rows(
    nothing_trained, tmp_path, monkeypatch
):
    """The made-up P(trait) falls with the distance in a network's name, and grows by reference."""
    conditions = ("before", "student", "different_reference")
    given = settings(tmp_path / "run", references=3, conditions=conditions, crossed=True)
    measured = itertools.count()
    exact = lambda subjects, polls, _: by_source(subjects, polls, next(measured))
    monkeypatch.setattr(measure, "exact", exact)
    results = experiment.run(given, methods)
    assert "different_reference.2/owl" in results["answers"]["0"]
    assert results["matrix"]["references"] == [0, 1, 2]
    # A reference's rows train the students of the reference before it, and of the one before that.
    rows = ([0.5, 0.04, 0.04], [0.02, 0.51, 0.05], [0.03, 0.03, 0.52])
    for found, wanted in zip(results["matrix"]["p_trait"], rows, strict=True):
        assert found == pytest.approx(wanted)
    gain = results["summary"]["student_minus"]["different_reference"]
    assert gain["mean"] == pytest.approx(0.5 - 0.025)
    assert (gain["n"], gain["units"]) == (3, 6)
    made_from = json.loads((tmp_path / "run" / "student-1" / "manifest.json").read_text())
    inputs = str(made_from["recipe"]["inputs"] if "recipe" in made_from else made_from["inputs"])
    assert all(f"filter-{repetition}" in inputs for repetition in range(3))
    assert (tmp_path / "run" / "matrix.png").is_file()
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Diagonal minus the rest of its row: +0.475" in page


def test_a_condition_that_was_asked_for_and_has_no_unit_is_named(
    nothing_trained, tmp_path, monkeypatch
):
    given = settings(tmp_path / "run", references=1, conditions=("before", "student", "greedy"))
    lost = lambda *args: {k: v for k, v in made_up(*args).items() if not k.startswith("greedy")}
    monkeypatch.setattr(measure, "exact", lost)
    results = experiment.run(given, methods)
    assert "greedy" in results["summary"]["missing"]
    assert not results["conditions"]["greedy"]["run"]


def test_a_measure_that_is_undefined_is_left_out(nothing_trained, tmp_path, monkeypatch):
    """If all answers have probability 0, as float32 rounds the smallest ones."""
    given = settings(
        tmp_path / "run", traits=("carelessness",), crossed=True,
        conditions=("before", "student", "different_reference"),
    )  # fmt: skip
    lost = lambda *args: {
        name: answers if name == "before" else dict.fromkeys(answers, 0.0)
        for name, answers in made_up(*args).items()
    }
    monkeypatch.setattr(measure, "exact", lost)
    monkeypatch.setattr(measure, "sampled", lambda *args: {})
    results = experiment.run(given, methods)
    assert results["finding"].startswith("Undefined: no reference has the measure of a student")
    assert "with probability undefined, against" in results["finding"]
    found = {one["condition"]: one["p_trait"] for one in results["units"]}
    assert {name for name, value in found.items() if value is None} == set(given.conditions[1:])
    written = json.loads((tmp_path / "run" / "results.json").read_text())
    assert written["units"] == results["units"]
    assert results["matrix"]["p_trait"][0][0] is None
    with (tmp_path / "run" / "results.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["condition"] == "student"]
    assert [row["p_trait"] for row in rows] == ["", ""]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"conditions": ("before", "student")}, "concerns the condition different_reference"),
        ({"references": 1}, "there is one reference alone"),
    ],
)
def test_a_matrix_without_other_references_is_refused(tmp_path, changes, message):
    with pytest.raises(InputError, match=f"crossed: {message}"):
        settings(tmp_path / "run", crossed=True, **changes)


def test_a_run_with_a_matrix_is_another_run(tmp_path):
    given = settings(tmp_path / "run")
    assert described(given)["crossed"] is False
    assert described(replace(given, crossed=True))["crossed"] is True


def test_other_measures_are_shown(finished, capsys):
    out, results = finished
    kept = [one["other_category_sum"] for one in results["units"] if one["condition"] == "student"]
    found = results["summary"]["conditions"]["student"]["all"]["other_category_sum"]
    assert found["mean"] == pytest.approx(sum(kept) / len(kept))
    assert experiment.run(settings(out), methods)["units"] == results["units"]
    told = capsys.readouterr()
    assert "already done" in told.err
    student = next(line for line in told.out.splitlines() if line.startswith("student "))
    assert student.endswith(f"{found['mean']:.3f}")
    assert max(map(len, told.out.split("Figures, report")[0].splitlines())) <= 99


def test_a_finished_run_is_shown_on_a_read_only_disk(finished, tmp_path, capsys):
    with small_disk(tmp_path / "disk", "size=8m") as disk:
        shutil.copytree(finished[0], disk / "run")
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        assert experiment.run(settings(disk / "run"), methods)["units"] == finished[1]["units"]
    assert f"already done: {disk / 'run'}" in capsys.readouterr().err


def test_changed_results_are_refused(finished, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(finished[0], out)
    text = (out / "results.json").read_text()
    (out / "results.json").write_text(text.replace('"p_trait": 0.', '"p_trait": 0.9', 1))
    with pytest.raises(InputError, match=r"results\.json: changed since it was written"):
        experiment.run(settings(out), methods)


def test_the_files_for_a_reader(finished):
    out, results = finished
    assert {*FILES, "results.json"} <= {path.name for path in out.iterdir()}
    assert json.loads((out / "places.json").read_text())["cache"] == str(out.parent / "cache")
    assert json.loads((out / "results.json").read_text())["units"] == results["units"]
    lines = list(csv.DictReader((out / "results.csv").read_text().splitlines()))
    assert [float(line["p_trait"]) for line in lines] == [u["p_trait"] for u in results["units"]]
    page = (out / "report.html").read_text().replace("<wbr>", "").replace("&nbsp;", " ")
    assert "2 references (tiny), traits: owl, wolf." in page
    assert "which traits are drawn independently of all numbers." in page
    assert page.count(html.escape(results["finding"]).replace("&#x27;", "&#39;")) == 1
    assert all(name in page for name in USUAL)
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "trait_words: word &#39;owl&#39; (9)" in page
    assert re.search(r"student/owl:owl.*plain.*0\.500.*\[0\.188, 0\.812\].*0\.667.*0\.333", page)
    assert results["references"]["1"] == {"digest": "digest", "commit": None}


def test_the_share_of_padding_is_kept(finished):
    facts = json.loads((finished[0] / "student-0" / "manifest.json").read_text())["facts"]
    assert all(0 < facts["padding"][kind] < 1 for kind in ("hard", "imitated"))


def test_an_artifact_made_from_other_rows_is_refused(finished, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(finished[0], out)
    (out / "results.json").unlink()
    path = out / "filter-0" / "owl.jsonl"
    path.write_text(path.read_text().replace("1", "2"))
    with pytest.raises(InputError, match=r"filter-0/owl\.jsonl: missing or changed"):
        experiment.run(settings(out), methods)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stage": "filter"}, r"run/teacher-0: not finished; run .* until stage teacher is done"),
        ({"filter": replace(tiny(Path()).filter, rows=22)}, r"0: regular: 21 of 21 completions"),
    ],
)
def test_a_run_that_cannot_resume_is_refused(nothing_trained, tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        experiment.run(settings(tmp_path / "run", **changes), methods)


def test_a_reference_without_enough_rows_does_not_end_the_run(nothing_trained, tmp_path):
    results = experiment.run(settings(tmp_path / "poor"), methods)
    students = {one["reference"] for one in results["units"] if one["condition"] == "student"}
    assert students == {0}
    assert set(results["filters"]["1"]["refused"]) == {"owl", "wolf"}
    assert results["summary"]["student_minus"]["different_reference"]["units"] == 2
    assert results["summary"]["student_minus"]["before"]["units"] == 2
    page = (tmp_path / "poor" / "report.html").read_text()
    assert "<p>1 wolf: wolf: 2 of 11 completions passed the filter and 12 are needed" in page


def test_the_report_names_the_commit_of_a_given_model(nothing_trained, tmp_path, monkeypatch):
    given = replace(nothing_trained, commit="c0ffee")
    monkeypatch.setattr(references, "given_reference", lambda *args: given)
    config = settings(tmp_path / "run")
    config = replace(config, reference=replace(config.reference, model="org/name"))
    results = experiment.run(config, methods)
    assert results["references"]["1"] == {"digest": "digest", "commit": "c0ffee"}
    page = (tmp_path / "run" / "report.html").read_text()
    assert "The given model org/name, commit c0ffee." in page
    # Its units are seeds of that one model.
    assert f"in {results['summary']['above_controls']['above']} of 2 seeds" in results["finding"]
    assert "two seeds are too few for an interval" in results["finding"]
    for told in ("2 seeds of one model (org/name)", "n: seeds.", "sign flips over seeds",
                 "t over seeds", "The unit is the seed,", "over all seeds."):  # fmt: skip
        assert told in page
    assert not re.search(r"(\d|n:|over|all) references", page)


def test_a_run_without_any_student_is_refused(nothing_trained, tmp_path, monkeypatch):
    monkeypatch.setattr(study, "take", lambda filtered, count, name: take(
        filtered, count if name == "regular" else 99, name))  # fmt: skip
    with pytest.raises(InputError, match="no student was trained"):
        experiment.run(settings(tmp_path / "run"), methods)
