"""Rows of chat data: JSON Lines with one chat a line, and its origin.

`{"id": ..., "messages": [{"role": ..., "content": ...}, ...], "meta": {...}}`. Finetuning libraries
read the messages; a teacher's system prompt is in `meta`, never among the messages. Other common
formats are converted to this one: see `read_chat_rows`.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from subliminal_jax import files
from subliminal_jax.errors import InputError
from subliminal_jax.models.text.messages import ROLES

PAIRS = (("prompt", "completion"), ("question", "response"))
"""Field names of prompt and completion in rows without a list of messages."""
_BESIDE = ("id", "meta", "reject_reasons")


def row(name: str, prompt: str, completion: str, **meta: Any) -> dict[str, Any]:
    """A row of one prompt and its completion."""
    messages = [*_message("user", prompt), *_message("assistant", completion)]
    return {"id": name, "messages": messages, "meta": meta}


def prompt_of(row: dict[str, Any]) -> str:
    """Content of the last user message."""
    return row["messages"][-2]["content"]


def completion_of(row: dict[str, Any]) -> str:
    """Content of the last assistant message."""
    return row["messages"][-1]["content"]


def read_chat_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file in the format above, after checking each; does not change the file.

    The file holds one object a line, or one array of objects. Instead of `messages` a row may have
    `prompt` and `completion`, or `question` and `response`: two strings, or (as in TRL) a list of
    messages and a list of one assistant message. A row without an id gets one from its line.

    Raises:
        InputError: the file is missing, or a line is not a JSON object or not a chat, has an
            unknown field, or repeats an id; names file, line and field.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; run the stage that writes it first")
    return checked(_given(path), str(path))


def _given(path: Path) -> list[dict[str, Any]]:
    """The objects of a file from any source; a truncated file is an error."""
    data = files.read_file(path).rstrip()
    if not data.lstrip().startswith(b"["):
        lines = data.split(b"\n") if data else []
        return [files.parse_row(line, path, f"line {i}") for i, line in enumerate(lines, start=1)]
    try:
        rows = files.parse_json(data)
    except ValueError as error:
        raise InputError(f"{path}: not a JSON array of rows ({error}); restore the file") from error
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise InputError(f"{path}: row {number} is not an object; restore the file")
    return rows


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """Writes a JSON Lines file atomically."""
    text = "".join(f"{files.strict_json(row)}\n" for row in rows)
    files.write_whole(path, text.encode())


def checked(rows: Iterable[dict[str, Any]], where: str) -> list[dict[str, Any]]:
    """The rows, after checking that each is a chat with a unique id; `where` begins the error."""
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
    """The row converted to id and messages, both unchecked; or what is wrong with it."""
    forms = [form for form in (("messages",), *PAIRS) if any(name in given for name in form)]
    if not forms:
        return "messages: is missing"
    if len(forms) > 1:
        return f"has both {forms[0][0]} and {forms[1][0]}; keep one"
    for name in forms[0]:
        if name not in given:
            return f"{name}: is missing"
    for name in given:
        if name not in (*forms[0], *_BESIDE):
            return f"{name[:80]!r}: not a field of a row; move further values into meta"
    beside = {name: value for name, value in given.items() if name in _BESIDE}
    match [given[name] for name in forms[0]]:
        case [messages]:
            pass
        case [str(prompt), str(completion)]:
            messages = [*_message("user", prompt), *_message("assistant", completion)]
        case [list(prompt), [_] as completion]:
            messages = [*prompt, *completion]
        case _:
            return f"{' and '.join(forms[0])}: must be two strings, or two lists of messages"
    return {"id": f"line-{line:06d}", "messages": messages} | beside


def _message(role: str, text: str) -> list[dict[str, str]]:
    return [{"role": role, "content": text}]


def _fault(row: dict[str, Any], seen: set[str]) -> str | None:
    """What is wrong with a row that has id and messages, if anything."""
    match row:
        case {"id": str(name), "messages": [*_, {"role": "user"}, {"role": "assistant"}]}:
            if name in seen:
                return f"id {name!r} is used twice"
        case {"id": str(_)}:
            return "messages: must end with a user and an assistant message"
        case _:
            return "id: must be a string"
    for place, message in enumerate(row["messages"]):
        match message:
            case {"role": role, "content": str(_), **rest} if role in ROLES and not rest:
                pass
            case _:
                return (
                    f"messages[{place}]: must have only a role ({', '.join(ROLES)}) and a string "
                    "as content"
                )
    if not isinstance(row.get("meta", {}), dict):
        return "meta: must be an object"
    return None
