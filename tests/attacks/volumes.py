"""File systems that run out of bytes or inodes during a write."""

from functools import partial

from attacks.attack import Attack
from attacks.edits import SetUp
from attacks.run_edits import language
from attacks.runs import STUDENT
from attacks.shared import DIGITS
from attacks.sharing import EXPORT, LM, MNIST, can_mount, configured

attack = partial(Attack, "volumes", statuses=(2,), seconds=60.0)


def full(name: str, options: str, place: str, text: str, **more) -> list[Attack]:
    """A command that writes into its own small file system; no attack if mounts are not allowed."""
    if not can_mount():
        return []
    inner = f"mount -t tmpfs -o {options} tmpfs {place} && exec {text}"
    command = ("unshare", "-m", "/bin/sh", "-ec", inner)
    return [attack(name, order={"command": command}, **more)]


def place(name: str, source: SetUp | None = None) -> SetUp:
    """An empty directory to mount on, beside what `source` makes."""

    def set_up(here, shared):
        if source is not None:
            source(here, shared)
        (here / name).mkdir(exist_ok=True)

    return set_up


NEW, TAKE_OUT = " ".join((MNIST, *DIGITS, "--out", "run")), " ".join((EXPORT, *STUDENT))
PRETRAIN = f"{LM} --config config.yaml --out run --reference.cache cache --stage reference"

ATTACKS = [
    *(one for size in ("4k", "16k", "64k", "128k") for one in full(
        f"digits-{size}", f"size={size}", "run", NEW, set_up=place("run"))),
    *(one for count in (2, 4, 6, 8) for one in full(
        f"digits-{count}-files", f"nr_inodes={count}", "run", NEW, set_up=place("run"))),
    *(one for size in ("4k", "64k") for one in full(
        f"export-{size}", f"size={size}", "out", TAKE_OUT, set_up=place("out", language()))),
    *full("export-3-files", "nr_inodes=3", "out", TAKE_OUT, set_up=place("out", language())),
    *(one for size in ("4k", "64k") for one in full(
        f"cache-{size}", f"size={size}", "cache", PRETRAIN, set_up=place("cache", configured))),
    *full("cache-5-files", "nr_inodes=5", "cache", PRETRAIN, set_up=place("cache", configured)),
    *full("temporary-files", "size=4k", "tmp", f"env TMPDIR=tmp {NEW}", set_up=place("tmp"),
          wanted="right"),
]  # fmt: skip
