"""GGUF files: each setting missing, of another type, impossible; damaged headers and data."""

import struct
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from attacks.attack import Attack, Ended
from attacks.configs import LM
from attacks.shared import Shared

attack = partial(Attack, "ggufs", main="given", words=("{here}/m.gguf",))
SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q",
           11: "<q", 12: "<d"}  # fmt: skip
"""GGUF's number of a type -> its layout."""
U32, I32, F32, BOOL, TEXT, LIST, U64 = 4, 5, 6, 7, 8, 9, 10
NAN, INF = float("nan"), float("inf")


class Value(NamedTuple):
    """A setting's type and value; that of a list is its items' type and the items."""

    kind: int
    value: Any


class File(NamedTuple):
    """A file's settings, the bytes that list its tensors, and those of the tensors."""

    tensors: int
    settings: dict[str, Value]
    listed: bytes
    data: bytes


def parsed(file: bytes) -> File:
    """The parts of a sound file."""
    at = 8

    def number(layout: str) -> Any:
        nonlocal at
        (value,) = struct.unpack_from(layout, file, at)
        at += struct.calcsize(layout)
        return value

    def text() -> bytes:
        nonlocal at
        length = number("<Q")
        at += length
        return file[at - length : at]

    def value(kind: int) -> Any:
        if kind == TEXT:
            return text()
        if kind == LIST:
            inner, count = number("<I"), number("<Q")
            return inner, [value(inner) for _ in range(count)]
        return number(SCALARS[kind])

    tensors, count = number("<Q"), number("<Q")
    settings = {}
    for _ in range(count):
        name, kind = text().decode(), number("<I")
        settings[name] = Value(kind, value(kind))
    start = at
    for _ in range(tensors):
        text()
        axes = number("<I")
        at += 8 * axes + 12
    return File(tensors, settings, file[start:at], file[-(-at // 32) * 32 :])


def packed(kind: int, value: Any) -> bytes:
    """A value as it is stored."""
    if kind == TEXT:
        return struct.pack("<Q", len(value)) + value
    if kind == LIST:
        inner, items = value
        return struct.pack("<IQ", inner, len(items)) + b"".join(packed(inner, i) for i in items)
    return struct.pack(SCALARS[kind], value)


def built(file: File, settings: Iterable[tuple[str, Value]]) -> bytes:
    """The file with these settings in place of its own."""
    settings = list(settings)
    made = b"GGUF" + struct.pack("<IQQ", 3, file.tensors, len(settings))
    for name, (kind, value) in settings:
        made += packed(TEXT, name.encode()) + struct.pack("<I", kind) + packed(kind, value)
    made += file.listed
    return made + bytes(-len(made) % 32) + file.data


def of_bytes(change: Callable[[bytes], bytes]) -> Callable[[Path, Shared], object]:
    """The sound file with other bytes."""
    return lambda here, shared: (here / "m.gguf").write_bytes(change(shared.gguf.read_bytes()))


def stating(name: str, *values: Value) -> Callable[[Path, Shared], object]:
    """The sound file that states a setting otherwise: never, once or twice."""

    def change(data: bytes) -> bytes:
        file = parsed(data)
        others = [(key, value) for key, value in file.settings.items() if key != name]
        return built(file, [*others, *((name, value) for value in values)])

    return of_bytes(change)


def listing(name: str, change: Callable[[list], list]) -> Callable[[Path, Shared], object]:
    """The sound file with a changed list."""

    def changed(data: bytes) -> bytes:
        file = parsed(data)
        inner, items = file.settings[name].value
        new = {name: Value(LIST, (inner, change(items)))}
        return built(file, (file.settings | new).items())

    return of_bytes(changed)


def as_sound(ended: Ended) -> str:
    """What is read is what the sound file holds."""
    same = ended.found == ended.shared.expected("given", str(ended.shared.gguf))
    return "" if same else "not what the sound file holds"


WRONG = {
    "text": Value(TEXT, b"2"), "negative": Value(I32, -1), "nan": Value(F32, NAN),
    "infinite": Value(F32, INF), "huge": Value(U64, 2**63),
    "three-values": Value(LIST, (U32, [2, 2, 2])), "empty-list": Value(LIST, (U32, [])),
    "true": Value(BOOL, True),
}  # fmt: skip
"""Values that no number of a model has."""
COUNTS = ("embedding_length", "block_count", "attention.head_count", "attention.head_count_kv",
          "context_length", "feed_forward_length", "attention.key_length", "rope.dimension_count",
          "vocab_size")  # fmt: skip
NEEDED = (*COUNTS[:3], "context_length", "feed_forward_length", "attention.layer_norm_rms_epsilon")
TOKENIZER = "tokenizer.ggml."


def numbers() -> Iterator[Attack]:
    """Counts and numbers of the model."""
    for name in COUNTS:
        for what, value in (WRONG | {"zero": Value(U32, 0), "half": Value(F32, 0.5)}).items():
            yield attack(f"{name}-{what}", set_up=stating(f"llama.{name}", value),
                         quick=(name, what) == ("vocab_size", "huge"))  # fmt: skip
        for value in (1, 3, 5, 2**31 - 1):
            if name != "context_length" and (name, value) != ("attention.head_count_kv", 1):
                yield attack(f"{name}-{value}", set_up=stating(f"llama.{name}", Value(U32, value)))
    for name in ("attention.layer_norm_rms_epsilon", "rope.freq_base"):
        for what in ("text", "negative", "nan", "infinite", "three-values", "empty-list", "true"):
            yield attack(f"{name}-{what}", set_up=stating(f"llama.{name}", WRONG[what]))
    for name in NEEDED:
        yield attack(f"{name}-missing", set_up=stating(f"llama.{name}"))
    twice = [Value(U32, 2)] * 2
    yield attack("block_count-twice", set_up=stating("llama.block_count", *twice))
    layers = Value(LIST, (U32, [2, 2]))
    yield attack("heads-by-layer", wanted="right", check=as_sound,
                 set_up=stating("llama.attention.head_count", layers))  # fmt: skip
    yield attack("unknown-setting", set_up=stating("llama.expert_gating_func", Value(U32, 1)))
    yield attack("scaling-unknown", set_up=stating("llama.rope.scaling.type", Value(TEXT, b"x")))


LISTS: dict[str, Callable[[list], list]] = {
    "shorter": lambda items: items[:-1], "longer": lambda items: [*items, items[-1]],
    "empty": lambda items: [], "one-repeated": lambda items: items[:1] * len(items),
    "many": lambda items: items * 300,
}  # fmt: skip


def tokenizers() -> Iterator[Attack]:
    """Lists and settings of the tokenizer."""
    for name in ("tokens", "token_type", "merges"):
        at = f"{TOKENIZER}{name}"
        yield attack(f"{name}-missing", set_up=stating(at))
        yield attack(f"{name}-number", set_up=stating(at, Value(U32, 5)))
        other = (TEXT, [b"1"] * 400) if name == "token_type" else (U32, [1] * 400)
        yield attack(f"{name}-of-another-type", set_up=stating(at, Value(LIST, other)))
        for what, change in LISTS.items():
            plain = (name, what) in (("merges", "shorter"), ("merges", "empty"),
                                     ("token_type", "one-repeated"))  # fmt: skip
            if not plain:
                yield attack(f"{name}-{what}", set_up=listing(at, change))
    for kind in (0, 7, 99, -1):
        yield attack(f"token-of-type-{kind}", set_up=listing(
            f"{TOKENIZER}token_type", lambda items, kind=kind: [*items[:-1], kind]),
            quick=kind == 99)  # fmt: skip
    for what, merge in {
        "one-word": b"abc",
        "of-no-tokens": b"\xe2\x98\x83 zz",
        "empty": b"",
    }.items():
        yield attack(f"merge-{what}", set_up=listing(
            f"{TOKENIZER}merges", lambda items, merge=merge: [*items, merge]))  # fmt: skip
    yield attack("token-of-a-megabyte", set_up=listing(
        f"{TOKENIZER}tokens", lambda items: [*items[:-1], b"x" * 2**20]))  # fmt: skip
    for name in ("bos_token_id", "eos_token_id"):
        for what, value in {"text": WRONG["text"], "negative": WRONG["negative"],
                            "beyond": Value(U32, 400), "huge": WRONG["huge"]}.items():  # fmt: skip
            yield attack(f"{name}-{what}", set_up=stating(f"{TOKENIZER}{name}", value))
    for name in ("model", "pre"):
        for what, value in {"unknown": Value(TEXT, b"gpt9"), "number": Value(U32, 7),
                            "two-lines": Value(TEXT, b"gpt2\nx"), "no-text": Value(TEXT, b"\xff"),
                            "long": Value(TEXT, b"gpt2" * 2**18)}.items():  # fmt: skip
            yield attack(f"{name}-{what}", set_up=stating(f"{TOKENIZER}{name}", value))
    for what, text in {"open": b"{{", "endless": b"{% for i in range(10**9) %}x{% endfor %}",
                       "reads-a-file": b"{{ ''.__class__.__mro__[1].__subclasses__() }}",
                       "empty": b"", "no-text": b"\xff"}.items():  # fmt: skip
        yield attack(f"template-{what}", set_up=stating("tokenizer.chat_template",
                                                        Value(TEXT, text)))  # fmt: skip


def spoilt(place: float, byte: int) -> Callable[[bytes], bytes]:
    """A byte of the header changed, at this share of it."""

    def change(data: bytes) -> bytes:
        at = int(place * (len(data) - len(parsed(data).data) - 64))
        return data[:at] + bytes([data[at] ^ byte]) + data[at + 1 :]

    return change


ATTACKS = [
    attack("sound", set_up=of_bytes(lambda data: data), wanted="right", check=as_sound, quick=True),
    *numbers(),
    *tokenizers(),
    *(attack(f"cut-{share}", set_up=of_bytes(lambda data, s=share: data[: int(s * len(data))]))
      for share in (0, 0.01, 0.3, 0.6, 0.9, 0.999)),
    *(attack(f"bit-{place}", set_up=of_bytes(spoilt(place / 40, 0x80)), wanted="either",
             check=lambda ended: "") for place in range(40)),
    *(attack(f"{name}-of-2**{power}", set_up=of_bytes(
        lambda data, at=at, power=power: data[:at] + struct.pack("<Q", 2**power) + data[at + 8 :]))
      for name, at in (("tensors", 8), ("settings", 16)) for power in (20, 40, 63)),
    attack("big-endian", set_up=of_bytes(lambda data: data[:4] + data[7:3:-1] + data[8:])),
    attack("version-1", set_up=of_bytes(lambda data: data[:4] + b"\1\0\0\0" + data[8:])),
    attack("a-zip", set_up=of_bytes(lambda data: b"PK\3\4" + data[4:])),
    attack("missing"),
    attack("nan-weights", set_up=of_bytes(lambda data: data[:-4] + struct.pack("<f", NAN))),
    attack("whole-command", main="lm_numbers", words=("--reference.model", "m.gguf", *LM[2:]),
           set_up=stating("llama.block_count", Value(U32, 3))),
]  # fmt: skip
