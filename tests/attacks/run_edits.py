"""Changes of finished runs: edits, swaps, and stages that look interrupted."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from attacks.attack import Ended
from attacks.edits import edit, put
from attacks.shared import Shared

MOSTLY_DONE = {
    "teacher": "after its outcome@3", "generate": "after rows@4", "student": "after its outcome@3",
}  # fmt: skip
"""Where a stage is killed: its arrays or rows exist, its manifest does not."""


def language(*changes: Callable[[Path], object]) -> Callable[[Path, Shared], object]:
    """A copy of the finished language run, changed."""

    def set_up(here: Path, shared: Shared) -> None:
        shutil.copytree(shared.run, here, dirs_exist_ok=True, symlinks=True)
        for change in changes:
            change(here)

    return set_up


def digits(*changes: Callable[[Path], object]) -> Callable[[Path, Shared], object]:
    """A copy of the finished MNIST run, changed."""

    def set_up(here: Path, shared: Shared) -> None:
        shutil.copytree(shared.digits, here, dirs_exist_ok=True, symlinks=True)
        for change in changes:
            change(here)

    return set_up


def taught(*changes: Callable[[Path], object]) -> Callable[[Path, Shared], object]:
    """A copy of the run that stopped after its teachers, changed."""

    def set_up(here: Path, shared: Shared) -> None:
        shutil.copytree(shared.taught, here, dirs_exist_ok=True, symlinks=True)
        for change in changes:
            change(here)

    return set_up


def keys(file: str, **changes: Any) -> Callable[[Path], object]:
    """Other values for keys of a JSON file; keys as of `edit`."""
    return lambda here: edit(here / file, changes)


def swapped(one: str, other: str) -> Callable[[Path], object]:
    """Two files with their names swapped."""

    def change(here: Path) -> None:
        os.rename(here / one, here / "swap")
        os.rename(here / other, here / one)
        os.rename(here / "swap", here / other)

    return change


def gone(*names: str) -> Callable[[Path], object]:
    """Files or directories removed."""
    return lambda here: [put(here / name, None) for name in names]


def bytes_in(file: str, change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    """A file with other bytes."""
    return lambda here: put(here / file, change((here / file).read_bytes()))


def flipped(data: bytes) -> bytes:
    """The data with one bit in the middle flipped."""
    at = len(data) // 2
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def arrays(
    file: str, change: Callable[[dict[str, np.ndarray]], object]
) -> Callable[[Path], object]:
    """An `.npz` file with other arrays."""

    def in_place(here: Path) -> None:
        with np.load(here / file) as stored:
            values = {name: stored[name].copy() for name in stored.files}
        changed = change(values)
        np.savez(here / file, **(changed if isinstance(changed, dict) else values))

    return in_place


def stopped(stage: str, *changes: Callable[[Path], object]) -> Callable[[Path, Shared], object]:
    """A copy of a run that was killed near the end of a stage, changed."""

    def set_up(here: Path, shared: Shared) -> None:
        shutil.copytree(shared.stopped(stage, MOSTLY_DONE[stage]), here, dirs_exist_ok=True)
        for change in changes:
            change(here)

    return set_up


def same_answers(ended: Ended) -> str:
    """The check that networks answer as in an uninterrupted run."""
    found, right = ((home / "run/evaluate-0/answers.json").read_bytes()
                    for home in (ended.here, ended.shared.whole))  # fmt: skip
    return "" if found == right else "the answers differ from an uninterrupted run's"


def rows_of(file: str, change: Callable[[list[dict]], object]) -> Callable[[Path], object]:
    """A file of rows with other rows."""

    def in_place(here: Path) -> None:
        found = [json.loads(line) for line in (here / file).read_text().splitlines()]
        changed = change(found)
        found = changed if isinstance(changed, list) else found
        (here / file).write_text("".join(json.dumps(row) + "\n" for row in found))

    return in_place


def same_results(file: str = "run/results.json") -> Callable[[Ended], str]:
    """The check that the results equal those of the finished run."""

    def check(ended: Ended) -> str:
        home = ended.shared.run if (ended.here / "config.yaml").exists() else ended.shared.digits
        found, right = (json.loads((where / file).read_text()) for where in (ended.here, home))
        part = "units" if "units" in right else "arms"
        return "" if found[part] == right[part] else f"other {part}: {found[part]}"[:300]

    return check


def edit_number(row: dict) -> None:
    """Raise the accuracy of a member's teacher."""
    for name, value in row.items():
        if isinstance(value, dict) and "teacher" in value:
            row[name]["teacher"] = 0.999


def swap_members(rows: list[dict]) -> None:
    """Swap the numbers of two members."""
    rows[0]["member"], rows[1]["member"] = rows[1]["member"], rows[0]["member"]


def exchange_said(rows: list[dict]) -> None:
    """Swap the answers of two rows."""
    one, other = rows[0]["messages"][-1], rows[1]["messages"][-1]
    one["content"], other["content"] = other["content"], one["content"]


def forge(directory: Path, name: str) -> None:
    """Put the digest of a changed file into the manifest, as somebody who knows the format can."""
    digest = hashlib.sha256((directory / name).read_bytes()).hexdigest()
    edit(directory / "manifest.json", {f"files/{name}": digest})


def tokenizer_ids_exchanged(here: Path) -> None:
    """Swap the ids of two words of the cached reference's tokenizer."""
    (path,) = (here / "cache").glob("*/tokenizer.json")
    definition = json.loads(path.read_text())
    words = definition["model"]["vocab"]
    words["owl"], words["wolf"] = words["wolf"], words["owl"]
    path.write_text(json.dumps(definition))


def in_cache(change: Callable[[Path], object]) -> Callable[[Path], object]:
    """Apply a change to the cached reference."""
    return lambda here: [change(path) for path in (here / "cache").iterdir() if path.is_dir()]
