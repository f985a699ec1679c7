"""Training checkpoints: edited manifests, renamed steps, other trainings, other files."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from attacks.attack import Attack, Ended
from attacks.edits import other_kind, put
from attacks.run_edits import flipped
from attacks.shared import Shared

METADATA = "_CHECKPOINT_METADATA"


def goes_on(ended: Ended) -> str:
    """The check that the training ends as an uninterrupted one does, to the bit."""
    right = ended.shared.unbroken
    return "" if ended.found == right else "it ends differently from an uninterrupted training"


attack = partial(
    Attack, "checkpoints", main="trainer", words=("run", "mlp", "jit"), wanted="either",
    check=goes_on, seconds=30.0, own=("run/checkpoints/*",),
)  # fmt: skip


def trained(*changes: Callable[[list[Path]], object]) -> Callable[[Path, Shared], object]:
    """A copy of the stopped training; changes get its steps, oldest first."""

    def set_up(here: Path, shared: Shared) -> None:
        shutil.copytree(shared.trained, here, dirs_exist_ok=True, symlinks=True)
        for change in changes:
            change(sorted((here / "run/checkpoints").glob("0*")))

    return set_up


def manifest(change: Callable[[dict], object]) -> Callable[[list[Path]], object]:
    """Change the newest step's manifest, with its digest."""

    def in_place(steps: list[Path]) -> None:
        path = steps[-1] / METADATA
        whole = json.loads(path.read_text())
        held = whole["custom_metadata"]
        stated = json.loads(held["manifest"])
        changed = change(stated)
        held["manifest"] = json.dumps(stated if changed is None else changed)
        held["sha256"] = hashlib.sha256(held["manifest"].encode()).hexdigest()
        path.write_text(json.dumps(whole))

    return in_place


def largest(step: Path) -> Path:
    """The largest file, which holds arrays."""
    return max((p for p in step.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


def any_leaf(stated: dict) -> dict:
    """The manifest's entry of one leaf."""
    return next(leaf for leaf in stated["leaves"].values() if leaf["shape"])


MANIFESTS = {
    "step": lambda m: m.update(step=5),
    "step-text": lambda m: m.update(step="10"),
    "step-negative": lambda m: m.update(step=-1),
    "step-beyond": lambda m: m.update(step=10**9),
    "step-missing": lambda m: m.pop("step") and None,
    "layout-newer": lambda m: m.update(layout=99),
    "layout-text": lambda m: m.update(layout="one"),
    "layout-missing": lambda m: m.pop("layout") and None,
    "config": lambda m: m["config"].update(model="decoder"),
    "config-missing": lambda m: m.pop("config") and None,
    "config-list": lambda m: m.update(config=[]),
    "leaves-empty": lambda m: m.update(leaves={}),
    "leaves-list": lambda m: m.update(leaves=[]),
    "leaf-missing": lambda m: m["leaves"].popitem() and None,
    "leaf-more": lambda m: m["leaves"].update(x=any_leaf(m)),
    "leaf-digest": lambda m: any_leaf(m).update(digest="0" * 64),
    "leaf-shape": lambda m: any_leaf(m).update(shape=[1, 2, 3]),
    "leaf-type": lambda m: any_leaf(m).update(dtype="bfloat16"),
    "list": lambda m: [m],
    "more": lambda m: m.update(written_by="somebody"),
}  # fmt: skip


def renamed(name: str) -> Callable[[list[Path]], object]:
    """Rename the newest step."""
    return lambda steps: os.rename(steps[-1], steps[-1].with_name(name))


def every(change: Callable[[Path], object]) -> Callable[[list[Path]], object]:
    """Apply a change to all steps."""
    return lambda steps: [change(step) for step in steps]


def newest(change: Callable[[Path], object]) -> Callable[[list[Path]], object]:
    """Apply a change to the newest step."""
    return lambda steps: change(steps[-1])


def spoil(step: Path) -> None:
    """Flip one bit of the arrays."""
    put(largest(step), flipped(largest(step).read_bytes()))


def exchange(one: Path, other: Path) -> None:
    """Swap the names of two entries."""
    between = one.with_name("between")
    os.rename(one, between)
    os.rename(other, one)
    os.rename(between, other)


def exchange_below(steps: list[Path]) -> None:
    """Swap the arrays of two steps, not their manifests."""
    exchange(steps[0], steps[-1])
    exchange(steps[0] / METADATA, steps[-1] / METADATA)


ATTACKS = [
    attack("sound", set_up=trained(), wanted="right"),
    *(attack(f"manifest-{name}", set_up=trained(manifest(change)))
      for name, change in MANIFESTS.items()),
    attack("renamed-later", set_up=trained(renamed("00000039"))),
    attack("renamed-earlier", set_up=trained(renamed("00000005"))),
    attack("renamed-to-the-end", set_up=trained(renamed("00000040"))),
    attack("renamed-beyond", set_up=trained(renamed("99999999"))),
    attack("renamed-oddly", set_up=trained(renamed("1e1"))),
    attack("copied-as-later", set_up=trained(newest(
        lambda step: shutil.copytree(step, step.with_name("00000039"))))),
    attack("steps-exchanged", set_up=trained(lambda steps: exchange(steps[0], steps[-1]))),
    attack("numbers-exchanged", set_up=trained(lambda steps: exchange_below(steps))),
    attack("one-bit", set_up=trained(newest(spoil))),
    attack("one-bit-in-all", set_up=trained(every(spoil))),
    attack("cut", set_up=trained(newest(lambda s: os.truncate(largest(s), 10)))),
    attack("metadata-missing", set_up=trained(newest(lambda s: put(s / METADATA, None)))),
    attack("metadata-empty", set_up=trained(newest(lambda s: put(s / METADATA, b"")))),
    attack("metadata-deep", set_up=trained(newest(lambda s: put(s / METADATA, b"[" * 200_000)))),
    attack("metadata-list", set_up=trained(newest(lambda s: put(s / METADATA, b"[]")))),
    *(attack(f"metadata-{kind}", set_up=trained(newest(
        lambda s, kind=kind: other_kind(s / METADATA, kind))))
      for kind in ("fifo", "directory", "loop")),
    *(attack(f"numbers-{kind}", set_up=trained(newest(
        lambda s, kind=kind: other_kind(largest(s), kind))))
      for kind in ("fifo", "directory", "loop", "empty")),
    attack("step-is-a-file", set_up=trained(newest(lambda s: put(s, b"x")))),
    attack("step-is-a-fifo", set_up=trained(newest(lambda s: (put(s, None), os.mkfifo(s))))),
    attack("step-is-a-loop", set_up=trained(newest(
        lambda s: (put(s, None), s.symlink_to(s.name))))),
    attack("step-is-empty", set_up=trained(newest(lambda s: (put(s, None), s.mkdir())))),
    attack("directory-is-a-file", set_up=trained(newest(lambda s: put(s.parent, b"x")))),
    attack("directory-is-a-fifo", set_up=trained(newest(
        lambda s: (put(s.parent, None), os.mkfifo(s.parent))))),
    attack("left-over", set_up=trained(newest(
        lambda s: s.with_name("00000039.orbax-checkpoint-tmp-1").mkdir())), wanted="right"),
    attack("left-over-file", set_up=trained(newest(
        lambda s: s.with_name("00000030.removed").write_text("x")))),
    attack("of-another-training", words=("run", "decoder", "jit"), set_up=trained(),
           wanted="refused"),
]  # fmt: skip
