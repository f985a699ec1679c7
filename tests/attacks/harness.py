"""Runs attacks, reports how each ended, and prints the table; from `tests/`, see `--help`."""

import argparse
import importlib
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path

from attacks.attack import OUTCOMES, Attack, Ended, classify
from attacks.forks import Forks
from attacks.shared import Shared
from attacks.trees import changed, snapshot

AREAS = (
    *("configs", "weights", "ggufs", "tokens", "templates", "stops", "adapters", "rows", "runs"),
    *("checkpoints", "environments", "flags", "yamls", "images", "moments"),
    *("sharing", "volumes"),
)
"""Modules of this package, each with a list `ATTACKS`."""


class Suite:
    """Runs attacks one after the other.

    Args:
        place: a directory for everything that is written.
        forks: where their processes come from.
        keep: whether to keep the attacks' directories.
    """

    def __init__(self, place: Path, forks: Forks, *, keep: bool = False):
        self.place, self.forks, self.keep = place, forks, keep
        self.shared = Shared(place / "shared", forks)

    def run(self, attack: Attack) -> Ended:
        """Set up an attack in its own directory, run its command and look for changed files."""
        here = Path(tempfile.mkdtemp(prefix=f"{attack.area}-", dir=self.place))
        streams = {name: self.place / f"{here.name}.{name}" for name in ("out", "err")}
        try:
            attack.set_up(here, self.shared)
            before = snapshot(here)
            order = dict(attack.order)
            if "command" in order:
                order["command"] = [word.format(here=here) for word in order["command"]]
            else:
                words = [word.replace("{here}", str(here)) for word in attack.words]
                order |= {"main": attack.main, "words": words}
            places = {name: str(path) for name, path in streams.items()}
            how = self.forks.run(cwd=str(here), seconds=attack.seconds, **{**places, **order})
            out, err = (
                path.read_text(errors="replace") if path.exists() else ""
                for path in streams.values()
            )
            allowed = attack.writes if how["status"] == 0 else ()
            harm = [name for name in changed(before, here, allowed)
                    if not any(fnmatch(name, pattern) for pattern in attack.own)]  # fmt: skip
            return self._ended(attack, Ended(
                here, self.shared, how["status"], out, err, how["cpu"], how["peak"],
                how["killed"], harm,
            ))  # fmt: skip
        finally:
            if not self.keep:
                shutil.rmtree(here, ignore_errors=True)
                for path in streams.values():
                    path.unlink(missing_ok=True)

    def _ended(self, attack: Attack, ended: Ended) -> Ended:
        # Classified while the files are still there.
        self.last = classify(attack, ended, self.shared.baseline)
        return ended

    def outcome(self, attack: Attack) -> tuple[str, str]:
        """Run an attack and return how it ended, see `classify`."""
        self.run(attack)
        return self.last


def all_attacks(areas: Iterable[str] = AREAS) -> list[Attack]:
    """Return the attacks of some areas; names are unique."""
    attacks = [
        attack for area in areas for attack in importlib.import_module(f"attacks.{area}").ATTACKS
    ]
    twice = [name for name, n in Counter((a.area, a.name) for a in attacks).items() if n > 1]
    assert not twice, twice
    return attacks


def table(found: list[tuple[Attack, str, str]]) -> str:
    """Format a table of how many attacks of each area had which outcome."""
    areas = list(dict.fromkeys(attack.area for attack, _, _ in found))
    rows = [["area", "tried", *OUTCOMES]]
    for name, area in [*((area, area) for area in areas), ("all", None)]:
        kinds = Counter(kind for attack, kind, _ in found if area in (None, attack.area))
        rows.append([name, str(sum(kinds.values())), *(str(kinds[kind]) for kind in OUTCOMES)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(
            zip(row, widths, strict=True)))
        for row in rows
    )  # fmt: skip


def main() -> None:
    """Run the attacks asked for, print a line for each, then the table; exit with 1 on a fault."""
    parser = argparse.ArgumentParser(prog="python -m attacks.harness", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="only those that the test suite runs")
    parser.add_argument("--areas", nargs="*", default=AREAS, choices=AREAS)
    parser.add_argument("--only", default="", help="only attacks with this text in area/name")
    parser.add_argument("--list", action="store_true", help="list the attacks, run none")
    parser.add_argument("--keep", type=Path, help="keep all files in this directory")
    asked = parser.parse_args()
    attacks = [a for a in all_attacks(asked.areas) if a.quick or not asked.quick]
    attacks = [a for a in attacks if asked.only in f"{a.area}/{a.name}"]
    if asked.list:
        print("\n".join(f"{a.area}/{a.name}: {a.wanted}" for a in attacks))
        return
    found = []
    with tempfile.TemporaryDirectory() as place:
        where = asked.keep or Path(place)
        where.mkdir(parents=True, exist_ok=True)
        with Forks(where.resolve(), where.resolve() / "compiled") as forks:
            suite = Suite(where.resolve(), forks, keep=asked.keep is not None)
            for attack in attacks:
                try:
                    kind, why = suite.outcome(attack)
                except Exception as error:  # in the attack itself: run the others all the same
                    kind, why = "other", f"cannot be run: {type(error).__name__}: {error}"
                found.append((attack, kind, why))
                print(f"{kind:16}{attack.area}/{attack.name}: {why[:300]}", flush=True)
    print("\n" + table(found))
    if any(kind not in ("right", "refused") for _, kind, _ in found):
        sys.exit(1)


if __name__ == "__main__":
    main()
