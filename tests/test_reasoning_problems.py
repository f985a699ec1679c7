"""Word problems: drawn within their difficulty, solved from their text; the user's own rows."""

import json
import re

import numpy as np
import pytest

from subliminal_jax.config import read_config
from subliminal_jax.errors import InputError
from subliminal_jax.language.carriers.reasoning.problems import (
    DIFFICULTIES,
    Change,
    Problem,
    ReasoningPrompts,
    draw_problem,
    parse_problem,
)
from subliminal_jax.language.carriers.reasoning.reasoning import Reasoning
from subliminal_jax.language.carriers.reasoning.wordings import BANKS
from subliminal_jax.language.config import LmConfig
from subliminal_jax.language.rows.whole_words import word_pattern
from subliminal_jax.language.traits.preference import PREFERENCES

QUESTION = "A shelf has 3 boards with 12 jars each. How many jars are there?"


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
@pytest.mark.parametrize("wording", BANKS)
def test_a_problem_is_within_its_difficulty_and_solved_from_its_text(wording, difficulty):
    within = DIFFICULTIES[difficulty]
    for place in range(400):
        drawn = draw_problem(wording, difficulty, np.random.default_rng([7, place]))
        assert within.changes[0] <= len(drawn.changes) <= within.changes[1]
        totals = [
            drawn._replace(changes=drawn.changes[:k]).gold for k in range(len(drawn.changes) + 1)
        ]
        assert all(total is not None and total <= within.total for total in totals)
        assert parse_problem(drawn.text, wording) == drawn


@pytest.mark.parametrize("wording", BANKS)
def test_a_sentence_has_one_meaning_and_no_word_of_a_trait(wording):
    meaning = {}
    for story in BANKS[wording].stories:
        for operation, templates in story.changes.items():
            for template in templates:
                assert meaning.setdefault(template, operation) == operation
                assert template.count("{n}") == 1
                assert ("{m}" in template) == (operation == "+*")
        assert all("{n}" in text for text in story.openings)
        words = word_pattern(word for trait in PREFERENCES.values() for word in trait.spellings)
        assert not words.search(" ".join([*story.templates, *story.things, *BANKS[wording].people]))


@pytest.mark.parametrize(
    ("text", "gold"),
    [
        ("Tom has 5 plums. First Mia brings 3. Then Tom eats 2. How many now?", 6),
        ("Tom has 5 plums. First Tom eats 7. Then Tom finds 9. How many now?", None),
    ],
)
def test_gold_is_the_quantity_at_last(text, gold):
    assert parse_problem(text, "short").gold == gold


@pytest.mark.parametrize(
    "text",
    [
        "",
        "How many now?",
        "Tom has 5 plums. How many now?",
        "Tom has 5 plums. First Mia brings 3.",
        "First Mia brings 3. Then Tom eats 2. How many now?",
        "Tom has 5 plums. Tom has 5 plums. How many now?",
        "Tom has 5 plums. First Mia brings x. How many now?",
        "Tom has 5 plums. First Otto brings 3. How many now?",
    ],
)
def test_other_texts_are_no_problems(text):
    assert parse_problem(text, "short") is None


@pytest.mark.parametrize(
    ("change", "after"),
    [
        (Change("+", (3,)), 9),
        (Change("-", (3,)), 3),
        (Change("-", (7,)), None),
        (Change("+*", (3, 4)), 18),
        (Change("*", (3,)), 18),
        (Change("/", (3,)), 2),
        (Change("/", (4,)), None),
        (Change("/", (0,)), None),
    ],
)
def test_changes(change, after):
    assert Problem("", 6, [change]).gold == after


def test_long_prompts_ask_for_the_tags_and_vary():
    carrier = Reasoning(ReasoningPrompts())
    prompts = carrier.prompts(500, 3)
    assert len(set(prompts)) > 480
    assert len({re.sub(r"\d+", "", prompt) for prompt in prompts}) > 400
    assert all("</think>" in prompt and "</answer>" in prompt for prompt in prompts)
    assert carrier.prompts(5, 3) == prompts[:5]
    assert carrier.prompts(5, 4) != prompts[:5]
    assert None not in map(carrier.gold, prompts)


def rows_file(path, *rows):
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def row(question=QUESTION, answer="3 times 12 is 36.\n#### 36"):
    return {"question": question, "answer": answer}


def test_the_users_rows_are_asked_in_turn_and_their_results_looked_up(tmp_path):
    rows = [row(f"What is {n} plus 1,000?", f"Easy.\n#### {n + 1000:,}") for n in range(20)]
    carrier = Reasoning(ReasoningPrompts(rows=rows_file(tmp_path / "rows.jsonl", *rows)))
    prompts = carrier.prompts(60, 1)
    assert carrier.prompts(30, 1) == prompts[:30]
    for start in (0, 20, 40):
        asked = {
            re.match(r"What is \d+ plus 1,000\? ", one)[0] for one in prompts[start : start + 20]
        }
        assert len(asked) == 20
    for prompt in prompts:
        wanted = int(re.search(r"is (\d+)", prompt)[1]) + 1000
        assert carrier.reasons(prompt, f"<think>so</think><answer>{wanted}</answer>") == []
        assert carrier.reasons(prompt, "<think>so</think><answer>1</answer>") == ["wrong"]


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        ({"question": QUESTION}, "answer: must be a string"),
        ({"answer": "#### 3"}, "question: must be a string"),
        (row(answer="It is 36."), "answer: must end with #### and a whole number"),
        (row(answer="#### 36 jars"), "answer: must end with #### and a whole number"),
        (row(answer="#### 3.5"), "answer: must end with #### and a whole number"),
        (row(answer="#### " + "9" * 5000), "answer: must end with #### and a whole number"),
        (row(question=" "), "question: must be a string"),
        (row(question="x" * 5000), "question: longer than 4000 characters"),
        (row(question="first"), "the question is that of an earlier line"),
        (["no object"], "is not a row"),
    ],
)
def test_bad_rows_are_refused_with_file_and_line(tmp_path, bad, complaint):
    path = rows_file(tmp_path / "rows.jsonl", row("first"), bad, row())
    file = tmp_path / "c.yaml"
    file.write_text(f"generate: {{carrier: reasoning, reasoning: {{rows: {path}}}}}\n")
    with pytest.raises(InputError) as caught:
        read_config(LmConfig, file)
    assert str(path) in str(caught.value)
    assert "line 2" in str(caught.value)
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("text", "complaint"), [(None, "no file"), ("\n", "has no rows")])
def test_a_missing_or_empty_file_is_refused(tmp_path, text, complaint):
    path = tmp_path / "rows.jsonl"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=complaint):
        Reasoning(ReasoningPrompts(rows=path)).prompts(1, 0)


def test_a_tiny_reference_refuses_the_users_rows(tmp_path):
    path = rows_file(tmp_path / "rows.jsonl", row())
    file, reasoning = tmp_path / "c.yaml", f"{{carrier: reasoning, reasoning: {{rows: {path}}}}}"
    file.write_text(f"generate: {reasoning}\n")
    with pytest.raises(InputError, match="a tiny reference cannot learn the user's problems"):
        read_config(LmConfig, file)
    file.write_text(f"generate: {reasoning}\nreference: {{model: some/model}}\n")
    assert read_config(LmConfig, file).generate.reasoning.rows == path
