"""Shares of sampled answers, by network and kind of question."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from subliminal_jax.report.tables import Table
from subliminal_jax.stats import proportion_interval

FORM = {"valid": ("share", "of", "for the carrier's prompts, completions in its form")}
"""As `Trait.tallied`, of the completions of a carrier's prompts."""


def sampled_table(results: Mapping[str, Any]) -> Table:
    """Return the shares of sampled answers, as each trait's `tallied` names them."""
    meanings: dict[str, list[str]] = {}
    for shares in (*results["tallied"].values(), FORM):
        for heading, _, meaning in shares.values():
            meanings.setdefault(heading, []).append(meaning)
    further = [heading for heading in meanings if heading != "share"]
    rows = []
    for label, networks in results["sampled"].items():
        for name, kinds in networks.items():
            for kind, counts in kinds.items():
                trait = name.rpartition(":")[2]
                shares = results["tallied"][trait] if "said" in counts else FORM
                if counts["of"]:
                    rows.append((label, name, kind, *_shares(counts, shares, further)))
    told = (
        f"{heading.capitalize()}: {'; or '.join(dict.fromkeys(several))}."
        for heading, several in meanings.items()
    )
    return Table(
        "Sampled answers",
        (results["unit"], "network:trait", "question", "share", "interval", "n", *further),
        tuple(rows),
        f"{' '.join(told)} Interval: Wilson's, over the n answers of that one network that the "
        "share is of.",
        names=3,
    )


def _shares(
    counts: Mapping[str, int], shares: Mapping[str, Sequence[str]], further: Iterable[str]
) -> tuple[str, ...]:
    """Return the share with its interval and n, and the shares under further headings."""
    parts = {heading: (counts[key], counts[of]) for key, (heading, of, _) in shares.items()}
    said, of = parts["share"]
    known = {heading: f"{part / n:.3f}" for heading, (part, n) in parts.items() if n}
    bounds = proportion_interval(said, of) if of else None
    return (
        known.get("share", "-"),
        f"[{bounds.low:.3f}, {bounds.high:.3f}]" if bounds else "-",
        str(of),
        *(known.get(heading, "") for heading in further),
    )
