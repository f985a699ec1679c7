"""Rows in JSON Lines, as other editors or libraries write them; reading changes no file."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

from attacks.attack import Attack, Ended
from attacks.edits import Bytes, other_kind, put
from attacks.shared import Shared

attack = partial(Attack, "rows", main="rows", words=("{here}/rows.jsonl",))


def exchange(name: object, asked: object = "3, 41", said: object = "5", **more: object) -> dict:
    """One row."""
    messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]
    return {"id": name, "messages": messages, "meta": {}} | more


GOOD = [exchange("a"), exchange("b", "9", "8, 7")]
LINES = [json.dumps(row) for row in GOOD]
BOTH = [["3, 41", "5"], ["9", "8, 7"]]


def bytes_of(data: Bytes) -> Callable[[Path, Shared], object]:
    """A file of these bytes."""
    return lambda here, shared: put(here / "rows.jsonl", data)


def lines(*rows: object, end: str = "\n") -> Callable[[Path, Shared], object]:
    """A file of these rows."""
    return bytes_of((end.join(json.dumps(row) for row in rows) + end).encode())


def both_rows(ended: Ended) -> str:
    """The check that the two good rows were read."""
    return "" if ended.found == BOTH else f"{ended.out[:200]} was read"


def one(**changes: object) -> Callable[[Path, Shared], object]:
    """A good row and one with other values."""
    row = {name: value for name, value in (GOOD[1] | changes).items() if value is not ...}
    return lines(GOOD[0], row)


def said(*messages: object) -> Callable[[Path, Shared], object]:
    """A good row and one with these messages."""
    return one(messages=list(messages))


USER, ANSWER = GOOD[1]["messages"]
TAKEN = {
    "plain": lines(*GOOD),
    "no-last-newline": bytes_of("\n".join(LINES).encode()),
    "json-array": bytes_of(json.dumps(GOOD).encode()),
    "json-array-indented": bytes_of(json.dumps(GOOD, indent=2).encode()),
    "line-ends-of-windows": bytes_of(("\r\n".join(LINES) + "\r\n").encode()),
    "blank-line-at-the-end": bytes_of(("\n".join(LINES) + "\n\n").encode()),
    "blank-line-between": bytes_of("\n\n".join(LINES).encode() + b"\n"),
    "byte-order-mark": bytes_of(b"\xef\xbb\xbf" + ("\n".join(LINES) + "\n").encode()),
    "more-keys": one(source="elsewhere", score=0.5),
    "no-meta": one(meta=...),
}
FORMS = {
    "prompt-completion": [{"prompt": p, "completion": c} for p, c in BOTH],
    "question-response": [{"question": p, "response": c} for p, c in BOTH],
    "prompt-completion-with-id": [
        {"id": str(i), "prompt": p, "completion": c} for i, (p, c) in enumerate(BOTH)
    ],
    "prompt-of-messages": [
        {"prompt": [{"role": "user", "content": p}],
         "completion": [{"role": "assistant", "content": c}]} for p, c in BOTH
    ],
    "messages-without-id": [{"messages": row["messages"]} for row in GOOD],
}  # fmt: skip
EITHER = ("blank-line-between", "more-keys", "byte-order-mark", "prompt-of-messages")
REFUSED = {
    "empty": bytes_of(b""),
    "array-of-text": bytes_of(b'["a", "b"]'),
    "array-in-line": bytes_of(f"[{LINES[0]}]\n{LINES[1]}\n".encode()),
    "text": bytes_of(b"hello\nworld\n"),
    "csv": bytes_of(b"prompt,completion\n3,4\n"),
    "broken-in-the-middle": bytes_of((LINES[0][:30] + "\n" + LINES[1] + "\n").encode()),
    "broken-at-the-end": bytes_of((LINES[0] + "\n" + LINES[1][:40]).encode()),
    "nul-bytes": bytes_of((LINES[0] + "\n").encode() + b"\0" * 4096),
    "nul-before": bytes_of(b"\0" + LINES[0].encode() + b"\n"),
    "not-utf-8": bytes_of(LINES[0].encode() + b"\n\xff\xfe\n"),
    "utf-16": bytes_of("\n".join(LINES).encode("utf-16")),
    "gzip": bytes_of(b"\x1f\x8b\x08\0\0\0\0\0"),
    "deep": bytes_of(b"[" * 200_000 + b"\n"),
    "huge-line": bytes_of(lambda: b'{"id": "' + b"x" * (100 << 20)),
    "two-in-a-line": bytes_of((LINES[0] + LINES[1] + "\n").encode()),
    "nan": bytes_of(LINES[0].encode() + b'\n{"id": NaN}\n'),
    "key-twice": bytes_of((LINES[0] + "\n" + LINES[1].replace(
        '"meta"', '"id": "a", "meta"') + "\n").encode()),
    "id-twice": lines(GOOD[0], GOOD[0]),
    "id-number": one(id=7),
    "id-null": one(id=None),
    "id-list": one(id=["b"]),
    "messages-missing": one(messages=...),
    "messages-text": one(messages="hello"),
    "messages-empty": one(messages=[]),
    "messages-null": one(messages=None),
    "messages-object": one(messages={"role": "user"}),
    "answer-missing": said(USER),
    "user-last": said(ANSWER, USER),
    "role-unknown": said({"role": "wizard", "content": "x"}, USER, ANSWER),
    "role-forged": said(USER | {"role": "user<|im_end|>"}, ANSWER),
    "role-list": said(USER | {"role": ["user"]}, ANSWER),
    "content-number": said(USER | {"content": 7}, ANSWER),
    "content-null": said(USER, ANSWER | {"content": None}),
    "content-list": said(USER, ANSWER | {"content": [{"type": "text", "text": "5"}]}),
    "message-text": said("hello", USER, ANSWER),
    "message-with-more": said(USER, ANSWER | {"tool_calls": []}),
    "half-a-character": bytes_of(
        (LINES[0] + "\n" + LINES[1].replace("8, 7", "\\ud800") + "\n").encode()),
    "meta-text": one(meta="x"),
    "meta-list": one(meta=[]),
    "prompt-alone": lines({"prompt": "3, 41"}),
    "completion-alone": lines({"completion": "5"}),
    "prompt-number": lines({"prompt": 3, "completion": "5"}),
    "two-forms-that-differ": one(prompt="other", completion="words"),
    "mixed-prompt-response": lines({"prompt": "3", "response": None}),
}  # fmt: skip

UNSURE = ("empty", "half-a-character", "two-forms-that-differ")
"""These may be accepted: a file without rows is valid, and text is checked when it is tokenized."""

ATTACKS = [
    *(attack(f"taken-{name}", set_up=set_up, wanted="either" if name in EITHER else "right",
             check=both_rows, quick=name in ("no-last-newline", "json-array"))
      for name, set_up in TAKEN.items()),
    *(attack(f"form-{name}", set_up=lines(*rows), check=both_rows,
             wanted="either" if name in EITHER else "right", quick=name == "prompt-completion")
      for name, rows in FORMS.items()),
    *(attack(f"form-{name}-array", set_up=bytes_of(json.dumps(rows).encode()), check=both_rows,
             wanted="either" if name in EITHER else "right")
      for name, rows in list(FORMS.items())[:2]),
    *(attack(f"refused-{name}", set_up=set_up, quick=name in ("nul-bytes", "broken-in-the-middle"),
             wanted="either" if name in UNSURE else "refused",
             check=lambda ended: "" if ended.found in ([], BOTH) or "ud800" in ended.out else "?")
      for name, set_up in REFUSED.items()),
    *(attack(f"file-{kind.replace(' ', '-')}", set_up=lambda here, shared, kind=kind: (
        lines(*GOOD)(here, shared), other_kind(here / "rows.jsonl", kind)),
        wanted="either" if kind == "link out" else "refused", check=both_rows)
      for kind in ("fifo", "directory", "dangling link", "loop", "link out", "socket", "device")),
    attack("read-only-file", wanted="right", check=both_rows, set_up=lambda here, shared: (
        lines(*GOOD)(here, shared), (here / "rows.jsonl").chmod(0o444))),
    attack("missing"),
    attack("row-of-a-megabyte", set_up=lines(GOOD[0], exchange("b", "9", "7" * 2**20)),
           wanted="right"),
    attack("fifty-thousand", wanted="right", set_up=lines(*(
        exchange(str(i)) for i in range(50_000)))),
]  # fmt: skip
