"""Shuffles keep everything but the order; what a report says of units is counted by hand."""

import re
from collections import Counter

import numpy as np
import pytest

from subliminal_jax import stats
from subliminal_jax.pipeline.controls import (
    CONDITIONS,
    in_context,
    shuffle_across,
    shuffle_within,
)
from subliminal_jax.pipeline.filters import number_reasons
from subliminal_jax.pipeline.rows import completion_of, prompt_of, row
from subliminal_jax.pipeline.traits import TRAITS
from subliminal_jax.pipeline.units import finding, network_of, summarise, unit

TEXTS = ["[1, 2, 003].", "4; 5; 6; 7", "8", *(", ".join(map(str, range(9))) for _ in range(20))]
ROWS = [row(f"r{i}", f"p{i}", text, place=i) for i, text in enumerate(TEXTS)]


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
    pool = lambda rows: Counter(n for one in rows for n in numbers(completion_of(one)))  # noqa: E731
    assert pool(ROWS) == pool(shuffled)
    for old, new in zip(ROWS, shuffled, strict=True):
        assert len(numbers(completion_of(old))) == len(numbers(completion_of(new)))
        assert number_reasons(completion_of(new)) == []
    kept = [Counter(numbers(completion_of(o))) == Counter(numbers(completion_of(n)))
            for o, n in zip(ROWS, shuffled, strict=True)]  # fmt: skip
    assert sum(kept) < 5
    assert len({one["id"] for one in [*ROWS, *shuffled, *shuffle_within(ROWS, 0)]}) == 3 * len(ROWS)


def test_in_context_shows_rows_before_the_question():
    chats = in_context(ROWS, ["Which?", "What?"], 2, 0)
    assert [one[-1]["content"] for one in chats] == ["Which?", "What?"]
    roles = ["user", "assistant"] * 2 + ["user"]
    assert all([message["role"] for message in one] == roles for one in chats)
    assert chats[0][1]["content"] in TEXTS


TRAIT = [TRAITS["owl"], TRAITS["wolf"], TRAITS["oak"]]


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
    ],
)
def test_each_condition_has_its_network(condition, name):
    assert network_of(condition, "owl", TRAIT, False) == name


def test_a_prompted_teacher_is_the_prompted_reference():
    assert network_of("teacher", "owl", TRAIT, True) == "prompted/owl"
    assert network_of("other_trait", "oak", TRAIT, False) is None


def exact(owl):
    animals = {name: 0.0 for name, t in TRAITS.items() if t.category == "animal"}
    found = {
        f"animal/{name}": value for name, value in (animals | {"owl": owl, "fox": 0.2}).items()
    }
    trees = {f"tree/{name}": 0.05 for name, t in TRAITS.items() if t.category == "tree"}
    return found | trees | {"tree/owl": 0.01}


def test_a_units_measures_by_hand():
    assert unit(exact(0.6), TRAITS["owl"]) == {
        "p_trait": 0.6,
        "p_trait_given_category": pytest.approx(0.75),
        "category_sum": pytest.approx(0.8),
        "p_trait_elsewhere": 0.01,
        "other_category_sum": pytest.approx(0.6),
    }


def results(values):
    return [
        {"reference": reference, "trait": trait, "condition": condition,
         **unit(exact(value), TRAITS["owl"])}
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
    # Of regular numbers one unit is missing, so its pair does not count.
    assert summary["student_minus"]["regular"]["units"] == 3
    assert "different_reference" in summary["missing"]
    assert set(summary["missing"]) | set(summary["conditions"]) == set(CONDITIONS)


def test_one_reference_gives_no_interval_and_no_verdict():
    one = summarise([u for u in UNITS if u["reference"] == 0], ["owl", "wolf"])
    assert one["conditions"]["student"]["all"]["p_trait"]["ci95"] == [None, None]
    assert one["student_minus"]["before"]["p"] is None
    assert finding(one, ["owl", "wolf"]).startswith(
        "Student above every control in 1 of 1 reference, by at least 0.30; one reference is too "
        "few for an interval: trained on numbers alone, the student names its teacher's owl or "
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
    text = finding(summarise(seen, ["owl"]), ["owl"])
    assert text.startswith(f"Student above every control {told}")
    assert "[" not in text


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
    told = results({"before": base, "student": sure, "regular": base})
    assert finding(summarise(told, ["owl"]), ["owl"]).startswith("Subliminal learning:")
    told = results({"before": base, "student": base | {(0, "owl"): 0.5}, "regular": base})
    assert finding(summarise(told, ["owl"]), ["owl"]).startswith("No transmission")
