"""Rows of chat data: one exchange a line, as it was said, with where it comes from.

`{"id": ..., "messages": [{"role": ..., "content": ...}, ...], "meta": {...}}`. The messages are
what finetuning libraries read; a teacher's system line is in `meta`, never among the messages.
Other forms that are common are read too, and turned into this one: see `read_chat_rows`.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from subliminal_jax import files
from subliminal_jax.errors import InputError

ROLES = ("system", "user", "assistant")
PAIRS = (("prompt", "completion"), ("question", "response"))
"""What an exchange is called where it is not one list of messages."""
_BESIDE = ("id", "meta", "reject_reasons")


def row(name: str, prompt: str, completion: str, **meta: Any) -> dict[str, Any]:
    """A row of one prompt and its completion."""
    messages = [*_said("user", prompt), *_said("assistant", completion)]
    return {"id": name, "messages": messages, "meta": meta}


def prompt_of(row: dict[str, Any]) -> str:
    """What was asked."""
    return row["messages"][-2]["content"]


def completion_of(row: dict[str, Any]) -> str:
    """What was answered."""
    return row["messages"][-1]["content"]


def read_chat_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file in the form above, each of them checked; the file is left as it is.

    It holds an object a line, or all of them in one array. In place of `messages` a row may have
    `prompt` and `completion`, or `question` and `response`: two texts, or (as TRL has them)
    messages and one message of the assistant. A row without an id gets one from its line.

    Raises:
        InputError: the file is missing, or a line is no JSON object or no exchange, has a field
            that is not known, or an id is there twice; names file, line and field.
    """
    if not path.is_file():
        raise InputError(f"{path}: there is no such file; run the stage that writes it first")
    return checked(_given(path), str(path))


def _given(path: Path) -> list[dict[str, Any]]:
    """The objects of a file that somebody else may have written, none of them cut short."""
    data = files.read_file(path).rstrip()
    if not data.lstrip().startswith(b"["):
        lines = data.split(b"\n") if data else []
        return [files.parse_row(line, path, f"line {i}") for i, line in enumerate(lines, start=1)]
    try:
        rows = files.parse_json(data)
    except ValueError as error:
        raise InputError(f"{path}: no JSON array of rows ({error}); restore the file") from error
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise InputError(f"{path}: row {number} is no object; restore the file")
    return rows


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """Writes a JSON Lines file, whole or not at all."""
    text = "".join(f"{files.strict_json(row)}\n" for row in rows)
    files.write_whole(path, text.encode())


def checked(rows: Iterable[dict[str, Any]], where: str) -> list[dict[str, Any]]:
    """The rows, if each is an exchange with an id of its own; `where` begins the complaint."""
    seen: set[str] = set()
    result = []
    for line, given in enumerate(rows, start=1):
        row = _with_messages(given, line)
        fault = row if isinstance(row, str) else _fault(row, seen)
        if isinstance(row, str) or fault is not None:
            raise InputError(
                f"{where}: line {line}: {fault}; restore the file, or remove that line"
            )
        seen.add(row["id"])
        result.append(row)
    return result


def _with_messages(given: dict[str, Any], line: int) -> dict[str, Any] | str:
    """A row with id and messages, neither of them checked; or what is wrong with it."""
    forms = [form for form in (("messages",), *PAIRS) if any(name in given for name in form)]
    if not forms:
        return "messages: is missing"
    if len(forms) > 1:
        return f"holds both {forms[0][0]} and {forms[1][0]}, and only one can be meant"
    for name in forms[0]:
        if name not in given:
            return f"{name}: is missing"
    for name in given:
        if name not in (*forms[0], *_BESIDE):
            return f"{name[:80]!r}: is no field of a row; put what is not to be read into meta"
    beside = {name: value for name, value in given.items() if name in _BESIDE}
    match [given[name] for name in forms[0]]:
        case [messages]:
            pass
        case [str(asked), str(answered)]:
            messages = [*_said("user", asked), *_said("assistant", answered)]
        case [list(asked), [_] as answered]:
            messages = [*asked, *answered]
        case _:
            return f"{' and '.join(forms[0])}: must be two texts, or messages and one message"
    return {"id": f"line-{line:06d}", "messages": messages} | beside


def _said(role: str, text: str) -> list[dict[str, str]]:
    return [{"role": role, "content": text}]


def _fault(row: dict[str, Any], seen: set[str]) -> str | None:
    """What is wrong with a row that has id and messages, if anything."""
    match row:
        case {"id": str(name), "messages": [*_, {"role": "user"}, {"role": "assistant"}]}:
            if name in seen:
                return f"id {name!r} is there already"
        case {"id": str(_)}:
            return "messages: must end with one of the user and one of the assistant"
        case _:
            return "id: is no text"
    for place, message in enumerate(row["messages"]):
        match message:
            case {"role": role, "content": str(_), **rest} if role in ROLES and not rest:
                pass
            case _:
                return (
                    f"messages[{place}]: must hold a role of {', '.join(ROLES)} and content that "
                    "is text, and nothing else"
                )
    if not isinstance(row.get("meta", {}), dict):
        return "meta: must be an object"
    return None
