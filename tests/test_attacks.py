"""Hostile inputs, each with its required outcome: a slice by default, all with `--deep` (slow).

`python -m attacks.harness`, from `tests/`, prints the table of all.
"""

from pathlib import Path

import pytest
from attacks.attack import Attack
from attacks.harness import Suite, all_attacks, table


def pytest_generate_tests(metafunc):
    if "attack" in metafunc.fixturenames:
        deep = metafunc.config.getoption("--deep")
        chosen = [attack for attack in all_attacks() if deep or attack.quick]
        names = [f"{attack.area}/{attack.name}" for attack in chosen]
        metafunc.parametrize("attack", chosen, ids=names)


@pytest.fixture(scope="module")
def suite(tmp_path_factory, forks):
    return Suite(tmp_path_factory.mktemp("attacks"), forks)


@pytest.mark.parametrize(
    ("kind", "wanted", "outcome"),
    [
        ("right", "right", "right"), ("refused", "refused", "refused"),
        ("right", "refused", "silent"), ("refused", "right", "wrongly refused"),
        ("traceback", "refused", "traceback"), ("hang", "refused", "hang"),
        ("busy", "refused", "hang"), ("hog", "right", "over the limits"),
        ("two lines", "refused", "other"), ("quiet", "refused", "other"),
        ("harm", "refused", "harmed"),
    ],
)  # fmt: skip
def test_the_harness_recognises_faults(suite, kind, wanted, outcome):
    def mine(here, shared):
        (here / "mine.txt").write_text("mine")

    seconds = 0.5 if kind in ("hang", "busy") else 10.0
    attack = Attack("planted", kind, "planted", (kind,), mine, wanted, seconds=seconds)
    assert suite.outcome(attack)[0] == outcome


def test_a_wrong_answer_is_silent(suite):
    attack = Attack("planted", "answer", "planted", ("right",), wanted="right",
                    check=lambda ended: "" if ended.found == "left" else "not left")  # fmt: skip
    assert suite.outcome(attack) == ("silent", "not left")


def test_the_table_counts_by_area():
    attack = Attack("planted", "x")
    lines = table([(attack, "silent", ""), (attack, "refused", "")]).splitlines()
    assert [line.split()[:4] for line in lines[1:]] == [
        ["planted", "2", "0", "1"], ["all", "2", "0", "1"],
    ]  # fmt: skip


def test_an_attack_ends_as_it_must(suite, attack):
    outcome, why = suite.outcome(attack)
    assert outcome in ("right", "refused"), f"{outcome}: {why}"


def test_modules_of_the_attacks_are_small():
    for path in (Path(__file__).parent / "attacks").glob("*.py"):
        assert len(path.read_text().splitlines()) <= 350, path.name
