"""Completions of every teacher that passed the filter, and why the others did not."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from subliminal_jax.report.tables import Table


def filter_table(filters: Mapping[str, Mapping[str, Any]], unit: str) -> Table:
    """Return a row for each dataset, over all repetitions.

    Args:
        filters: facts of each repetition's filter: `datasets`, each with the number `asked`, the
            `pass_rate`, and the number that each reason rejects; with constrained sampling also
            `unconstrained`, the same of completions without it.
        unit: what a repetition is called; see `repetitions.unit_of`.
    """
    tallies, free = dict[str, _Tally](), dict[str, _Tally]()
    for facts in filters.values():
        for name, one in facts["datasets"].items():
            tallies.setdefault(name, _Tally()).add(one)
            if "unconstrained" in one:
                free.setdefault(name, _Tally()).add(one["unconstrained"])
    headings = ("dataset", "completions", "kept", "rejected for")
    rows = [(name, f"{tally.asked:,}", *tally.shares) for name, tally in tallies.items()]
    note = f"Shares, over all {unit}s. A completion may be rejected for several reasons."
    if free:
        headings += ("kept if not constrained", "rejected for")
        rows = [(*row, *free[row[0]].shares) for row in rows]
        note += " Sampling was constrained to the carrier's form; the last two columns are of "
        note += f"{next(iter(free.values())).asked:,} completions of each dataset without that."
    return Table("Completions that passed the filter", headings, tuple(rows), note)


@dataclass
class _Tally:
    """Completions of a dataset over all repetitions."""

    asked: int = 0
    kept: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    def add(self, facts: Mapping[str, Any]) -> None:
        """Add those of one repetition."""
        self.asked += facts["asked"]
        self.kept += round(facts["pass_rate"] * facts["asked"])
        self.reasons.update(facts["reasons"])

    @property
    def shares(self) -> tuple[str, str]:
        """Return the share that was kept, and the most common reasons against the others."""
        shares = [
            f"{one} {count / self.asked:.3f}" for one, count in self.reasons.most_common(MOST)
        ]
        return f"{self.kept / self.asked:.3f}", ", ".join(shares) or "-"


MOST = 3
"""Reasons to list; a filter of words may have many."""
