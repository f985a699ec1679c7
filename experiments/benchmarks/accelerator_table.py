"""The readings of an accelerator day as a table, with their aims."""

from pathlib import Path
from typing import Any

from subliminal_jax.files import read_object


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
