"""A sweep over how students are trained: its cells, the choice of rates, and a whole toy run."""

from dataclasses import replace

import pytest
from fake_results import aux_results
from language import tiny
from untrained import random_adapters, untrained

from subliminal_jax.errors import InputError
from subliminal_jax.language import references, study
from subliminal_jax.language.config import LmConfig
from subliminal_jax.language.outputs.plan import row_tokens
from subliminal_jax.language.settings import EvaluateConfig, ReferenceConfig, TeacherConfig
from subliminal_jax.language.sweep.config import LmSweepConfig, TrainingWay, cells
from subliminal_jax.language.sweep.experiment import run
from subliminal_jax.language.sweep.plan import format_sweep_plan
from subliminal_jax.language.sweep.results import (
    Compared,
    chosen_rate,
    sweep_finding,
    sweep_page,
    sweep_summary,
    sweep_text,
)
from subliminal_jax.plotting.lm_sweep import lm_sweep_figure

ALONE = ("before", "teacher", "student", "regular")
LM = LmConfig(references=3, conditions=ALONE)
ARMS = (
    TrainingWay(name="rank_2", rank=2, rates=(1e-3, 1e-2)),
    TrainingWay(name="full", weights="full", targets="soft", rates=(1e-4,)),
)


def test_a_cell_is_the_experiment_with_another_training():
    config = LmSweepConfig(lm=LM, arms=ARMS, tuning=1)
    (low, first), (high, second) = cells(config, ARMS[0])
    assert (low, high) == (1e-3, 1e-2)
    assert (first.student.learning_rate, second.student.learning_rate) == (low, high)
    assert first.student.tuning.rank == 2
    assert replace(first, student=config.lm.student) == config.lm
    ((_, full),) = cells(config, ARMS[1])
    assert (full.student.tuning.weights, full.student.targets) == ("full", "soft")
    assert (*config.tuned_on, "|", *config.tested_on) == (0, "|", 1, 2)


def test_the_plan_of_a_sweep_counts_its_students():
    lm = replace(LM, traits=("owl", "wolf"), reference=ReferenceConfig(model="nowhere"))
    text = format_sweep_plan(LmSweepConfig(lm=lm, arms=ARMS, tuning=1))
    assert "tuning      on the first 1: 3 students of 500 steps at each of 3 rates" in text
    assert "(rank_2 2, full 1)" in text
    assert "test        on the other 2: as many for each of 2 ways, at its best rate" in text
    # 3 x 3 students of the first reference, 3 x 2 of each other: 4 epochs of 4,000 rows.
    wanted = 21 * 4 * 4000 * row_tokens(lm) / 1e6
    assert f"students read about {wanted:,.1f} million tokens" in text
    once = [replace(ARMS[0], rates=(1e-3,)), ARMS[1]]
    untuned = format_sweep_plan(LmSweepConfig(lm=lm, arms=tuple(once), tuning=0))
    assert "tuning" not in untuned
    assert "test        3 students of 500 steps for each of 2 ways" in untuned
    wanted = 18 * 4 * 4000 * row_tokens(lm) / 1e6
    assert f"students read about {wanted:,.1f} million tokens" in untuned
    tiny_text = format_sweep_plan(LmSweepConfig(lm=LM, arms=ARMS, tuning=1))
    assert "minutes on 2 CPU cores" in tiny_text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arms": (ARMS[0], ARMS[0])}, "arms: two have the same name"),
        ({"lm": replace(LM, plan=True)}, "lm.plan: a sweep has no such setting"),
        ({"lm": replace(LM, stage="teacher")}, "lm.stage: a sweep has no such setting"),
        ({"lm": replace(LM, conditions=ALONE[:3])}, "lm.conditions: .* compared with regular"),
        (
            {"lm": replace(LM, conditions=(*ALONE, "different_reference"))},
            "lm.conditions: different_reference needs the other references' students",
        ),
        (
            {
                "lm": replace(
                    LM, conditions=(*ALONE, "other_trait"), traits=("owl", "wolf", "oak")
                ),
                "control": "other_trait",
            },
            "control: other_trait needs two traits of each category; add one to lm.traits",
        ),
        (
            {"lm": replace(LM, teacher=TeacherConfig(kind="prompted"))},
            "arms: full: student.targets: prompted teachers have no probabilities",
        ),
        (
            {"tuning": 0},
            "tuning: with no reference to choose a rate on, rank_2 needs one rate and has 2; raise",
        ),
        ({"tuning": 3}, "tuning: 3 references to choose rates on leave none of 3"),
    ],
)
def test_wrong_sweeps_are_refused(changes, message):
    given = {"lm": LM, "arms": ARMS, "tuning": 1} | changes
    with pytest.raises(InputError, match=message):
        LmSweepConfig(**given)


