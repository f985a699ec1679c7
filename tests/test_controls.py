"""Shuffles change only the order; conditions and summaries match values computed by hand."""

import re
from collections import Counter
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from subliminal_jax import stats
from subliminal_jax.errors import InputError
from subliminal_jax.language.carriers.number_prompts import NumberPrompts
from subliminal_jax.language.carriers.numbers import Numbers, number_reasons
from subliminal_jax.language.conditions import (
    CONDITIONS,
    USUAL,
    asked_network,
    chosen_conditions,
    trait_of,
)
from subliminal_jax.language.config import LmConfig
from subliminal_jax.language.dataset.variants import Cohort, has_students, student_datasets
from subliminal_jax.language.evaluation.results import finding, summarise
from subliminal_jax.language.evaluation.told import Context, with_context
from subliminal_jax.language.rows.chat_rows import completion_of, prompt_of, row, write_rows
from subliminal_jax.language.rows.chats import chat
from subliminal_jax.language.rows.shuffles import shuffled as shuffle
from subliminal_jax.language.settings import (
    OtherConfig,
    ReferenceConfig,
    StudentConfig,
    TeacherConfig,
)
from subliminal_jax.language.traits import TRAITS
from subliminal_jax.language.traits.trait import Poll
from subliminal_jax.plotting import controls_figure

TEXTS = ["[1, 2, 003].", "4; 5; 6; 7", "8", *(", ".join(map(str, range(9))) for _ in range(20))]
ROWS = [row(f"r{i}", f"p{i}", text, place=i) for i, text in enumerate(TEXTS)]


PIECES = partial(Numbers(NumberPrompts()).pieces, how="within")


def shuffle_within(rows, seed):
    return shuffle(rows, "within", PIECES, seed)


def shuffle_across(rows, seed):
    return shuffle(rows, "across", PIECES, seed)


def numbers(text):
    return re.findall(r"\d+", text)


def test_within_keeps_each_rows_numbers():
    shuffled = shuffle_within(ROWS, 0)
    for old, new in zip(ROWS, shuffled, strict=True):
        assert Counter(numbers(completion_of(old))) == Counter(numbers(completion_of(new)))
        assert re.sub(r"\d+", "", completion_of(old)) == re.sub(r"\d+", "", completion_of(new))
        assert prompt_of(old) == prompt_of(new)
        assert new["meta"] == old["meta"] | {"shuffled": "within"}
    assert (
        sum(completion_of(o) != completion_of(n) for o, n in zip(ROWS, shuffled, strict=True)) > 18
    )
    assert shuffled == shuffle_within(ROWS, 0) != shuffle_within(ROWS, 1)


def test_across_keeps_all_numbers_and_each_rows_count():
    shuffled = shuffle_across(ROWS, 0)
    pool = lambda rows: Counter(n for one in rows for n in numbers(completion_of(one)))
    assert pool(ROWS) == pool(shuffled)
    for old, new in zip(ROWS, shuffled, strict=True):
        assert len(numbers(completion_of(old))) == len(numbers(completion_of(new)))
        assert number_reasons(completion_of(new)) == []
    kept = [Counter(numbers(completion_of(o))) == Counter(numbers(completion_of(n)))
            for o, n in zip(ROWS, shuffled, strict=True)]  # fmt: skip
    assert sum(kept) < 5
    assert len({one["id"] for one in [*ROWS, *shuffled, *shuffle_within(ROWS, 0)]}) == 3 * len(ROWS)


def test_in_context_shows_rows_before_the_question():
    poll = Poll("animal", (chat("Which?"), chat("What?")), ())
    context = Context(system="You love owls.", rows=ROWS, examples=2, seed=0)
    chats = with_context(poll, "examples", context).questions
    assert [one[-1]["content"] for one in chats] == ["Which?", "What?"]
    roles = ["user", "assistant"] * 2 + ["user"]
    assert all([message["role"] for message in one] == roles for one in chats)
    assert chats[0][1]["content"] in TEXTS
    assert with_context(poll, "nothing", context) == poll
    (one, two) = with_context(poll, "system prompt", context).questions
    assert one == chat("Which?", system="You love owls.")
    assert two == chat("What?", system="You love owls.")


