"""Completions of every teacher that passed the filter, and why the others did not."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from subliminal_jax.report.tables import Table


def filter_table(filters: Mapping[str, Mapping[str, Any]]) -> Table:
    """Return a row for each dataset, over all references.

    Args:
        filters: facts of each reference's filter: `datasets`, each with the number `asked`, the
            `pass_rate`, and the number that each reason rejects.
    """
    asked, kept = Counter[str](), Counter[str]()
    reasons: dict[str, Counter[str]] = {}
    for facts in filters.values():
        for name, found in facts["datasets"].items():
            asked[name] += found["asked"]
            kept[name] += round(found["pass_rate"] * found["asked"])
            reasons.setdefault(name, Counter()).update(found["reasons"])
    return Table(
        "Completions that passed the filter",
        ("dataset", "completions", "kept", "rejected for"),
        tuple(
            (name, f"{count:,}", f"{kept[name] / count:.3f}", _shares(reasons[name], count))
            for name, count in asked.items()
        ),
        "Shares, over all references. A completion may be rejected for several reasons.",
    )


MOST = 3
"""Reasons to list; a filter of words may have many."""


def _shares(reasons: Counter[str], count: int) -> str:
    """Return the most common reasons with their shares of all completions."""
    listed = [f"{reason} {found / count:.3f}" for reason, found in reasons.most_common(MOST)]
    return ", ".join(listed) or "-"
