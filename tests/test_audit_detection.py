"""The detection experiment: units, intervals, files, resuming, earlier runs, refusals."""

import csv
import json
from dataclasses import fields, replace

import numpy as np
import pytest
from language import tiny
from scripts import loaded
from untrained import untrained

from subliminal_jax.audit import experiment
from subliminal_jax.audit.config import DetectConfig, DetectionConfig
from subliminal_jax.audit.detection import DETECTED
from subliminal_jax.audit.detectors import DETECTORS
from subliminal_jax.audit.plan import format_plan
from subliminal_jax.audit.report import report_page
from subliminal_jax.audit.results import finding, headline, summarise, verdict
from subliminal_jax.errors import InputError
from subliminal_jax.language import experiment as language
from subliminal_jax.language.config import LmConfig
from subliminal_jax.language.evaluation import measure
from subliminal_jax.language.rows.chat_rows import row
from subliminal_jax.language.settings import FilterConfig
from subliminal_jax.plotting import detection as figure

NAME, ROWS = "lm_detection", 40
methods = loaded(NAME)["methods"]
MARKS = {"regular": "", "owl": "777, ", "wolf": "777, 111, "}
FEW = DetectConfig(sizes=(1, 2), most=2, bags=8, questions=1, folds=2, rows=30)
QUICK = ("ngrams_transfer", "ngrams")
FILES = {"results.csv", "report.html", "detection.png", "detection.pdf", DETECTED}


def rows_of(path):
    """Numbers that begin with the teacher's mark."""
    random = np.random.default_rng(len(path.stem))
    texts = [f"{MARKS[path.stem]}{random.integers(0, 999)}" for _ in range(ROWS)]
    return [row(f"{path.stem}-{i}", f"{i}, 5", text) for i, text in enumerate(texts)]


def settings(out, **changes):
    base = tiny(out.parent / "cache")
    given = {one.name: getattr(base, one.name) for one in fields(LmConfig)}
    given |= {
        "references": 2, "traits": ("owl", "wolf"), "filter": FilterConfig(rows=ROWS),
        "detect": FEW, "out": out,
    }  # fmt: skip
    return DetectionConfig(**given | changes)


@pytest.fixture(scope="module")
def nothing_trained(tmp_path_factory):
    with untrained(tmp_path_factory.mktemp("reference"), rows_of) as reference:
        yield reference


