"""The accelerator day: runs its parts, each in a process of its own, and shows their readings."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from subliminal_jax.files import read_object

LEAST = 10
"""A part is not started with fewer seconds left."""


def run_parts(
    limits: Mapping[str, int], size: str, out: Path, *, seconds: float, again: bool
) -> None:
    """Run parts in turn, and print how each ended.

    Args:
        limits: the parts, in order -> the most seconds that each may take.
        size: the size of all parts.
        out: directory of their readings and logs.
        seconds: the most that all may take together.
        again: run parts that have finished there, too.
    """
    end = time.monotonic() + seconds
    for part, limit in limits.items():
        readings, left = out / f"{part}.json", min(float(limit), end - time.monotonic())
        if finished(readings) and not again:
            how = "measured before"
        elif left < LEAST:
            how = "no time left"
        else:
            how = run_part(part, size, readings, left)
        print(f"{part}: {how}", flush=True)


def finished(readings: Path) -> bool:
    """Return whether a part has measured all that it measures."""
    return bool((read_object(readings) or {}).get("finished"))


def run_part(part: str, size: str, readings: Path, seconds: float) -> str:
    """Return how a part ended. It writes its readings as it goes, and a log beside them."""
    readings.unlink(missing_ok=True)
    log, start = readings.with_suffix(".log"), time.monotonic()
    command = [sys.executable, "-m", "benchmarks.accelerator", part, size, str(readings)]
    variables = {"XLA_PYTHON_CLIENT_MEM_FRACTION": ".93"} | os.environ
    scripts = str(Path(__file__).resolve().parent.parent)
    variables["PYTHONPATH"] = os.pathsep.join([scripts, *(path for path in sys.path if path)])
    with log.open("wb") as file:
        try:
            done = subprocess.run(command, env=variables, stdout=file, stderr=file, timeout=seconds)
        except subprocess.TimeoutExpired:
            return f"stopped after {seconds:.0f} s; see {log}"
    took = f"{time.monotonic() - start:.0f} s"
    return took if done.returncode == 0 else f"failed after {took}; see {log}"


def default_size() -> str:
    """Return toy on a CPU, else full; another process looks, so that no device is held here."""
    look = [sys.executable, "-c", "import jax; print(jax.default_backend())"]
    backend = subprocess.run(look, capture_output=True, text=True).stdout.strip()
    return "toy" if backend in ("", "cpu") else "full"


def table(out: Path, parts: list[str]) -> str:
    """Return all readings of some parts so far as a table in Markdown."""
    lines = ["| part | reading | value | aim | met | note |", "|---|---|---|---|---|---|"]
    for part in parts:
        record = read_object(out / f"{part}.json") or {"readings": []}
        lines += [row(part, reading) for reading in record["readings"]]
    for part in parts:
        record = read_object(out / f"{part}.json")
        if record is not None:
            packages = " ".join(f"{name} {record['packages'][name]}" for name in ("jax", "flax"))
            ended = "" if record["finished"] else ", not finished"
            lines.append(
                f"{part}: {record['device']}, Python {record['python']}, {packages}, "
                f"{record['date']}, commit {record['git']}{ended}"
            )
    return "\n".join(lines)


def row(part: str, reading: dict[str, Any]) -> str:
    """Return one reading as a row of the table."""
    value, least, most = (reading[name] for name in ("value", "least", "most"))
    bounds = {"at least": least, "at most": most}
    aim = ", ".join(f"{name} {bound:.3g}" for name, bound in bounds.items() if bound is not None)
    low = least is None or value >= least
    met = ("yes" if low and (most is None or value <= most) else "**no**") if aim else ""
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    cells = (part, reading["what"], f"{text} {reading['unit']}".strip(), aim, met, reading["note"])
    return f"| {' | '.join(cells)} |"
