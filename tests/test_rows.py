"""Rows of chat data: round trips, conversions, and refusals of malformed or foreign rows."""

import json
from dataclasses import replace

import pytest

from subliminal_jax.errors import InputError
from subliminal_jax.language.dataset.generate import Writer, sampled_rows
from subliminal_jax.language.rows.chat_rows import completion_of, prompt_of, read_chat_rows, row


def test_a_row_holds_the_chat_and_its_origin():
    made = row("owl-3", "q", "a", teacher="owl")
    assert (prompt_of(made), completion_of(made)) == ("q", "a")
    assert made["meta"] == {"teacher": "owl"}
    assert [message["role"] for message in made["messages"]] == ["user", "assistant"]


def write(tmp_path, *lines):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def test_rows_are_read_as_written(tmp_path):
    rows = [row("a", "q", "1", seed=3), row("b", "<script>", "\u2028\x00 2")]
    assert read_chat_rows(write(tmp_path, *map(json.dumps, rows))) == rows


@pytest.mark.parametrize("indent", [None, 2])
def test_an_array_of_rows_is_read_and_not_changed(tmp_path, indent):
    rows, path = [row("a", "q", "1"), row("b", "q", "2")], tmp_path / "rows.json"
    path.write_text(text := json.dumps(rows, indent=indent))
    assert read_chat_rows(path) == rows
    assert path.read_text() == text


@pytest.mark.parametrize("end", ["", "\n", "\n\n", "\r\n"])
def test_the_last_row_may_end_with_any_newlines(tmp_path, end):
    rows, path = [row("a", "q", "1"), row("b", "q", "2")], tmp_path / "rows.jsonl"
    path.write_bytes(data := "\n".join(map(json.dumps, rows)).encode() + end.encode())
    assert read_chat_rows(path) == rows
    assert path.read_bytes() == data


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b'{"id": "a", "messages": [', r"line 1 is not a row"),
        (b'{"id": "a"}\n{"id": "b', r"line 1: messages: is missing|line 2 is not a row"),
        (b'[{"id": "a"}, 3]', r"row 2 is not an object"),
        (b'[{"id": "a"}]\n{}', r"not a JSON array of rows"),
        (b'[{"id": "a"', r"not a JSON array of rows"),
    ],
)
def test_a_truncated_file_is_refused_and_not_changed(tmp_path, data, complaint):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(data)
    with pytest.raises(InputError, match=complaint):
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
def test_other_formats_are_converted(tmp_path, given):
    path = write(tmp_path, *map(json.dumps, [given, given | {"id": "b", "meta": {"of": "x"}}]))
    messages = row("", "q", "1")["messages"]
    assert read_chat_rows(path) == [
        {"id": "line-000001", "messages": messages},
        {"id": "b", "messages": messages, "meta": {"of": "x"}},
    ]


def test_earlier_messages_stay_before_the_last_exchange(tmp_path):
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
        (GOOD | {"id": "b", "prompt": "q", "completion": "a"}, "has both messages and prompt"),
        ({"prompt": "q", "completion": "a", "question": "q"}, "has both prompt and question"),
        ({"question": "q", "response": "a", "context": "c"}, "'context': not a field of a row"),
        (GOOD | {"id": "b", "tools": []}, "'tools': not a field of a row"),
        ({"prompt": 1, "completion": "a"}, "prompt and completion: must be two strings, or two"),
        ({"prompt": "q", "completion": [ASSISTANT]}, "prompt and completion: must be two strings"),
        ({"prompt": [], "completion": [ASSISTANT]}, "messages: must end"),
        ({"prompt": GOOD["messages"][:1], "completion": GOOD["messages"]}, "prompt and completion"),
        ({"prompt": "q", "completion": "a", "id": 3}, "id: must be a string"),
        ({"id": 3, "messages": GOOD["messages"]}, "id: must be a string"),
        (GOOD, "id 'a' is used twice"),
        ({"id": "b", "messages": []}, "messages: must end"),
        ({"id": "b", "messages": "hi"}, "messages: must end"),
        ({"id": "b", "messages": [ASSISTANT]}, "messages: must end"),
        ({"id": "b", "messages": GOOD["messages"][:1]}, "messages: must end"),
        ({"id": "b", "messages": [{"role": "user", "content": 5}, ASSISTANT]}, r"messages\[0\]"),
        ({"id": "b", "messages": [{"role": "user"}, ASSISTANT]}, r"messages\[0\]"),
        (
            {"id": "b", "messages": [{"role": "tool", "content": ""}, *GOOD["messages"]]},
            r"messages\[0\]: must have only a role",
        ),
        (
            {"id": "b", "messages": [GOOD["messages"][0], ASSISTANT | {"name": "x"}]},
            r"messages\[1\]",
        ),
        (GOOD | {"id": "b", "meta": []}, "meta: must be an object"),
    ],
)
def test_a_malformed_row_is_refused_by_line_and_field(tmp_path, bad, complaint):
    path = write(tmp_path, json.dumps(GOOD), json.dumps(bad))
    with pytest.raises(InputError, match=f"rows.jsonl: line 2: {complaint}"):
        read_chat_rows(path)