def unit(condition, value, reference=0, rate=1.0, phase="test", trait="owl", arm="rank_2"):
    return {
        **{"arm": arm, "rate": rate, "phase": phase, "reference": reference, "trait": trait},
        **{"condition": condition, "p_trait": value},
    }


P_TRAIT = Compared("p_trait", "regular")


def test_the_best_rate_is_that_of_the_largest_gain_over_the_control():
    tried = [unit("regular", 0.1, rate=rate) for rate in (0.5, 1.0)] + [
        unit("regular", 0.4, rate=2.0)
    ]
    tried += [unit("student", p, rate=rate) for rate, p in ((0.5, 0.3), (1.0, 0.35), (2.0, 0.6))]
    assert chosen_rate(tried, P_TRAIT) == 1.0
    tied = [one for one in tried if one["rate"] != 1.0]
    tied += [unit("student", 0.3, rate=1.0), unit("regular", 0.1, rate=1.0)]
    assert chosen_rate(tied, P_TRAIT) == 0.5
    with pytest.raises(InputError, match="tuning: no reference to choose a rate on has a student"):
        chosen_rate([unit("regular", 0.1)], P_TRAIT)


def test_a_summary_counts_references_of_the_test_alone():
    units = [unit("student", 0.9, phase="tuning", reference=7)]
    for reference, gain in ((0, 0.2), (1, 0.4)):
        units += [unit("regular", 0.1, reference, trait=t) for t in ("owl", "wolf")]
        units += [unit("before", 0.05, reference)]
        units += [unit("student", 0.1 + gain + d, reference, trait=t)
                  for t, d in (("owl", 0.1), ("wolf", -0.1))]  # fmt: skip
    found = sweep_summary(units, P_TRAIT)["rank_2"]
    assert found["student_minus_control"]["mean"] == pytest.approx(0.3)
    assert found["student_minus_control"]["n"] == 2
    assert found["conditions"]["before"]["mean"] == pytest.approx(0.05)
    assert found["student_minus_control"]["p"] == 0.5
    assert "+0.30" in sweep_finding({"rank_2": found}, P_TRAIT)
    assert sweep_finding({"rank_2": found}, P_TRAIT).endswith("; 2 references.")
    given = replace(P_TRAIT, unit="seed")
    assert sweep_finding({"rank_2": found}, given).endswith("; 2 seeds.")


def test_arms_are_compared_with_the_last_one_by_reference():
    values = {"rank_2": (0.2, 0.5, 0.3), "full": (0.1, 0.3, 0.9)}
    units = [
        unit(condition, value - (condition == "regular") * 0.1, reference, arm=arm)
        for arm, row in values.items()
        for reference, value in enumerate(row)
        for condition in ("student", "regular")
        if (arm, reference, condition) != ("full", 2, "student")  # a reference that has no student
    ]
    summary = sweep_summary(units, P_TRAIT)
    assert summary["rank_2"]["student_minus_last"]["mean"] == pytest.approx(0.15)
    assert summary["rank_2"]["student_minus_last"]["n"] == 2
    assert summary["rank_2"]["student_minus_last"]["p"] == 0.5
    assert "student_minus_last" not in summary["full"]
    given = {"finding": "", "measure": "p_trait", "control": "regular", "unit": "seed"}
    text = sweep_text(given | {"summary": summary, "units": units})
    assert "rates were given." in text
    assert "student - full's" in text
    assert "sign flips over seeds" in text
    assert "references" not in text


