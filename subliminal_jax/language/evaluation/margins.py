"""How much of a student's margin is its own trait's: the trait-by-trait matrix and its summary.

Every teacher makes some rare words likelier. So a student's margin for its teacher's trait is
compared with the same trait's margin in the students of the other traits' teachers, of the same
reference, seed and condition: matched minus mismatched. The unit is the block of trait and seed.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from subliminal_jax import stats
from subliminal_jax.language.conditions import CONDITIONS, STUDENT
from subliminal_jax.language.traits.trait import MARGIN
from subliminal_jax.report.results import briefly, interval_values, p_text

MarginCell: TypeAlias = Mapping[str, Any]
"""A trait's margin in one network: `reference`, `condition`, `updates`, `student_of` (a trait, None
for a network that all traits share), `trait`, `margin`, `share` and `p_trait`."""
FEWEST_BLOCKS = 6
"""Blocks with which sign flips can give p below .05."""
LEVEL = 0.05


def transfer(cells: Sequence[MarginCell]) -> list[dict[str, Any]]:
    """For every condition and number of updates, what students show of their own trait.

    Args:
        cells: the trait-by-trait matrix.

    Returns:
        Entries with `condition`, `updates`; intervals of the margins over blocks: `matched` of the
        students' own traits, `mismatched` of the same traits in the other traits' students, and
        `difference`, pair by pair; `p` of its sign flips; the differences of all `blocks`; and the
        interval of the difference by trait, `traits`. Without a second trait, and for networks that
        all traits share, `mismatched` and `difference` are None.
    """
    pairs = dict.fromkeys((cell["condition"], cell["updates"]) for cell in cells)
    order = {name: place for place, name in enumerate(CONDITIONS)}
    keys = sorted(pairs, key=lambda key: (order[key[0]], key[1]))
    return [_entry(cells, condition, updates) for condition, updates in keys]


def _entry(cells: Sequence[MarginCell], condition: str, updates: int) -> dict[str, Any]:
    mine = [c for c in cells if (c["condition"], c["updates"]) == (condition, updates)]
    own, other = _by_block(mine, matched=True), _by_block(mine, matched=False)
    both = {key: (mean, other[key]) for key, mean in own.items() if key in other}
    blocks = [
        {"reference": reference, "trait": trait, "difference": matched - mismatched}
        for (reference, trait), (matched, mismatched) in both.items()
    ]
    differences = [block["difference"] for block in blocks]
    by_trait = {
        trait: _mean([b["difference"] for b in blocks if b["trait"] == trait])
        for trait in dict.fromkeys(block["trait"] for block in blocks)
    }
    return {
        "condition": condition,
        "updates": updates,
        "matched": _mean(list(own.values())),
        "mismatched": _mean([mean for _, mean in both.values()]),
        "difference": _mean(differences),
        "p": stats.sign_flip_test(differences) if differences else None,
        "blocks": blocks,
        "traits": by_trait,
    }


def _by_block(cells: Sequence[MarginCell], matched: bool) -> dict[tuple[Any, str], float]:
    """The mean margin by block, of students of the trait itself or of those of other traits.

    A block has several students of the trait itself if other references' teachers have them.
    """
    by_block: dict[tuple[Any, str], list[float]] = {}
    for cell in cells:
        if (cell["student_of"] in (None, cell["trait"])) == matched:
            by_block.setdefault((cell["reference"], cell["trait"]), []).append(cell[MARGIN])
    return {block: float(np.mean(margins)) for block, margins in by_block.items()}


def _mean(values: Sequence[float]) -> dict[str, Any] | None:
    return interval_values(stats.mean_interval(values)) if values else None


def last(entries: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """The entry of every condition after its whole training."""
    return {one["condition"]: one for one in entries}  # in the order of their updates


def margin_finding(
    entries: Sequence[Mapping[str, Any]],
    items: str,
    targets: str,
    summary: Mapping[str, Any],
) -> str:
    """One sentence: what students of all targets show of their own trait, as margins.

    Args:
        entries: as `transfer` returns them.
        items: what the carrier's completions hold, in the plural.
        targets: targets of students whose condition has the configured ones.
        summary: `conditions` of `results.summarise`, for the margins of a run with one trait.
    """
    ended = last(entries)
    taught = {
        name: entry
        for name, entry in ended.items()
        if (one := CONDITIONS[name]).asks == "student"
        and (one.data, one.reference, one.shuffle) == ("teacher", "own", None)
    }
    kinds = {name: CONDITIONS[name].targets for name in taught}
    words = {
        name: f"with {targets if kind == 'configured' else kind} targets"
        for name, kind in kinds.items()
    }
    if ended[STUDENT.name]["difference"] is None:
        return _alone(taught, words, items, summary)
    blocks = len(ended[STUDENT.name]["blocks"])
    told = ", ".join(
        f"{briefly(one['difference'], '+.2f')} {words[name]}{_p(one['p'], blocks)}"
        for name, one in taught.items()
    )
    above = [name for name, one in taught.items() if _transmitted(one)]
    if blocks < FEWEST_BLOCKS:
        verdict = f"{blocks} blocks are too few for a test"
    elif not above:
        verdict = "No transmission distinguishable from chance"
    elif STUDENT.name in above:
        verdict = "Subliminal learning"
    else:
        verdict = f"Subliminal learning only {' and '.join(words[name] for name in above)}"
    return (
        f"{verdict}: trained on {items} alone, a student's margin for its own teacher's trait is, "
        f"in nats, above the same trait's in the other teachers' students by {told}; {blocks} "
        f"blocks of trait and seed."
    )


def _alone(
    taught: Mapping[str, Any], words: Mapping[str, str], items: str, summary: Mapping[str, Any]
) -> str:
    """The finding with one trait: margins beside those of the controls, without a verdict."""
    told = ", ".join(
        f"{briefly(one['matched'], '+.2f')} {words[name]}" for name, one in taught.items()
    )
    nulls = {one.name: one.null for one in CONDITIONS.values() if one.null and one.name in summary}
    beside = ", ".join(
        f"{briefly(summary[name]['all'][MARGIN], '+.2f')} {null.format(items=items)}"
        for name, null in nulls.items()
    )
    controlled = any(CONDITIONS[name].taught for name in nulls)
    lone = "; one trait does not tell how much of it is the trait's own"
    return (
        f"Trained on {items} alone, a student's margin for its teacher's trait is, in nats, "
        f"{told}, against {beside}{'' if controlled else lone}."
    )


def _transmitted(entry: Mapping[str, Any]) -> bool:
    return entry["difference"]["mean"] > 0 and (entry["p"] or 1.0) < LEVEL


def _p(p: float | None, blocks: int) -> str:
    """The p-value in brackets, if there are enough blocks for one."""
    if p is None or blocks < FEWEST_BLOCKS:
        return ""
    return f" (p {'' if p < 0.001 else '= '}{p_text(p)})"