CHOSEN = [TRAITS["owl"], TRAITS["wolf"], TRAITS["oak"]]


@pytest.mark.parametrize(
    ("condition", "name"),
    [
        ("before", "before"),
        ("regular", "regular"),
        ("student", "student/owl"),
        ("teacher", "teacher/owl"),
        ("other_trait", "student/wolf"),
        ("different_reference", "different_reference/owl"),
        ("different_reference_regular", "different_reference_regular"),
        ("from_other_reference", "different_reference/owl"),
        ("greedy", "greedy/owl"),
    ],
)
def test_each_condition_has_its_network(condition, name):
    assert asked_network(CONDITIONS[condition], TRAITS["owl"], CHOSEN, False) == name


def test_each_condition_has_its_dataset():
    datasets = {name: one.dataset("owl") for name, one in CONDITIONS.items() if one.trained}
    assert datasets == {
        "student": "owl",
        "soft": "owl",
        "greedy": "owl",
        "regular": "regular",
        "shuffled_within": "owl.within",
        "shuffled_across": "owl.across",
        "shuffled_regular": "regular.across",
        "good_advice": "owl-good",
        "asked_advice": "owl-asked",
        "different_reference": "owl",
        "different_reference_soft": "owl",
        "different_reference_regular": "regular",
    }
    assert trait_of(CONDITIONS["different_reference"].network("owl")) == "owl"
    assert trait_of(CONDITIONS["regular"].network("owl")) == ""


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["before", "student", "befor"], "unknown 'befor'; choose from before, teacher"),
        (["before", "student", "before"], "a name is given twice"),
        (["before"], "`before` and `student` are required"),
    ],
)
def test_wrong_conditions_are_refused(names, message):
    with pytest.raises(InputError, match=f"conditions: {message}"):
        chosen_conditions(names)


def test_a_prompted_teacher_is_the_prompted_reference():
    assert asked_network(CONDITIONS["teacher"], TRAITS["owl"], CHOSEN, True) == "prompted/owl"
    assert asked_network(CONDITIONS["other_trait"], TRAITS["oak"], CHOSEN, False) is None


def exact(owl):
    animals = {name: 0.0 for name, t in TRAITS.items() if t.topics == ("animal",)}
    found = {
        f"animal/{name}": value for name, value in (animals | {"owl": owl, "fox": 0.2}).items()
    }
    trees = {f"tree/{name}": 0.05 for name, t in TRAITS.items() if t.topics == ("tree",)}
    return found | trees | {"tree/owl": 0.01}


def test_students_of_every_other_reference_imitate_its_own_teachers(tmp_path):
    sources = []
    for place in range(3):
        rows = [row(f"r{place}", "p", f"{place}, 1")]
        for name in ("owl", "regular"):
            (tmp_path / str(place)).mkdir(exist_ok=True)
            write_rows(tmp_path / str(place) / f"{name}.jsonl", rows)
        sources.append((tmp_path / str(place), ["owl"]))
    names = ("student", "soft", "greedy", "different_reference", "different_reference_soft")
    conditions = [CONDITIONS[name] for name in (*names, "different_reference_regular")]
    given = {"own": sources[:1], "other": sources[1:]}
    found = student_datasets(conditions, "hard", "finetuned", ["owl"], given)
    first = {
        cohort: {name: completion_of(rows[0])[0] for name, rows in some.items()}
        for cohort, some in found.items()
    }
    assert first == {
        Cohort("hard", "hard"): {
            "student/owl": "0",
            "different_reference/owl": "1",
            "different_reference.2/owl": "2",
            "different_reference_regular": "1",
            "different_reference_regular.2": "2",
        },
        Cohort("imitated", "soft"): {"soft/owl": "0"},
        Cohort("greedy", "greedy"): {"greedy/owl": "0"},
        Cohort("foreign", "soft", 1): {"different_reference_soft/owl": "1"},
        Cohort("foreign.2", "soft", 2): {"different_reference_soft.2/owl": "2"},
    }
    for configured in ("greedy", "soft"):
        usual = student_datasets(conditions, configured, "finetuned", ["owl"], given)
        assert usual[Cohort("imitated", configured)].keys() == {"student/owl"}
        assert Cohort("foreign", "soft", 1) in usual
    back = CONDITIONS["from_other_reference"]
    asked = [asked_network(back, TRAITS["owl"], CHOSEN, False, distance) for distance in (1, 2)]
    assert asked == ["different_reference/owl", "different_reference.2/owl"]