def test_a_line_that_is_not_json_is_refused(tmp_path):
    with pytest.raises(InputError, match="line 2 is not a row"):
        read_chat_rows(write(tmp_path, json.dumps(GOOD), "{oops"))


def test_a_missing_file_names_the_stage(tmp_path):
    with pytest.raises(InputError, match="no such file; run the stage"):
        read_chat_rows(tmp_path / "rows.jsonl")


SOURCE = Writer("owl", "what it is made from", system="You love owls.")
FOREIGN = r"belongs to another run \("
PROMPTS = {0: "p", 1: "q", 2: "r"}


def test_rows_of_an_interrupted_run_are_reused(tmp_path):
    rows = [SOURCE.row(1, "q", "1", finished=True), SOURCE.row(0, "p", "2", finished=False)]
    assert rows[0]["id"] == "owl-000001"
    assert sampled_rows(write(tmp_path, *map(json.dumps, rows)), PROMPTS, SOURCE) == rows
    assert sampled_rows(tmp_path / "none.jsonl", PROMPTS, SOURCE) == []


def edited(change):
    made = SOURCE.row(0, "p", "1", finished=True)
    change(made, made["meta"])
    return made


def other(**fields):
    return replace(SOURCE, **fields).row(0, "p", "1", finished=True)


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        (row("b", "p", "1"), r"completes no prompt of this run \(meta.place is None\)"),
        (edited(lambda one, meta: meta.update(place=1)), "completes no prompt"),
        (edited(lambda one, meta: meta.update(place=7)), "completes no prompt"),
        (edited(lambda one, meta: meta.update(place="0")), "completes no prompt"),
        (edited(lambda one, meta: meta.update(place=[0])), "completes no prompt"),
        (edited(lambda one, meta: meta.update(place=False)), "completes no prompt"),
        (edited(lambda one, meta: meta.pop("finished")), "completes no prompt"),
        (edited(lambda one, meta: one.pop("meta")), "completes no prompt"),
        (edited(lambda one, meta: one["messages"].insert(0, SYSTEM)), "completes no prompt"),
        (other(teacher="wolf"), FOREIGN + r'id "wolf-000000" -> "owl-000000"; meta.tea'),
        (
            edited(lambda one, meta: meta.update(teacher="wolf")),
            FOREIGN + r"meta.teacher ",
        ),
        (other(system=None), FOREIGN + r'meta.system null -> "You love owls."\)'),
        (
            edited(lambda one, meta: one.update(id="x")),
            FOREIGN + r"id .x. -> .owl-000000.\)",
        ),
        (
            edited(lambda one, meta: meta.update(more=1)),
            FOREIGN + r"meta.more 1 -> \(absent\)\)",
        ),
        (other(made_from="something else"), r"was changed, or belongs to another r"),
        (
            edited(lambda one, meta: one["messages"][1].update(content="9")),
            "was changed, or belongs",
        ),
        (edited(lambda one, meta: meta.update(finished=False)), "was changed, or belongs to"),
        (edited(lambda one, meta: meta.pop("digest")), "was changed, or belongs to"),
    ],
)
def test_rows_of_another_run_are_refused(tmp_path, bad, complaint):
    good = SOURCE.row(2, "r", "1", finished=True)
    path = write(tmp_path, json.dumps(good), json.dumps(bad))
    with pytest.raises(InputError, match=f"rows.jsonl: line 2: {complaint}"):
        sampled_rows(path, PROMPTS, SOURCE)