def test_a_margin_is_compared_with_the_other_traits_students_trait_by_trait():
    margins = Compared("margin", "other_trait")
    units = []
    for trait, own, other in (("owl", 1.5, 0.5), ("wolf", -1.0, -1.6), ("eagle", 4.0, None)):
        for condition, value in (("student", own), ("other_trait", other)):
            if value is not None:  # the eagle has no other trait's student
                units.append(unit(condition, 0.0, trait=trait) | {"margin": value})
    found = sweep_summary(units, margins)["rank_2"]
    assert found["student_minus_control"]["mean"] == pytest.approx(0.8)
    assert found["conditions"]["student"]["mean"] == pytest.approx(1.5)
    with pytest.raises(InputError, match="rank_2: no reference of the test has a student and"):
        sweep_summary([one for one in units if one["condition"] == "student"], margins)
    told = sweep_finding({"rank_2": found}, margins)
    assert "the margin (nats) of students minus that of another trait's student is +0.80" in told
    results = {
        "experiment": "lm_sweep", "measure": "margin", "control": "other_trait", "finding": told,
        "unit": "seed",
        "summary": {"rank_2": found}, "units": [one | {"phase": "tuning"} for one in units],
        "config": {}, "environment": aux_results(2)["environment"], "timing": {"total_s": 1.0},
    }  # fmt: skip
    figure = lm_sweep_figure(results)
    assert figure.axes[0].get_ylabel() == "margin of the trait (nats)"
    rates = sweep_page(results).blocks[2]
    assert rates.title == "Learning rates on the tuning seeds"
    assert rates.columns[-1] == "the margin (nats), students minus another trait's student"
    assert rates.rows == (("rank_2", "1", "+0.800"),)


def test_a_whole_sweep_shares_references_teachers_and_rows(tmp_path):
    trained, loaded = [], []
    with untrained(tmp_path / "words") as reference, pytest.MonkeyPatch.context() as patch:
        patch.setattr(references, "tiny_reference", lambda *a: loaded.append(a) or reference)

        def students(settings, reference, course, *args, **options):
            trained.append(settings)
            seed = round(1e4 * settings.learning_rate)
            return random_adapters(reference, len(course.rows.table.targets), seed)

        patch.setattr(study, "train_students", students)
        lm = replace(tiny(tmp_path / "cache"), references=2, evaluate=EvaluateConfig(samples=0))
        arms = (ARMS[0], TrainingWay(name="soft", rank=2, targets="soft", rates=(1e-3,)))
        config = LmSweepConfig(lm=lm, arms=arms, tuning=1, out=tmp_path / "run")
        results = run(config)
    assert reference.digest == "digest"
    assert len(loaded) == 2  # each reference once, not once for each cell
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert {"arms.png", "report.html", "results.csv", "generate-0", "teacher-1"} <= names
    assert {"student-rank_2-0.001-0", "student-rank_2-0.01-0", "student-soft-0.001-1"} <= names
    assert not names & {"student-0", "evaluate-0"}
    chosen = results["summary"]["rank_2"]["rate"]
    assert f"student-rank_2-{chosen:g}-1" in names
    assert f"student-rank_2-{0.011 - chosen:g}-1" not in names
    phases = {(u["arm"], u["phase"], u["reference"], u["rate"]) for u in results["units"]}
    assert phases == {
        ("rank_2", "tuning", 0, 1e-3), ("rank_2", "tuning", 0, 1e-2), ("rank_2", "test", 1, chosen),
        ("soft", "tuning", 0, 1e-3), ("soft", "test", 1, 1e-3),
    }  # fmt: skip
    assert {settings.targets for settings in trained} == {"hard", "soft"}
