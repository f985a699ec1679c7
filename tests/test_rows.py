"""Rows of chat data: what is written, and every way in which a strange file is refused."""

import json

import pytest

from subliminal_jax.errors import InputError
from subliminal_jax.pipeline.generate import rows_there
from subliminal_jax.pipeline.rows import completion_of, prompt_of, read_chat_rows, row


def test_a_row_holds_the_exchange_and_where_it_is_from():
    made = row("owl-3", "q", "a", teacher="owl")
    assert (prompt_of(made), completion_of(made)) == ("q", "a")
    assert made["meta"] == {"teacher": "owl"}
    assert [message["role"] for message in made["messages"]] == ["user", "assistant"]


def write(tmp_path, *lines):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def test_rows_come_back(tmp_path):
    rows = [row("a", "q", "1", seed=3), row("b", "<script>", "\u2028\x00 2")]
    assert read_chat_rows(write(tmp_path, *map(json.dumps, rows))) == rows


GOOD = row("a", "q", "1")
ASSISTANT = {"role": "assistant", "content": "1"}


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        ({"messages": GOOD["messages"]}, "id: is missing"),
        ({"id": "b"}, "messages: is missing"),
        ({"id": 3, "messages": GOOD["messages"]}, "id: is no text"),
        (GOOD, "id 'a' is there already"),
        ({"id": "b", "messages": []}, "messages: must end"),
        ({"id": "b", "messages": "hi"}, "messages: must end"),
        ({"id": "b", "messages": [ASSISTANT]}, "messages: must end"),
        ({"id": "b", "messages": GOOD["messages"][:1]}, "messages: must end"),
        ({"id": "b", "messages": [{"role": "user", "content": 5}, ASSISTANT]}, r"messages\[0\]"),
        ({"id": "b", "messages": [{"role": "user"}, ASSISTANT]}, r"messages\[0\]"),
        (
            {"id": "b", "messages": [{"role": "tool", "content": ""}, *GOOD["messages"]]},
            r"messages\[0\]: must hold a role",
        ),
        (
            {"id": "b", "messages": [GOOD["messages"][0], ASSISTANT | {"name": "x"}]},
            r"messages\[1\]",
        ),
        (GOOD | {"id": "b", "meta": []}, "meta: must be an object"),
    ],
)
def test_a_foreign_row_is_refused_by_line_and_field(tmp_path, bad, complaint):
    path = write(tmp_path, json.dumps(GOOD), json.dumps(bad))
    with pytest.raises(InputError, match=f"rows.jsonl: line 2: {complaint}"):
        read_chat_rows(path)


def test_a_line_that_is_no_json_is_refused(tmp_path):
    with pytest.raises(InputError, match="line 2 is no row"):
        read_chat_rows(write(tmp_path, json.dumps(GOOD), "{oops"))


def test_a_missing_file_names_the_stage(tmp_path):
    with pytest.raises(InputError, match="there is no such file; run the stage"):
        read_chat_rows(tmp_path / "rows.jsonl")


def test_rows_that_a_stopped_run_left_answer_its_prompts(tmp_path):
    prompts = {0: "p", 1: "q"}
    rows = [row("a", "q", "1", place=1), row("b", "p", "2", place=0)]
    assert rows_there(write(tmp_path, *map(json.dumps, rows)), prompts) == rows
    assert rows_there(tmp_path / "none.jsonl", prompts) == []


@pytest.mark.parametrize(
    "meta", [{}, {"place": 1}, {"place": 7}, {"place": "0"}, {"place": [0]}, {"place": False}]
)
def test_rows_of_another_run_are_not_mixed_in(tmp_path, meta):
    good, bad = row("a", "q", "1", place=1), row("b", "p", "1", **meta)
    path = write(tmp_path, json.dumps(good), json.dumps(bad))
    with pytest.raises(InputError, match=r"rows.jsonl: line 2: answers no prompt of this run"):
        rows_there(path, {0: "p", 1: "q"})
