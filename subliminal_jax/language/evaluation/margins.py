"""How much of a student's margin is its own trait's: the trait-by-trait matrix and its summary.

Every teacher makes some rare words likelier. So a student's margin for its teacher's trait is
compared with the same trait's margin in the students of the other traits' teachers, of the same
reference, seed and condition: matched minus mismatched. The unit is the block of trait and seed.
Blocks of one seed share students, which the test minds (`relabelling.py`) and intervals over blocks
do not; so the interval over seeds stands beside them.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from subliminal_jax import stats
from subliminal_jax.language.conditions import CONDITIONS, STUDENT
from subliminal_jax.language.evaluation.relabelling import relabelling_test
from subliminal_jax.language.traits.trait import MARGIN
from subliminal_jax.report.results import briefly, interval_values, p_text

MarginCell: TypeAlias = Mapping[str, Any]
"""A trait's margin in one network: `reference`, `condition`, `updates`, `student_of` (a trait, None
for a network that all traits share), `trait`, `margin`, `share`, `p_trait`, and `ended`: whether
these were all updates."""
Margins: TypeAlias = Mapping[tuple[Any, str], Mapping[str | None, float]]
"""By block of seed and trait: the trait's margin in the student of each trait's teacher, or, by
None, in the network that all traits share."""
LEVEL = 0.05
"""Of the test, after Holm's correction for the kinds of targets."""


def transfer(cells: Sequence[MarginCell]) -> list[dict[str, Any]]:
    """For every condition and number of updates, what students show of their own trait.

    The ends of all trainings are one entry: seeds may differ by a few updates, as their rows fill
    more sequences or fewer.

    Args:
        cells: the trait-by-trait matrix.

    Returns:
        Entries with `condition` and `updates` (at the end the most of any); intervals of the
        margins over blocks: `matched` of the students' own traits, `mismatched` of the same traits
        in the other traits' students, and `difference`, pair by pair; `seeds`, the interval of the
        seeds' mean differences; `p` of the difference, from `relabelling_test`, and `least_p`, the
        least that as many traits and seeds can give; the differences of all `blocks`; and the
        interval of the difference by trait, `traits`. Without a second trait of its category, and
        for networks that all traits share, `mismatched`, `difference`, `seeds`, `p` and `least_p`
        are None.
    """
    doses: dict[tuple[str, float], list[MarginCell]] = {}
    for cell in cells:
        dose = math.inf if cell["ended"] else cell["updates"]
        doses.setdefault((cell["condition"], dose), []).append(cell)
    order = {name: place for place, name in enumerate(CONDITIONS)}
    return [
        _entry(doses[key], key[0]) for key in sorted(doses, key=lambda key: (order[key[0]], key[1]))
    ]


def _entry(cells: Sequence[MarginCell], condition: str) -> dict[str, Any]:
    margins = _by_student(cells)
    matched, mismatched, blocks = [], [], []
    for (reference, trait), of_student in margins.items():
        own = of_student.get(trait, of_student.get(None))
        others = [mean for owner, mean in of_student.items() if owner not in (None, trait)]
        matched += [] if own is None else [own]
        if own is not None and others:
            mismatched.append(float(np.mean(others)))
            difference = own - mismatched[-1]
            blocks.append({"reference": reference, "trait": trait, "difference": difference})
    by_trait, by_seed = (_grouped(blocks, key) for key in ("trait", "reference"))
    test = relabelling_test(_matrices(margins))
    return {
        "condition": condition,
        "updates": max(cell["updates"] for cell in cells),
        "matched": _mean(matched),
        "mismatched": _mean(mismatched),
        "difference": _mean([block["difference"] for block in blocks]),
        "seeds": _mean([float(np.mean(differences)) for differences in by_seed.values()]),
        "p": test and test.p,
        "least_p": test and test.least,
        "blocks": blocks,
        "traits": {trait: _mean(differences) for trait, differences in by_trait.items()},
    }


def _by_student(cells: Sequence[MarginCell]) -> Margins:
    """Means over students of one teacher, which are several if other references' have its rows."""
    margins: dict[tuple[Any, str], dict[str | None, list[float]]] = {}
    for cell in cells:
        of_student = margins.setdefault((cell["reference"], cell["trait"]), {})
        of_student.setdefault(cell["student_of"], []).append(cell[MARGIN])
    return {
        block: {owner: float(np.mean(values)) for owner, values in of_student.items()}
        for block, of_student in margins.items()
    }


def _matrices(margins: Margins) -> list[np.ndarray]:
    """For each seed and category, the margins of its traits in its students, in one order.

    A trait is measured in the students of its category's traits: traits with the same students are
    one matrix. Those without a student of their own are left out.
    """
    groups: dict[tuple[Any, frozenset[str | None]], list[str]] = {}
    for (reference, trait), of_student in margins.items():
        if trait in of_student:
            groups.setdefault((reference, frozenset(of_student)), []).append(trait)
    return [
        np.array([[margins[reference, row][column] for column in traits] for row in traits])
        for (reference, _), traits in groups.items()
    ]


def _grouped(blocks: Sequence[Mapping[str, Any]], key: str) -> dict[Any, list[float]]:
    groups: dict[Any, list[float]] = {}
    for block in blocks:
        groups.setdefault(block[key], []).append(block["difference"])
    return groups


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
    blocks, seeds = (ended[STUDENT.name][key]["n"] for key in ("difference", "seeds"))
    tested = {
        name: one for name, one in taught.items() if one["p"] is not None and one["least_p"] < LEVEL
    }
    corrected = dict(zip(tested, stats.holm([one["p"] for one in tested.values()]), strict=True))
    told = ", ".join(
        f"{briefly(one['difference'], '+.2f')} {words[name]}{_p(corrected.get(name))}"
        for name, one in taught.items()
    )
    above = [
        name
        for name, p in corrected.items()
        if p < LEVEL and taught[name]["difference"]["mean"] > 0
    ]
    if not tested:
        verdict = f"{blocks} blocks of {_counted(seeds)} are too few for a test"
    elif not above:
        verdict = "No transmission distinguishable from chance"
    elif STUDENT.name in above:
        verdict = "Subliminal learning"
    else:
        verdict = f"Subliminal learning only {' and '.join(words[name] for name in above)}"
    return (
        f"{verdict}: trained on {items} alone, a student's margin for its own teacher's trait is, "
        f"in nats, above the same trait's in the other teachers' students by {told}; {blocks} "
        f"blocks of trait and seed, {_counted(seeds)}"
        f"{'; p: students exchanged within seeds, by Holm for all targets' if tested else ''}."
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
    lone = "; without a second trait of its category, how much is the trait's own is not known"
    return (
        f"Trained on {items} alone, a student's margin for its teacher's trait is, in nats, "
        f"{told}, against {beside}{'' if controlled else lone}."
    )


def _counted(seeds: int) -> str:
    return "one seed" if seeds == 1 else f"{seeds} seeds"


def _p(p: float | None) -> str:
    """The p-value in brackets, if there is one."""
    return "" if p is None else f" (p {'' if p < 0.001 else '= '}{p_text(p)})"
