"""Tables and pictures of margins: matched minus mismatched, trait by trait, and the ladder."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from subliminal_jax.report.page import Block, Picture
from subliminal_jax.report.results import briefly, p_text
from subliminal_jax.report.tables import Table

BLOCKS = (
    "In nats. Matched: of a student's own trait; mismatched: of the same trait in the students of "
    "the other traits' teachers. 95% intervals: Student's t over blocks of trait and seed, which n "
    "counts, as if the blocks of a seed, which share students, were independent; over seeds: of "
    "the seeds' mean differences. p: two-sided, students exchanged within seeds, not corrected; in "
    "parentheses the least p that as many traits and seeds can give."
)


def margin_blocks(results: Mapping[str, Any]) -> list[Block]:
    """The figures and tables of margins for the page; empty for a run without them."""
    if "transfer" not in results:
        return []
    ladder = results["config"]["student"]["ladder"]
    return [
        Picture("margins", "The margin of the trait in its own and in other traits' students."),
        *([Picture("ladder", "Margins against updates of one training.")] if ladder else []),
        transfer_table(results),
        *_traits_tables(results),
    ]


def transfer_table(results: Mapping[str, Any]) -> Table:
    """Matched minus mismatched margins of every condition and number of updates."""
    return Table(
        "Margins, matched minus mismatched",
        ("condition", "updates", "matched", "mismatched", "difference", "over seeds", "p", "n"),
        tuple(
            (
                *(one["condition"], f"{one['updates']:,}", _told(one["matched"])),
                *(_told(one["mismatched"]), _told(one["difference"]), _told(one["seeds"])),
                *(_p_and_least(one), str(one["matched"]["n"])),
            )
            for one in results["transfer"]
        ),
        BLOCKS,
    )


def _traits_tables(results: Mapping[str, Any]) -> list[Table]:
    """For every condition with a student of each trait, the mean margins after training."""
    cells = [cell for cell in results["traits_matrix"] if cell["student_of"] is not None]
    conditions = dict.fromkeys(cell["condition"] for cell in cells)
    return [
        _traits_table(name, [c for c in cells if c["condition"] == name]) for name in conditions
    ]


def _traits_table(condition: str, cells: Sequence[Mapping[str, Any]]) -> Table:
    shown = [cell for cell in cells if cell["ended"]]
    traits = list(dict.fromkeys(cell["trait"] for cell in shown))
    owners = list(dict.fromkeys(cell["student_of"] for cell in shown))

    def mean(owner: str, trait: str) -> str:
        margins = [c["margin"] for c in shown if (c["student_of"], c["trait"]) == (owner, trait)]
        return f"{np.mean(margins):+.2f}" if margins else ""

    return Table(
        f"Margin of every trait in every student: {condition}",
        ("student of", *traits),
        tuple((owner, *(mean(owner, trait) for trait in traits)) for owner in owners),
        "In nats, means over seeds.",
    )


def _p_and_least(one: Mapping[str, Any]) -> str:
    return "-" if one["p"] is None else f"{p_text(one['p'])} ({p_text(one['least_p'])})"


def _told(interval: Mapping[str, Any] | None) -> str:
    return briefly(interval, "+.2f") if interval else "-"
