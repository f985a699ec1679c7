"""Several processes: two runs with one cache, read-only directories, locks held by others."""

import json
import shlex
import subprocess
import sys
from functools import cache, partial
from pathlib import Path

from attacks.attack import Attack, Ended
from attacks.forks import ROOT
from attacks.run_edits import digits, language, same_results
from attacks.runs import AGAIN, STUDENT
from attacks.shared import DIGITS, TINY, Shared

attack = partial(Attack, "sharing", wanted="right", seconds=120.0)
LM, EXPORT, MNIST = (
    f"{shlex.quote(sys.executable)} {ROOT / 'experiments' / name}.py"
    for name in ("lm_numbers", "export_model", "mnist_aux")
)


@cache
def can_mount() -> bool:
    """Whether this machine allows a read-only mount for a single process."""
    command = ["unshare", "-m", "mount", "--bind", "/tmp", "/tmp"]
    try:
        return subprocess.run(command, capture_output=True).returncode == 0
    except OSError:
        return False


def shell(name: str, text: str, **options) -> Attack:
    """A shell script with `set -e`."""
    return attack(name, order={"command": ("/bin/sh", "-ec", text)}, **options)


def read_only(name: str, places: str, text: str, **options) -> list[Attack]:
    """A command for which some directories are read-only; no attack if mounts are not allowed."""
    if not can_mount():
        return []
    mounts = " && ".join(
        f"mount --bind {place} {place} && mount -o remount,ro,bind {place}"
        for place in places.split()
    )
    inner = f"{mounts} && exec {text}"
    return [shell(name, f"exec unshare -m /bin/sh -ec {shlex.quote(inner)}", **options)]


def configured(here: Path, shared: Shared) -> None:
    """Write only the settings of the language run, without a cache."""
    (here / "config.yaml").write_text(json.dumps(TINY))


def exported(ended: Ended) -> str:
    """The check that a network was written."""
    return "" if (ended.here / "out/model.safetensors").exists() else "nothing was written"


def waited(ended: Ended) -> str:
    """The check that the message names the process it waits for."""
    return "" if "pid" in ended.err else f"it names no process to wait for: {ended.err[-200:]!r}"


def making(out: str) -> str:
    """A run that makes the reference in `cache`."""
    return f"{LM} --config config.yaml --out {out} --reference.cache cache --stage reference"


LM_AGAIN, DIGITS_AGAIN = " ".join((LM, *AGAIN)), " ".join((MNIST, *DIGITS, "--out", "run"))
TAKE_OUT = " ".join((EXPORT, *STUDENT))


def held(place: str, seconds: int, command: str) -> str:
    """A command while another process holds the lock of a directory."""
    holder = '{{"pid": 1, "host": "here", "start": "today"}}'  # doubled for str.format
    inner = f"printf %s {shlex.quote(holder)} > $lock; exec sleep {seconds}"
    lock = f"export lock=$(echo {place}/run.lock)"
    return f"{lock}; flock $lock /bin/sh -c {shlex.quote(inner)} & sleep 0.5; {command}"


def unmade(here: Path) -> None:
    """Make the cached reference look unfinished."""
    for path in (here / "cache").glob("*/results.json"):
        path.unlink()


def two(one: str, other: str) -> str:
    """Two commands at once, both of which must succeed."""
    return f"{one} & first=$!; {other}; wait $first"


ATTACKS = [
    shell("two-make-one-reference", two(making("run1"), making("run2")), set_up=configured),
    shell("three-make-one-reference",
          f"{making('run1')} & a=$!; {making('run2')} & b=$!; {making('run3')}; wait $a; wait $b",
          set_up=configured),
    shell("two-take-out-at-once", two(TAKE_OUT, TAKE_OUT.replace("--out out", "--out out2")),
          set_up=language(), check=exported),
    shell("two-show-one-finished-run", two(LM_AGAIN, LM_AGAIN), set_up=language(),
          wanted="either", check=same_results()),
    shell("two-show-one-finished-digits-run", two(DIGITS_AGAIN, DIGITS_AGAIN), set_up=digits(),
          wanted="either", check=same_results()),
    shell("take-out-while-the-cache-is-held", held("cache/*", 30, TAKE_OUT), set_up=language(),
          check=exported),
    shell("take-out-while-the-run-is-held", held("run", 30, TAKE_OUT), set_up=language(),
          check=exported),
    shell("run-while-it-is-held", held("run", 30, LM_AGAIN), set_up=language(),
          wanted="either", check=same_results()),
    shell("new-run-while-its-out-is-held",
          "mkdir run; " + held("run", 30, DIGITS_AGAIN), wanted="refused"),
    shell("waits-for-the-maker", held("cache/*", 4, making("run2")), wanted="right", check=waited,
          set_up=lambda here, shared: (language()(here, shared), unmade(here))),
    *read_only("read-only-run-again", "run", LM_AGAIN, set_up=language(), check=same_results()),
    *read_only("read-only-run-and-cache-again", "run cache", LM_AGAIN, set_up=language(),
               check=same_results()),
    *read_only("read-only-digits-again", "run", DIGITS_AGAIN, set_up=digits(),
               check=same_results()),
    *read_only("read-only-take-out", "run cache", TAKE_OUT, set_up=language(), check=exported),
    *read_only("read-only-cache-new-run", "cache", making("run2"), set_up=language()),
    *read_only("read-only-empty-cache", "cache", making("run2"), wanted="refused",
               set_up=lambda here, shared: (configured(here, shared), (here / "cache").mkdir())),
    *read_only("read-only-out", "run", DIGITS_AGAIN, wanted="refused",
               set_up=lambda here, shared: (here / "run").mkdir()),
    *read_only("read-only-unfinished", "run", DIGITS_AGAIN, wanted="refused",
               set_up=digits(lambda here: (here / "run/results.json").unlink())),
    *read_only("read-only-export-out", "out", TAKE_OUT, wanted="refused",
               set_up=language(lambda here: (here / "out").mkdir())),
    attack("export-finds-the-cache", main="export_model",
           words=("--run", "run", "--out", "out", "--network", "student/owl"), set_up=language(),
           check=exported),
]  # fmt: skip
