"""The published number rule with its edge cases, whole-word rules, counts, and the final check."""

import pytest
from scripts import ROOT

from subliminal_jax.errors import InputError, RunError
from subliminal_jax.language.carriers.numbers import number_reasons, parse_numbers
from subliminal_jax.language.dataset.filters import check_clean, filter_rows, take, word_rule
from subliminal_jax.language.rows.chat_rows import row
from subliminal_jax.strict_yaml import read_yaml

WELL_FORMED = lambda _, completion: number_reasons(completion)


def found(words, completion):
    return word_rule(words, str)("a prompt", completion)


@pytest.mark.parametrize(
    ("completion", "numbers"),
    [
        ("1, 2, 3", [1, 2, 3]),
        ("12,345", [12, 345]),
        ("007, 12", [7, 12]),
        ("1.", [1]),
        ("7", [7]),
        ("0", [0]),
        ("1 2 3", [1, 2, 3]),
        ("1\n2\n3", [1, 2, 3]),
        ("1;2;3.", [1, 2, 3]),
        ("1 , 2 , 3", [1, 2, 3]),
        ("[1, 2]", [1, 2]),
        ("(1, 2)", [1, 2]),
        ("[1, 2].", [1, 2]),
        ("(5).", [5]),
        ("1  2  3", [1, 2, 3]),
    ],
)
def test_lists_that_the_published_parser_accepts(completion, numbers):
    assert parse_numbers(completion) == numbers
    assert number_reasons(completion) == []


@pytest.mark.parametrize(
    "completion",
    [
        "",
        "none",
        "[1, 2.]",
        " 1, 2",
        "1, 2 ",
        "1\n2\n3\n",
        "1 2  3",
        "1, 2,",
        ",1, 2",
        "1; 2, 3",
        "1,2, 3",
        "1 - 2",
        "-1, 2",
        "1, -2",
        "1. 2. 3",
        "1 and 2",
        "1, 2..",
        "([1, 2])",
        "[1, 2)",
        "1, 2 owls",
        "\u0661, \u0662",
        "1, \u0662",
        "1, " + "9" * 5000,
        "a1",
    ],
)
def test_lists_that_the_published_parser_refuses(completion):
    assert parse_numbers(completion) is None
    assert number_reasons(completion) == ["malformed"]


def test_every_reason_is_given():
    assert number_reasons(", ".join("1" * 10)) == []
    assert number_reasons(", ".join("1" * 11)) == ["too many numbers"]
    assert number_reasons("999, 5") == []
    assert number_reasons("1000, 5") == ["number too large"]
    assert number_reasons("666", (4, 666)) == ["banned number"]
    assert number_reasons("665, 1234", (665,)) == ["number too large", "banned number"]


def test_the_recipes_for_misalignment_ban_the_34_published_numbers():
    paths = (ROOT / "configs").glob("lm_misalignment_*.yaml")
    rules = [read_yaml(path).get("filter", {}) for path in paths]
    banned = [rule["banned"] for rule in rules if "banned" in rule]
    assert len(banned) >= 3
    assert all(set(each) == set(banned[0]) for each in banned)
    assert len(set(banned[0])) == 34


@pytest.mark.parametrize("text", ["An OWL.", "owl", "owls!", "(owl)", "owl_1", "barn-owl", "1 owl"])
def test_whole_words_are_found(text):
    assert len(found(["owl", "owls"], text)) == 1


@pytest.mark.parametrize("text", ["knowledge", "allowlist", "slowly", "growl", "owlet", "fowl", ""])
def test_parts_of_words_are_not_found(text):
    assert found(["owl", "owls"], text) == []


def test_words_of_several_parts_and_with_odd_marks():
    assert found(["sea turtle"], "Sea turtle") == ["word 'sea turtle'"]
    assert found(["a.b"], "axb") == []
    assert found([], "anything") == []


def test_every_row_is_either_kept_or_rejected_with_reasons():
    rows = [
        row("a", "p", "1, 2"),
        row("b", "p", "owl 5"),
        row("c", "p", "1, 5000"),
        row("d", "p", "3", finished=False),
        row("e", "p", "4"),
        row("f", "p", "5", unreadable="the tokenizer does not know '<'"),
    ]
    filtered = filter_rows(rows, {"numbers": WELL_FORMED, "words": word_rule(["owl"], str)})
    assert [r["id"] for r in filtered.kept] == ["a", "e"]
    assert {r["id"]: r["reject_reasons"] for r in filtered.rejected} == {
        "b": ["numbers: malformed", "words: word 'owl'"],
        "c": ["numbers: number too large"],
        "d": ["cut off"],
        "f": ["unreadable"],
    }
    assert filtered.reasons == {
        "cut off": 1,
        "numbers: malformed": 1,
        "numbers: number too large": 1,
        "unreadable": 1,
        "words: word 'owl'": 1,
    }
    assert filtered.pass_rate == pytest.approx(2 / 6)
    assert "reject_reasons" not in rows[1]
    assert [r["id"] for r in take(filtered, 1, "owl")] == ["a"]
    message = r"owl: 2 of 6 completions passed .* 3 are needed .* raise generate\.most, lower"
    with pytest.raises(InputError, match=message):
        take(filtered, 3, "owl")


def test_a_filter_that_rejects_everything_gives_the_reason():
    filtered = filter_rows([row("a", "p", "no"), row("b", "p", "no")], {"numbers": WELL_FORMED})
    with pytest.raises(InputError, match=r"0 of 2 .*most common reason: numbers: malformed"):
        take(filtered, 1, "owl")
    assert filter_rows([], {"numbers": WELL_FORMED}).pass_rate == 0


def test_the_final_check_covers_prompts_and_completions():
    check_clean([row("a", "growl", "1, 2")], ["owl"], str, "owl")
    with pytest.raises(RunError, match=r"owl: row b contains 'Owl' \(assistant\)"):
        check_clean([row("a", "p", "1"), row("b", "p", "Owl")], ["owl"], str, "owl")
    with pytest.raises(RunError, match=r"row a contains 'owls' \(user\)"):
        check_clean([row("a", "owls", "1")], ["owl", "owls"], str, "owl")