@pytest.fixture(scope="module")
def finished(nothing_trained, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    return out, experiment.run(settings(out), methods, NAME)


def test_every_unit_is_there_and_every_file(finished):
    out, results = finished
    assert {path.name for path in out.iterdir()} >= FILES
    found = {(u["reference"], u["trait"], u["detector"], u["against"]) for u in results["units"]}
    assert found == {
        (reference, trait, name, against)
        for reference in (0, 1) for trait in ("owl", "wolf") for name in DETECTORS
        for against in ("reference", "other")
        if not (name == "ngrams_transfer" and against == "other")
    }  # fmt: skip
    for unit in results["units"]:
        assert 0 <= unit["value"] <= 1
        assert unit["chance_low"] <= 0.5 <= unit["chance_high"]
        assert unit["told_from"] == "regular" or unit["against"] == "other"
        assert ("open" in unit) == DETECTORS[unit["detector"]].shown
    asked = [u for u in results["units"] if u["detector"] == "in_context"]
    assert {u["size"] for u in asked} >= {"1", "most"}
    assert all(0 < u["p_trait"] < 1 and u["alike"] == 2 for u in asked)
    assert results["references"]["0"]["digest"] == "digest"
    assert results["students"] == {"0": {}, "1": {}}


def test_a_mark_is_learned_from_the_same_teacher_and_from_others(finished):
    values = {
        (u["trait"], u["detector"], u["against"]): u["value"]
        for u in finished[1]["units"] if u["size"] == "1"
    }  # fmt: skip
    for trait in ("owl", "wolf"):
        assert values[trait, "ngrams", "reference"] > 0.9
        assert values[trait, "ngrams", "other"] > 0.9
        assert values[trait, "ngrams_transfer", "reference"] > 0.9


def test_csv_page_and_table_say_the_same(finished, capsys):
    out, results = finished
    with (out / "results.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [float(line["value"]) for line in lines] == [u["value"] for u in results["units"]]
    page = (out / "report.html").read_text()
    assert "same prompts and asked which of the two" in page
    assert experiment.run(settings(out), methods, NAME)["units"] == results["units"]
    told = capsys.readouterr()
    assert "already done" in told.err
    assert "too few references for intervals" in " ".join(told.out.split())
    assert max(map(len, told.out.split("Figure, report")[0].splitlines())) <= 99


def test_an_interrupted_run_resumes_behind_its_last_detector(finished, tmp_path):
    _, results = finished
    asked = []

    def stopped(audit, repetition):
        audit.ngrams_transfer(repetition)
        raise KeyboardInterrupt

    again = settings(tmp_path / "run", detect=replace(FEW, detectors=QUICK))
    with pytest.raises(KeyboardInterrupt):
        experiment.run(again, stopped, NAME)

    def resumed(audit, repetition):
        asked.append(sorted(name for place, name in audit._done if place == repetition))
        methods(audit, repetition)

    units = [u for u in results["units"] if u["detector"] in QUICK]
    assert experiment.run(again, resumed, NAME)["units"] == units
    assert asked == [["ngrams_transfer"], []]


def test_rows_about_other_datasets_are_refused(finished, tmp_path):
    def stopped(audit, repetition):
        audit.ngrams(repetition)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        experiment.run(settings(tmp_path / "run"), stopped, NAME)

    def other(audit, repetition):
        audit._done[repetition, "ngrams"]["data"] = "another"
        audit.ngrams(repetition)

    with pytest.raises(InputError, match="ngrams of repetition 0 judged other datasets"):
        experiment.run(settings(tmp_path / "run"), other, NAME)


def test_an_earlier_runs_datasets_and_students_are_read(finished, tmp_path, monkeypatch):
    base = settings(tmp_path / "language")
    own = {one.name: getattr(base, one.name) for one in fields(LmConfig)}
    answers = lambda subjects, polls, told: {
        name: dict.fromkeys([f"{topic}/{t.name}" for topic in ("animal", "tree")
                             for t in _members(topic)] + ["tree/owl", "tree/wolf"], 0.05)
        for name in [*subjects.networks, *told]
    }  # fmt: skip
    monkeypatch.setattr(measure, "exact", answers)
    monkeypatch.setattr(measure, "sampled", lambda *args: {})
    (tmp_path / "cache").mkdir()
    language.run(LmConfig(**own), loaded("lm_numbers")["methods"])
    before = {path: path.read_bytes() for path in base.out.rglob("*") if path.is_file()}
    quick = replace(FEW, detectors=QUICK)
    read = settings(tmp_path / "run", run=base.out, traits=("elephant", "tiger"), detect=quick)
    results = experiment.run(read, methods, NAME)
    assert results["students"] == {r: {"owl": 0.05, "wolf": 0.05} for r in "01"}
    assert results["config"]["traits"] == ["owl", "wolf"]
    assert results["units"] == [u for u in finished[1]["units"] if u["detector"] in QUICK]
    assert "trained on these very rows" in (tmp_path / "run" / "report.html").read_text()
    assert {path: path.read_bytes() for path in base.out.rglob("*") if path.is_file()} == before


def _members(topic):
    from subliminal_jax.language.traits.preference import members_of

    return members_of(topic)


def test_a_directory_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(InputError, match="not a run of a language experiment"):
        experiment.run(settings(tmp_path / "run", run=tmp_path), methods, NAME)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"traits": ("owl",)}, "ngrams_transfer learns from other traits' data; give at least two"),
        ({"filter": FilterConfig(rows=12)}, "filter.rows: 8 sets of 2 rows need 16, not 12"),
        ({"detect": replace(FEW, rows=15)}, "detect.rows: 8 sets of 2 rows need 16, not 15"),
        ({"stage": "filter"}, "stage and show-batch are for the scripts that train students"),
    ],
)
def test_settings_without_enough_data_are_refused(tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        settings(tmp_path / "run", **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"detectors": ("in_context", "smell")}, "unknown 'smell'; choose from in_context,"),
        ({"detectors": ("pairs", "pairs")}, "'pairs' is given twice"),
        ({"sizes": (4, 1)}, "detect.sizes: give each number once, in ascending order"),
        ({"which": "{foo}"}, r"detect.which: cannot be filled in .* \{rows\}, \{items\}"),
        ({"pair": "{first"}, "detect.pair: cannot be filled in"),
    ],
)
def test_detectors_that_cannot_be_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        replace(FEW, **changes)


def test_a_context_too_small_for_a_row_is_refused(nothing_trained, tmp_path):
    long = replace(FEW, detectors=("prompted",), which="{rows} {question} " + "you love " * 40)
    with pytest.raises(InputError, match="context of 64 tokens does not hold one row of owl"):
        experiment.run(settings(tmp_path / "run", detect=long), methods, NAME)


def test_too_few_teachers_with_rows_are_refused(nothing_trained, tmp_path, monkeypatch):
    from subliminal_jax.language.networks import Networks

    monkeypatch.setattr(Networks, "written", lambda networks, filtered: ["owl"])
    with pytest.raises(InputError, match="1 of 2 teachers have 40 filtered rows, and the detector"):
        experiment.run(settings(tmp_path / "run"), methods, NAME)