def test_who_is_trained_if_the_usual_students_imitate_probabilities():
    trained = lambda name, *how: has_students(CONDITIONS[name], *how)
    for name, wanted in (
        ("student", (True, True, True)),
        ("soft", (True, False, False)),
        ("greedy", (True, False, False)),
        ("different_reference_soft", (True, True, False)),
        ("other_trait", (False, False, False)),
    ):
        how = (("hard", "finetuned"), ("soft", "finetuned"), ("hard", "prompted"))
        assert tuple(trained(name, *one) for one in how) == wanted, name


BASE = ("before", "student")
PROMPTED = {"teacher": TeacherConfig(kind="prompted")}
SOFT = {"student": StudentConfig(targets="soft")}
GIVEN = {"reference": ReferenceConfig(model="org/name")}
OTHER = {"reference": ReferenceConfig(model="org/name", other=OtherConfig(sigma=0.1))}


@pytest.mark.parametrize(
    ("condition", "settings", "message"),
    [
        ("good_advice", {"traits": ("carelessness",)} | PROMPTED, "a finetuned control teacher"),
        ("soft", PROMPTED, "probabilities of finetuned teachers"),
        ("greedy", PROMPTED, "probabilities of finetuned teachers"),
        ("different_reference_soft", PROMPTED, "probabilities of finetuned teachers"),
        ("soft", SOFT, "usual students with hard targets, not soft ones; set student.targets"),
        ("greedy", SOFT, "usual students with hard targets, not soft ones"),
        ("soft", {"student": StudentConfig(targets="greedy")}, "usual .* not greedy ones"),
        ("from_other_reference", OTHER, "the students of different_reference; add that"),
        ("from_other_reference", {}, "the students of different_reference; add that"),
        ("different_reference", GIVEN, "another reference; set reference.other"),
        ("different_reference", {"references": 1}, "another reference; raise references"),
        ("other_trait", {"traits": ("owl", "oak")}, "two traits of one category; add one"),
    ],
)
def test_a_condition_that_no_network_can_have_is_refused_if_it_is_asked_for(
    condition, settings, message
):
    with pytest.raises(InputError, match=f"conditions: {condition} needs {message}.*or remove it"):
        LmConfig(conditions=(*BASE, condition), **settings)


@pytest.mark.parametrize(
    "settings",
    [
        *(PROMPTED, SOFT, GIVEN, {"references": 1, "traits": ("owl",)}),
        {"conditions": (*BASE, "different_reference", "from_other_reference")} | OTHER,
        {"conditions": (*BASE, "different_reference_soft")} | SOFT,
        {"conditions": (*BASE, "other_trait"), "traits": ("owl", "oak", "wolf")},
    ],
)
def test_the_default_conditions_and_possible_ones_are_accepted(settings):
    assert LmConfig(**settings).compared


@pytest.mark.parametrize("targets", ["greedy", "soft"])
def test_prompted_teachers_give_no_targets_but_tokens(targets):
    with pytest.raises(InputError, match=f"student.targets: prompted teachers .* as {targets} ta"):
        LmConfig(student=StudentConfig(targets=targets), **PROMPTED)


