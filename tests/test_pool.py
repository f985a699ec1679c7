"""Pooling of finished runs: equal to one run of all seeds, or refused in a line."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from fake_results import aux_results
from language import tiny
from scripts import loaded
from untrained import untrained

from subliminal_jax.config import config_digest
from subliminal_jax.errors import InputError
from subliminal_jax.language import experiment
from subliminal_jax.language.evaluation import measure
from subliminal_jax.language.pooling.finished import finished
from subliminal_jax.language.pooling.pool import pool
from subliminal_jax.language.settings import EvaluateConfig
from subliminal_jax.language.sweep import experiment as sweeps
from subliminal_jax.language.sweep.config import LmSweepConfig, TrainingWay
from subliminal_jax.runs.run_directory import CONFIG_DIGEST, RESULTS_DIGEST, unsealed_results
from subliminal_jax.runs.sealed import sealed

CONDITIONS = ("before", "teacher", "student", "regular", "other_trait")
MADE = ("summary", "finding", "units", "answers", "filters", "references", "conditions", "items")


def made_up(draws):
    """Answers of every network, one draw behind the other."""

    def exact(subjects, polls, told):
        words = [f"{poll.topic}/{answer.name}" for poll in polls for answer in poll.answers]
        return {
            name: dict(zip(words, (0.04 * draws.random(len(words))).tolist(), strict=True))
            for name in [*subjects.networks, *told]
        }

    return exact


def settings(out, seed, references, **changes):
    given = {
        "references": references, "seed": seed, "traits": ("owl", "wolf"), "out": out,
        "conditions": CONDITIONS, "evaluate": EvaluateConfig(samples=0),
    }  # fmt: skip
    return replace(tiny(out.parent / "cache"), **given | changes)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run of four seeds, and the same in two parts: the answers are equal, in their order."""
    place, methods = tmp_path_factory.mktemp("pool"), loaded("lm_numbers")["methods"]
    parts = {"whole": (7, 4), "first": (7, 3), "last": (10, 1)}
    with untrained(place / "words"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "sampled", lambda *args: {})
        for name, (seed, references) in parts.items():
            if name != "last":  # which goes on where the first one ended
                patch.setattr(measure, "exact", made_up(np.random.default_rng(3)))
            experiment.run(settings(place / name, seed, references), methods)
        other = settings(place / "other", 20, 1, keep=5)
        student = replace(other.student, learning_rate=1e-3)
        experiment.run(replace(other, student=student), methods)
    return place


def results(path):
    return json.loads((path / "results.json").read_text())


def test_pooled_parts_equal_the_whole_run(runs, tmp_path, capsys):
    out = tmp_path / "pooled"
    told = pool([runs / "first", runs / "last"], out)
    whole = results(runs / "whole")
    assert {name: told[name] for name in MADE} == {name: whole[name] for name in MADE}
    assert told["summary"]["student_minus"]["regular"]["n"] == 4
    assert told["config"]["seed"] == [7, 8, 9, 10]
    assert told["config"]["references"] == 4
    assert list(told["parts"]) == ["seeds 7, 8, 9", "seed 10"]
    page = (out / "report.html").read_text()
    assert "Pooled runs" in page
    assert "Time of pooling them" in page
    assert "4 references (tiny), traits: owl, wolf" in page
    written = {path.name for path in out.iterdir()}
    assert written >= {"results.csv", "traits.png", "controls.pdf"}
    assert "lm_numbers: 2 runs pooled, 4 references (tiny)" in capsys.readouterr().err
    pool([runs / "first", runs / "last"], out)
    assert "already done" in capsys.readouterr().err


def test_pooled_runs_can_be_pooled_again(runs, tmp_path):
    shutil.copytree(runs / "last", tmp_path / "last")
    shifted(tmp_path / "last" / "results.json", {"reference": 11, "student_of": 11}, "10", "11")
    pool([runs / "first", runs / "last"], tmp_path / "four")
    # A file under any name will do.
    shutil.copy(tmp_path / "four" / "results.json", tmp_path / "four.json")
    told = pool([tmp_path / "four.json", tmp_path / "last"], tmp_path / "five")
    assert list(told["parts"]) == ["seeds 7, 8, 9", "seed 10", "seed 11"]
    assert told["summary"]["student_minus"]["regular"]["n"] == 5
    assert len(told["config"]["pooled"]) == 3


def shifted(path, unit, old, new):
    """Give a run of one seed another one."""
    stored = json.loads(path.read_text())
    stored["units"] = [one | unit for one in stored["units"]]
    for name in ("references", "answers", "sampled", "teachers", "judges", "filters"):
        stored[name] = {new: stored[name][old]}
    resealed(path, stored)


def resealed(path, stored, **changes):
    bare = {key: value for key, value in stored.items() if key not in (RESULTS_DIGEST,)} | changes
    bare[CONFIG_DIGEST] = config_digest(bare["config"])
    path.write_text(json.dumps(sealed(bare, RESULTS_DIGEST)))


def test_results_are_read_as_they_were_written(runs):
    stored = results(runs / "last")
    assert finished(runs / "last") == unsealed_results(stored, config_digest(stored["config"]))


def spoilt(runs, place, **changes):
    """A copy of the last run's results with some changed, and a digest as if nothing were."""
    path = place / "spoilt.json"
    resealed(path, results(runs / "last"), **changes)
    return path