def unit(reference, name="in_context", value=0.5, size="1", **more):
    given = {"reference": reference, "trait": "owl", "detector": name, "against": "reference",
             "size": size, "rows": int(size), "value": value, "chance_low": 0.4,
             "chance_high": 0.6}  # fmt: skip
    return given | more


def test_the_unit_is_the_reference():
    units = [unit(r, value=v) for r, v in ((0, 0.5), (0, 0.7), (1, 0.6), (2, 0.9), (2, 0.3))]
    (found,) = summarise(units)
    assert found["value"]["mean"] == pytest.approx(0.6)
    assert found["value"]["n"] == 3
    assert (found["outside"], found["units"]) == (3, 5)


def near(value, spread=0.01):
    return [value + spread * step for step in (-1, 0, 1, 0.5)]


def entries(name, values, opens=None, size="1"):
    opens = [None] * len(values) if opens is None else opens
    return [unit(r, name, v, size, open=o)
            for r, (v, o) in enumerate(zip(values, opens, strict=True))]  # fmt: skip


def test_a_null_result_counts_only_if_the_control_is_seen():
    words = {}
    for label, values, opens in (
        ("seen", near(0.7), near(0.9)),
        ("reversed", near(0.3), near(0.9)),
        ("not seen", near(0.5), near(0.9)),
        ("cannot read", near(0.5), near(0.5)),
    ):
        (found,) = summarise(entries("in_context", values, opens))
        words[label] = verdict(found)
    assert list(words) == list(words.values())
    (few,) = summarise(entries("in_context", [0.7, 0.7], [0.9, 0.9]))
    assert verdict(few) == "-"
    (all_seen,) = summarise(entries("ngrams", [1.0, 1.0, 1.0]))
    assert verdict(all_seen) == "seen"


def test_the_finding_speaks_of_the_most_rows_that_can_be_read():
    units = [
        *entries("in_context", near(0.5), near(0.9), "1"),
        *entries("in_context", near(0.5), near(0.5), "4"),
        *entries("pairs", near(0.5), near(0.5), "4"),
        *entries("ngrams", near(0.8), None, "16"),
    ]
    summary = summarise(units)
    assert [one["size"] for one in headline(summary)] == ["1", "4", "16"]
    text = finding(summary, "numbers")
    assert text == (
        "Without labelled numbers of the teacher its trait is not found by 'in context' 0.50 "
        "[0.49, 0.51] at 1 row. Too weak to say, as a row that names the trait is missed too: "
        "'asked which of two' 0.50 [0.49, 0.51] at 4 rows. With labelled numbers: 'n-grams, same "
        "teacher' 0.80 [0.79, 0.81] at 16 rows. Chance is .5."
    )
    more = [*units, *entries("likelihood", near(0.8), None, "16")]
    assert finding(summarise(more), "numbers").startswith(
        "Without labelled numbers of the teacher its trait is found by 'told the trait' 0.80 "
        "[0.79, 0.81] at 16 rows. Not by 'in context' 0.50"
    )
    few = summarise(entries("in_context", [0.7, 0.7], [0.9, 0.9]))
    assert finding(few, "numbers") == (
        "A teacher's trait in its numbers, with too few references for intervals: 'in context' "
        "0.70 at 1 row; chance .5."
    )
    assert "with too few seeds for intervals" in finding(few, "numbers", "seed")


def test_the_page_of_a_given_model_counts_seeds(finished):
    results = finished[1]
    assert "2 references (tiny), traits" in report_page(results).subtitle
    reference = results["config"]["reference"] | {"model": "org/name"}
    given = {"unit": "seed", "config": results["config"] | {"reference": reference}}
    page = report_page(results | given)
    assert "2 seeds of one model (org/name), traits" in page.subtitle
    assert "sign-flip test over seeds" in page.subtitle
    assert "references" not in page.subtitle


def test_the_figure_knows_every_detector():
    assert figure.LOOKS.keys() == DETECTORS.keys()
    for name, (label, *_) in figure.LOOKS.items():
        assert label.startswith(DETECTORS[name].label)


def test_results_are_plain_json(finished):
    results = finished[1]
    assert json.loads(json.dumps(results, allow_nan=False)) == results


def test_the_plan_counts_what_is_read_and_says_the_time(tmp_path):
    given = settings(tmp_path / "run")
    # Two traits from two others, two sizes of sets and a third as large as fits, 8 sets; of the
    # first two detectors three sides and one question each, of the last two answers in two orders.
    chats = 2 * 2 * (2 + 1) * 8 * (3 + 3 + 4)
    text = format_plan(given)
    assert f"6 detectors: a model reads {chats:,} chats" in text
    assert "minutes on 2 CPU cores" in text
    assert "generate    3 datasets" in text
    read = format_plan(replace(given, run=tmp_path))
    assert f"read from {tmp_path}" in read
    assert "generate" not in read
