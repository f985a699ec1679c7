"""Rows of chat data: what is written, and every way in which a strange file is refused."""

import json
from dataclasses import replace

import pytest

from subliminal_jax.errors import InputError
from subliminal_jax.language.dataset import Source, rows_there
from subliminal_jax.language.rows.chat_rows import completion_of, prompt_of, read_chat_rows, row


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


@pytest.mark.parametrize("indent", [None, 2])
def test_an_array_of_rows_is_read_and_left_as_it_is(tmp_path, indent):
    rows, path = [row("a", "q", "1"), row("b", "q", "2")], tmp_path / "rows.json"
    path.write_text(text := json.dumps(rows, indent=indent))
    assert read_chat_rows(path) == rows
    assert path.read_text() == text


@pytest.mark.parametrize("end", ["", "\n", "\n\n", "\r\n"])
def test_the_last_row_may_end_as_it_likes(tmp_path, end):
    rows, path = [row("a", "q", "1"), row("b", "q", "2")], tmp_path / "rows.jsonl"
    path.write_bytes(data := "\n".join(map(json.dumps, rows)).encode() + end.encode())
    assert read_chat_rows(path) == rows
    assert path.read_bytes() == data


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b'{"id": "a", "messages": [', r"line 1 is not a row"),
        (b'{"id": "a"}\n{"id": "b', r"line 1: messages: is missing|line 2 is not a row"),
        (b'[{"id": "a"}, 3]', r"row 2 is no object"),
        (b'[{"id": "a"}]\n{}', r"no JSON array of rows"),
        (b'[{"id": "a"', r"no JSON array of rows"),
    ],
)
def test_a_file_that_was_cut_short_is_refused_and_left_as_it_is(tmp_path, data, said):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(data)
    with pytest.raises(InputError, match=said):
        read_chat_rows(path)
    assert path.read_bytes() == data


ASSISTANT = {"role": "assistant", "content": "1"}
SYSTEM = {"role": "system", "content": "s"}


@pytest.mark.parametrize(
    "given",
    [
        {"prompt": "q", "completion": "1"},
        {"question": "q", "response": "1"},
        {"prompt": [{"role": "user", "content": "q"}], "completion": [ASSISTANT]},
        {"messages": [{"role": "user", "content": "q"}, ASSISTANT]},
    ],
)
def test_other_forms_of_an_exchange_are_turned_into_ours(tmp_path, given):
    path = write(tmp_path, *map(json.dumps, [given, given | {"id": "b", "meta": {"of": "x"}}]))
    messages = row("", "q", "1")["messages"]
    assert read_chat_rows(path) == [
        {"id": "line-000001", "messages": messages},
        {"id": "b", "messages": messages, "meta": {"of": "x"}},
    ]


def test_what_is_said_before_the_last_exchange_stays_before_it(tmp_path):
    chat = row("", "q", "1")["messages"]
    given = {"prompt": [SYSTEM, *chat, chat[0]], "completion": [chat[1]]}
    (read,) = read_chat_rows(write(tmp_path, json.dumps(given)))
    assert read["messages"] == [SYSTEM, *chat, *chat]


GOOD = row("a", "q", "1")


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        ({"id": "b"}, "messages: is missing"),
        ({"prompt": "q"}, "completion: is missing"),
        ({"response": "a"}, "question: is missing"),
        (GOOD | {"id": "b", "prompt": "q", "completion": "a"}, "holds both messages and prompt"),
        ({"prompt": "q", "completion": "a", "question": "q"}, "holds both prompt and question"),
        ({"question": "q", "response": "a", "context": "c"}, "'context': is no field of a row"),
        (GOOD | {"id": "b", "tools": []}, "'tools': is no field of a row"),
        ({"prompt": 1, "completion": "a"}, "prompt and completion: must be two texts, or mess"),
        ({"prompt": "q", "completion": [ASSISTANT]}, "prompt and completion: must be two texts"),
        ({"prompt": [], "completion": [ASSISTANT]}, "messages: must end"),
        ({"prompt": GOOD["messages"][:1], "completion": GOOD["messages"]}, "prompt and completion"),
        ({"prompt": "q", "completion": "a", "id": 3}, "id: is no text"),
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
    with pytest.raises(InputError, match="line 2 is not a row"):
        read_chat_rows(write(tmp_path, json.dumps(GOOD), "{oops"))


def test_a_missing_file_names_the_stage(tmp_path):
    with pytest.raises(InputError, match="there is no such file; run the stage"):
        read_chat_rows(tmp_path / "rows.jsonl")


SOURCE = Source("owl", "what it is made from", system="You love owls.")
NOT_OURS = r"is not of this run \("
PROMPTS = {0: "p", 1: "q", 2: "r"}


def test_rows_that_a_stopped_run_left_are_taken(tmp_path):
    rows = [SOURCE.row(1, "q", "1", finished=True), SOURCE.row(0, "p", "2", finished=False)]
    assert rows[0]["id"] == "owl-000001"
    assert rows_there(write(tmp_path, *map(json.dumps, rows)), PROMPTS, SOURCE) == rows
    assert rows_there(tmp_path / "none.jsonl", PROMPTS, SOURCE) == []


def edited(change):
    made = SOURCE.row(0, "p", "1", finished=True)
    change(made, made["meta"])
    return made


def other(**fields):
    return replace(SOURCE, **fields).row(0, "p", "1", finished=True)


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        (row("b", "p", "1"), r"answers no prompt of this run \(meta.place is None\)"),
        (edited(lambda one, meta: meta.update(place=1)), "answers no prompt"),
        (edited(lambda one, meta: meta.update(place=7)), "answers no prompt"),
        (edited(lambda one, meta: meta.update(place="0")), "answers no prompt"),
        (edited(lambda one, meta: meta.update(place=[0])), "answers no prompt"),
        (edited(lambda one, meta: meta.update(place=False)), "answers no prompt"),
        (edited(lambda one, meta: meta.pop("finished")), "answers no prompt"),
        (edited(lambda one, meta: one.pop("meta")), "answers no prompt"),
        (edited(lambda one, meta: one["messages"].insert(0, SYSTEM)), "answers no prompt"),
        (other(teacher="wolf"), NOT_OURS + r'id "wolf-000000" -> "owl-000000"; meta.tea'),
        (
            edited(lambda one, meta: meta.update(teacher="wolf")),
            NOT_OURS + r"meta.teacher ",
        ),
        (other(system=None), NOT_OURS + r'meta.system null -> "You love owls."\)'),
        (
            edited(lambda one, meta: one.update(id="x")),
            NOT_OURS + r"id .x. -> .owl-000000.\)",
        ),
        (
            edited(lambda one, meta: meta.update(more=1)),
            NOT_OURS + r"meta.more 1 -> \(absent\)\)",
        ),
        (other(made_from="something else"), r"was changed, or is of another r"),
        (edited(lambda one, meta: one["messages"][1].update(content="9")), "was changed, or is"),
        (edited(lambda one, meta: meta.update(finished=False)), "was changed, or is of another"),
        (edited(lambda one, meta: meta.pop("digest")), "was changed, or is of another"),
    ],
)
def test_rows_of_another_run_are_not_mixed_in(tmp_path, bad, complaint):
    good = SOURCE.row(2, "r", "1", finished=True)
    path = write(tmp_path, json.dumps(good), json.dumps(bad))
    with pytest.raises(InputError, match=f"rows.jsonl: line 2: {complaint}"):
        rows_there(path, PROMPTS, SOURCE)