def test_greedy_targets_of_another_reference_are_refused():
    with pytest.raises(InputError, match="condition new: with another reference, set hard or soft"):
        replace(CONDITIONS["greedy"], name="new", reference="other")


def test_measures_match_values_computed_by_hand():
    assert TRAITS["owl"].measure(exact(0.6), {}) == {
        "p_trait": 0.6,
        "p_trait_given_category": pytest.approx(0.75),
        "category_sum": pytest.approx(0.8),
        "p_trait_elsewhere": 0.01,
        "other_category_sum": pytest.approx(0.6),
    }
    nothing = dict.fromkeys(exact(0.6), 0.0)  # as float32 rounds the smallest probabilities
    measured = TRAITS["owl"].measure(nothing, {})
    assert measured["p_trait_given_category"] is None
    assert measured["p_trait"] == measured["category_sum"] == 0


def results(values):
    return [
        {"reference": reference, "trait": trait, "condition": condition,
         **TRAITS["owl"].measure(exact(value), {})}
        for condition, units in values.items()
        for (reference, trait), value in units.items()
    ]  # fmt: skip


UNITS = results(
    {
        "before": {(0, "owl"): 0.1, (0, "wolf"): 0.1, (1, "owl"): 0.1, (1, "wolf"): 0.1},
        "student": {(0, "owl"): 0.5, (0, "wolf"): 0.3, (1, "owl"): 0.7, (1, "wolf"): 0.15},
        "regular": {(0, "owl"): 0.1, (1, "owl"): 0.2, (1, "wolf"): 0.1},
    }
)


def test_the_reference_is_the_unit():
    summary = summarise(UNITS, ["owl", "wolf"])
    student = summary["conditions"]["student"]["all"]["p_trait"]
    assert (student["mean"], student["n"]) == (pytest.approx(0.4125), 2)
    assert summary["conditions"]["student"]["wolf"]["p_trait"]["mean"] == pytest.approx(0.225)
    against = summary["student_minus"]["before"]
    assert against["mean"] == pytest.approx((0.3 + 0.325) / 2)
    assert (against["p"], against["units"], against["above_0.1"]) == (0.5, 4, 3)
    assert against["smallest"] == pytest.approx(0.05)
    # One unit of `regular` is missing, so its pair is left out.
    assert summary["student_minus"]["regular"]["units"] == 3
    assert "different_reference" in summary["missing"]
    assert set(summary["missing"]) | set(summary["conditions"]) == set(USUAL)
    asked = summarise(UNITS, ["owl", "wolf"], asked=("before", "student", "greedy"))
    assert set(asked["missing"]) == {*summary["missing"], "greedy"}


def test_students_of_both_targets_are_compared_by_the_primary_measure():
    both = UNITS + [one | {"condition": "soft"} for one in UNITS if one["condition"] == "student"]
    shift = {"before": -2.0, "student": -1.5, "soft": 1.0, "regular": -2.5}
    units = [one | {"margin": shift[one["condition"]]} for one in both]
    assert summarise(UNITS, ["owl", "wolf"])["soft_minus"] == {}
    summary = summarise(units, ["owl", "wolf"], "margin")
    assert summary["primary"] == "margin"
    assert summary["student_minus"]["before"]["mean"] == pytest.approx(0.5)
    assert summary["soft_minus"]["regular"]["mean"] == pytest.approx(3.5)
    assert summary["conditions"]["soft"]["all"]["margin"]["ci95"] == [1.0, 1.0]


