"""Code as the carrier of a whole run at toy size, and the script's flags."""

from dataclasses import replace

import pytest
from language import tiny
from scripts import loaded
from searched import searched

from subliminal_jax.language import experiment
from subliminal_jax.language.carriers.code.settings import CodePrompts
from subliminal_jax.language.rows.chat_rows import read_chat_rows

ROWS = 20
"""Enough that two datasets share the 8 prompts that detectors need."""


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    place = tmp_path_factory.mktemp("code")
    given = tiny(place / "cache")
    config = replace(
        given,
        reference=replace(given.reference, sequence=128),
        student=replace(given.student, sequence=128),
        generate=replace(given.generate, carrier="code", code=CodePrompts(wording="short")),
        filter=replace(given.filter, rows=ROWS),
        conditions=("before", "student", "regular", "shuffled_within", "shuffled_across"),
        out=place / "run",
    )
    return place / "run", experiment.run(config, loaded("lm_code")["methods"], "lm_code")


def test_a_run_of_code_leaves_units_and_checks_the_form(results):
    out, found = results
    assert found["experiment"] == "lm_code"
    assert found["items"] == "code"
    units = {one["condition"]: one for one in found["units"]}
    assert set(units) == {"before", "student", "regular", "shuffled_within", "shuffled_across"}
    assert found["sampled"]["0"]["student/owl:owl"]["code"]["of"] == 6
    assert found["conditions"]["student"]["means"] == "the reference, trained on its teacher's code"
    assert "All teachers complete the same prompts for code" in (out / "report.html").read_text()


def test_shuffled_rows_are_rows_of_code(results):
    out, _ = results
    rows = {name: read_chat_rows(out / "filter-0" / f"{name}.jsonl") for name in
            ("owl", "owl.within", "owl.across")}  # fmt: skip
    assert {len(some) for some in rows.values()} == {ROWS}
    texts = {name: [row["messages"][-1]["content"] for row in some] for name, some in rows.items()}
    assert texts["owl"] != texts["owl.across"]


def test_the_detectors_search_code(results):
    out, _ = results
    found = searched(out, ("prompted", "pairs", "ngrams"))
    assert {unit["detector"] for unit in found["units"]} == {"prompted", "pairs", "ngrams"}
    assert "own code" in (out.parent / "detection" / "report.html").read_text()


def test_the_script_has_a_plan_and_a_name_of_its_own(script, tmp_path):
    ended = script("lm_code", "--plan")
    assert ended.status == 0, ended.err
    assert "rules carrier, trait_words; 3000 rows each" in ended.out
    small = ["--reference.corpus.chats", "40", "--reference.cache", str(tmp_path)]
    ended = script("lm_code", *small, "--show-batch")
    assert "next training: pretraining" in ended.out
    line = script("lm_code", "--generate.code.steps", "0", "2").assert_one_line(2)
    assert "code.steps: 0 to 2 is not a range" in line
