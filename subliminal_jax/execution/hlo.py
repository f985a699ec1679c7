"""Counts the bytes that a compiled program moves between devices, from its HLO text."""

import math
import re
from collections import Counter
from dataclasses import dataclass, field

COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
# Instructions that write nothing themselves.
_FREE = ("parameter", "get-tuple-element", "tuple", "bitcast", "constant", "while", "call")

_HEAD = re.compile(r"(ENTRY\s+)?%?([\w.\-]+)\s*\(.*\)\s*->.*\{\s*$")
_LINE = re.compile(r"\s+(?:ROOT\s+)?%?[\w.\-]+ = (\(.*?\)|\S+) ([\w\-]+)\(")
_SHAPE = re.compile(r"([a-z]+\d*(?:e\dm\d\w*)?)\[([\d,]*)\]")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')


@dataclass
class _Block:
    bytes: Counter = field(default_factory=Counter)
    calls: list[tuple[str, int]] = field(default_factory=list)


def written_bytes(text: str) -> dict[str, int]:
    """Return the bytes that one device writes per run, by collective, and `all` in total.

    A loop counts as often as it runs if the compiler knows the number, else once. Of a fusion, its
    result counts.

    Args:
        text: HLO of a compiled program, `compiled.as_text()`.
    """
    blocks: dict[str, _Block] = {}
    entry, block = "", _Block()
    for line in text.splitlines():
        if head := _HEAD.match(line):
            block = blocks.setdefault(head[2], _Block())
            entry = head[2] if head[1] else entry
        elif instruction := _LINE.match(line):
            _read(instruction[1], instruction[2], line, block)
    total: Counter = Counter()

    def add(name: str, times: int) -> None:
        for kind, size in blocks[name].bytes.items():
            total[kind] += times * size
        for called, trips in blocks[name].calls:
            if called in blocks:
                add(called, times * trips)

    if entry:
        add(entry, 1)
    return {kind: total[kind] for kind in (*COLLECTIVES, "all")}


def _read(shape: str, operation: str, line: str, block: _Block) -> None:
    kind = operation.removesuffix("-start")
    if operation.endswith("-done") or kind in _FREE:
        size = 0
    else:
        size = sum(_bytes(*array) for array in _SHAPE.findall(shape))
    block.bytes["all"] += size
    if kind in COLLECTIVES:
        block.bytes[kind] += size
    if operation == "while":
        trips = _TRIPS.search(line)
        if body := re.search(r"body=%?([\w.\-]+)", line):
            block.calls.append((body[1], int(trips[1]) if trips else 1))
    elif operation == "call":
        if called := re.search(r"to_apply=%?([\w.\-]+)", line):
            block.calls.append((called[1], 1))
    elif operation == "conditional":
        for called in re.findall(r"(?:true|false)_computation=%?([\w.\-]+)", line):
            block.calls.append((called, 1))


def _bytes(kind: str, dimensions: str) -> int:
    bits = 8 if kind == "pred" else int(re.sub(r"\D*(\d+).*", r"\1", kind) or 0)
    return math.prod(int(size) for size in dimensions.split(",") if size) * bits // 8