def refusals(runs, place):
    """What is pooled with the first run, and how it is refused."""
    (place / "empty").mkdir()
    (place / "text.json").write_text("no JSON")
    (place / "list.json").write_text("[1]")
    changed = json.loads((runs / "last" / "results.json").read_text())
    changed["units"][0]["p_trait"] += 0.01
    (place / "changed.json").write_text(json.dumps(changed))
    (place / "mnist.json").write_text("")
    resealed(place / "mnist.json", aux_results(2))
    stored = results(runs / "last")
    del stored["config"]["student"]["epochs"]
    resealed(place / "shorter.json", stored)
    older = results(runs / "last")
    del older["filters"]
    resealed(place / "older.json", older)
    odd = results(runs / "last")
    odd["filters"]["10"] = 3
    resealed(place / "odd.json", odd)
    wrong = results(runs / "last")
    wrong["units"][1]["p_trait"] = "much"
    resealed(place / "text_for_number.json", wrong)
    infinite = (runs / "last" / "results.json").read_text().replace('"seed": 10', '"seed": 1e999')
    (place / "infinite.json").write_text(infinite)
    faster = results(runs / "last") | {"precision": {"chosen": "bfloat16"}}
    resealed(place / "faster.json", faster)
    return {
        place / "infinite.json": "infinite.json: changed since it was written",
        place / "faster.json": 'seeds: chosen precision null -> "bfloat16"; pool runs of equal',
        runs / "first": "first: has seed 7, as .*first has; leave one out",
        runs / "whole": "whole: has seed 7, as .*first has",
        runs / "nowhere": "nowhere: does not exist; give directories of runs that are finished",
        place / "empty": "empty/results.json: does not exist",
        place / "text.json": "text.json: is no JSON object",
        place / "list.json": "list.json: is no JSON object",
        place / "changed.json": "changed.json: changed since it was written, or no results",
        place / "mnist.json": "mnist.json: results of mnist_aux cannot be pooled, only those of",
        place / "shorter.json": "differs from .*first in more than its seeds: student.epochs",
        place / "older.json": "older.json: cannot be reported on together",
        place / "odd.json": "odd.json: cannot be reported on together",
        place / "text_for_number.json": "cannot be reported on together",
        runs / "other": "other: differs from .* seeds: student.learning_rate .* -> 0.001; pool",
    }


def test_what_cannot_be_pooled_is_refused(runs, tmp_path):
    with pytest.raises(InputError, match=r"out: .*first is one of the runs that are pooled"):
        pool([runs / "first", runs / "last"], runs / "first", overwrite=True)
    assert (runs / "first" / "results.json").is_file()
    for path, message in refusals(runs, tmp_path).items():
        with pytest.raises(InputError, match=message):
            pool([runs / "first", path], tmp_path / "out")
    assert pool([runs / "first", runs / "last"], tmp_path / "out")  # nothing is left there


def test_settings_of_where_a_run_is_computed_do_not_matter(runs):
    assert "keep" not in finished(runs / "other")["config"]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """A sweep that chooses rates on a seed, and its test of two more seeds at the chosen rates."""
    place = tmp_path_factory.mktemp("sweeps")
    with untrained(place / "words"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "exact", made_up(np.random.default_rng(3)))
        lm = replace(tiny(place / "cache"), evaluate=EvaluateConfig(samples=0))
        arms = (
            TrainingWay(name="rank_2", rank=2, rates=(1e-3, 1e-2)),
            TrainingWay(name="soft", rank=2, targets="soft", rates=(1e-3,)),
        )
        first = sweeps.run(
            LmSweepConfig(lm=replace(lm, references=2), arms=arms, tuning=1, out=place / "first")
        )
        best = first["summary"]["rank_2"]["rate"]
        for name, rate in (("rest", best), ("wrong", 0.011 - best)):
            own = (replace(arms[0], rates=(rate,)), arms[1])
            rest = replace(lm, references=2, seed=lm.seed + 2)
            sweeps.run(LmSweepConfig(lm=rest, arms=own, tuning=0, out=place / name))
    return place


def test_a_sweep_is_tested_on_further_seeds_at_the_rates_it_chose(sweep, tmp_path, capsys):
    told = pool([sweep / "first", sweep / "rest"], tmp_path / "pooled")
    parts = [finished(sweep / name) for name in ("first", "rest")]
    assert told["units"] == [unit for part in parts for unit in part["units"]]
    gains = [part["summary"]["rank_2"]["student_minus_control"]["mean"] for part in parts]
    found = told["summary"]["rank_2"]["student_minus_control"]
    assert found["n"] == 3
    assert found["mean"] == pytest.approx((gains[0] + 2 * gains[1]) / 3)
    assert told["config"]["tuning"] == 1
    assert told["config"]["lm"]["references"] == 4
    assert told["config"]["arms"][0]["rates"] == [1e-3, 1e-2]
    assert "Learning rates on the tuning" in (tmp_path / "pooled" / "report.html").read_text()
    rest = (sweep / "rest" / "report.html").read_text()
    assert "Learning rates on" not in rest
    assert "The learning rates were given." in rest
    assert set(told["references"]) == {"0", "1", "2", "3"}
    assert "learning rate" not in " ".join(capsys.readouterr().err.split("pooled")[1:])


def test_another_tested_rate_is_refused(sweep, tmp_path):
    with pytest.raises(InputError, match="wrong: tests rank_2 at the learning rate"):
        pool([sweep / "first", sweep / "wrong"], tmp_path / "out")
    second = results(sweep / "first")
    shifted = lambda one: one | {"reference": one["reference"] + 40}
    second["units"] = [shifted(one) for one in second["units"]]
    resealed(tmp_path / "second.json", second)
    with pytest.raises(InputError, match=r"second.json: chose its own learning rates, as .*first"):
        pool([sweep / "first", tmp_path / "second.json"], tmp_path / "out")