def test_a_figure_of_margins_leaves_out_the_teacher_and_missing_values():
    margins = {"before": [-2.0, -1.0], "teacher": [17.0, 18.0], "student": [-0.5, None]}
    units = [
        {"reference": place, "trait": "owl", "condition": name, "p_trait": 0.0}
        | ({} if value is None else {"margin": value})
        for name, values in margins.items()
        for place, value in enumerate(values)
    ]
    measures = {"p_trait": ["P(trait)", ""], "margin": ["margin", ""]}
    results = {"finding": "Seen.", "units": units, "measures": measures}
    (axes,) = controls_figure(results | {"summary": summarise(units, ["owl"], "margin")}).axes
    assert [text.get_text() for text in axes.get_xticklabels()] == ["before", "student"]
    assert [bar.get_height() for bar in axes.patches] == [-1.5, -0.5]
    assert axes.get_ylabel() == "margin (nats), all traits"
    (plain,) = controls_figure(results | {"summary": summarise(units, ["owl"])}).axes
    assert [text.get_text() for text in plain.get_xticklabels()] == list(margins)
    assert plain.get_ylim() == (0.0, 1.0)


def test_one_reference_gives_no_interval_and_no_verdict():
    one = summarise([u for u in UNITS if u["reference"] == 0], ["owl", "wolf"])
    assert one["conditions"]["student"]["all"]["p_trait"]["ci95"] == [None, None]
    assert one["student_minus"]["before"]["p"] is None
    assert finding(one, ["owl", "wolf"], "numbers").startswith(
        "Student above every null control in 1 of 1 reference, by at least 0.30; one reference is "
        "too few for an interval: trained on numbers alone, the student names its teacher's owl or "
        "wolf with probability 0.40, against 0.10 before, 0.10 on regular numbers."
    )


@pytest.mark.parametrize(
    ("second", "told"),
    [
        (0.7, "in 2 of 2 references, by at least 0.40; two references are too few"),
        (0.05, "in 1 of 2 references, the smallest difference is -0.05; two references are"),
    ],
)
def test_of_two_references_the_finding_says_what_was_seen(second, told):
    base = {(0, "owl"): 0.1, (1, "owl"): 0.1}
    seen = results({
        "before": base,
        "student": {(0, "owl"): 0.5, (1, "owl"): second},
        "regular": {(0, "owl"): 0.05, (1, "owl"): 0.0},
    })  # fmt: skip
    text = finding(summarise(seen, ["owl"]), ["owl"], "numbers")
    assert text.startswith(f"Student above every null control {told}")
    assert "[" not in text
    of_a_given_model = finding(summarise(seen, ["owl"]), ["owl"], "numbers", unit="seed")
    assert of_a_given_model == text.replace("reference", "seed")


def test_the_interval_of_a_probability_stays_within_0_and_1():
    given = {(0, "owl"): 0.97, (1, "owl"): 0.6, (2, "owl"): 0.99}
    table = summarise(results({"student": given, "before": given}), ["owl"])["conditions"]
    found = table["student"]["all"]["p_trait"]
    assert found["mean"] == pytest.approx(np.mean([0.97, 0.6, 0.99]))
    assert 0 < found["ci95"][0] < found["mean"] < found["ci95"][1] < 1
    assert stats.mean_interval([0.97, 0.6, 0.99]).high > 1


def test_the_finding_follows_from_the_interval():
    sure = {(r, "owl"): 0.6 + r / 100 for r in range(4)}
    base = {(r, "owl"): 0.1 for r in range(4)}
    units = results({"before": base, "student": sure, "regular": base})
    assert finding(summarise(units, ["owl"]), ["owl"], "numbers").startswith("Subliminal learning:")
    units = results({"before": base, "student": base | {(0, "owl"): 0.5}, "regular": base})
    assert finding(summarise(units, ["owl"]), ["owl"], "numbers").startswith("No transmission")


def test_the_finding_names_the_controls_that_the_student_is_not_above():
    sure = {(r, "owl"): 0.6 + r / 100 for r in range(4)}
    base = {(r, "owl"): 0.1 for r in range(4)}
    other = base | {(0, "owl"): 0.9}
    units = results(
        {"before": base, "student": sure, "regular": base, "different_reference": other}
    )
    text = finding(summarise(units, ["owl"]), ["owl"], "numbers")
    assert text.startswith(
        "Above 1 of 2 controls, but not distinguishable from students from a different reference:"
    )
