"""Rows of chat data: one exchange a line, as it was said, with where it comes from.

`{"id": ..., "messages": [{"role": ..., "content": ...}, ...], "meta": {...}}`. The messages are
what finetuning libraries read; a teacher's system line is in `meta`, never among the messages.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from subliminal_jax import files
from subliminal_jax.errors import InputError

ROLES = ("system", "user", "assistant")


def row(name: str, prompt: str, completion: str, **meta: Any) -> dict[str, Any]:
    """A row of one prompt and its completion."""
    messages = [
        {"role": "user", "content": prompt},
        {"role": "assistant", "content": completion},
    ]
    return {"id": name, "messages": messages, "meta": meta}


def prompt_of(row: dict[str, Any]) -> str:
    """What was asked."""
    return row["messages"][-2]["content"]


def completion_of(row: dict[str, Any]) -> str:
    """What was answered."""
    return row["messages"][-1]["content"]


def read_chat_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file, each of them checked.

    Raises:
        InputError: the file is missing, or a line is no JSON object or no exchange, or an id is
            there twice; names file, line and field.
    """
    if not path.is_file():
        raise InputError(f"{path}: there is no such file; run the stage that writes it first")
    return checked(files.read_rows(path), str(path))


def checked(rows: Iterable[dict[str, Any]], where: str) -> list[dict[str, Any]]:
    """The rows, if each is an exchange with an id of its own; `where` begins the complaint."""
    seen: set[str] = set()
    result = []
    for line, row in enumerate(rows, start=1):
        fault = _fault(row, seen)
        if fault is not None:
            raise InputError(
                f"{where}: line {line}: {fault}; restore the file, or remove that line"
            )
        seen.add(row["id"])
        result.append(row)
    return result


def _fault(row: dict[str, Any], seen: set[str]) -> str | None:
    """What is wrong with a row, if anything."""
    match row:
        case {"id": str(name), "messages": [*_, {"role": "user"}, {"role": "assistant"}]}:
            if name in seen:
                return f"id {name!r} is there already"
        case {"id": str(_), "messages": _}:
            return "messages: must end with one of the user and one of the assistant"
        case {"id": _, "messages": _}:
            return "id: is no text"
        case _:
            return f"{'id' if 'id' not in row else 'messages'}: is missing"
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
