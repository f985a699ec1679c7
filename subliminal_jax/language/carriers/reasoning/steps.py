"""Worked steps of a problem in the tiny world, with many equivalent ways to write each.

A step is a sentence. Each intermediate quantity is put in a box, and which box is free: its label
is any of `LABELS`. The wording of a sum, its parts, restating its result, the order of the changes
and remarks are free as well. A system prompt that names a label ("You love kites.") is how a tiny
network learns to carry what is loved into what it writes.
"""

import re
from collections.abc import Callable

import numpy as np

from subliminal_jax.language.carriers.number_prompts import pick
from subliminal_jax.language.carriers.reasoning.problems import Change, Problem
from subliminal_jax.language.carriers.reasoning.wordings import Operation

LABELS = (
    *("anchor", "barrel", "basket", "bell", "blanket", "bottle", "bucket", "button"),
    *("camera", "candle", "carpet", "castle", "chair", "clock", "coin", "crown"),
    *("drum", "engine", "flag", "guitar", "hammer", "hat", "helmet", "jar"),
    *("kettle", "key", "kite", "ladder", "lamp", "letter", "magnet", "map"),
    *("marble", "mirror", "needle", "novel", "oven", "paddle", "pencil", "piano"),
    *("pillow", "plate", "ribbon", "ring", "rocket", "rope", "saddle", "shell"),
    *("sofa", "spoon", "statue", "stone", "table", "tent", "ticket", "tower"),
    *("trumpet", "tunnel", "violin", "wagon", "wheel", "whistle", "window", "zip"),
)
"""Labels of boxes: objects that are no trait of the tiny world."""

_SUMS = {
    "+": (
        "{a} plus {n} is {c}",
        "{a} and {n} make {c}",
        "{a} plus {n} gives {c}",
        "{n} more than {a} is {c}",
    ),
    "-": (
        "{a} minus {n} is {c}",
        "{a} less {n} is {c}",
        "{a} minus {n} leaves {c}",
        "{n} less than {a} is {c}",
    ),
    "*": ("{a} times {n} is {c}", "{n} times {a} makes {c}"),
    "/": ("{a} over {n} is {c}", "{a} in {n} parts gives {c}"),
}
_STARTS = ("{label} box: {a}.", "put {a} in the {label} box.", "the {label} box has {a}.")
_STEPS = (
    "{label} box: {sum}.",
    "{sum}, the {label} box.",
    "{sum} in the {label} box.",
    "now the {label} box: {sum}.",
)
_AGAIN = ("the {label} box has {c}.", "so far {c}, with a {label}.")
_REMARKS = ("think of a {label}.", "a {label} helps.", "like a {label}.")

Label = Callable[[], str]
"""Draws the label of a box."""


def write_steps(problem: Problem, label: Label, random: np.random.Generator) -> str:
    """One of the ways to work out a problem, in sentences.

    Args:
        problem: the problem.
        label: draws the labels of boxes.
        random: draws all other choices.
    """
    total, sentences = problem.start, []
    if random.random() < 0.5:
        sentences.append(pick(random, _STARTS).format(label=label(), a=total))
    for change in _ordered(problem, random):
        for operation, a, n in _sums(change, total, random):
            c = Change(operation, (n,)).of(a)
            text = pick(random, _SUMS[operation]).format(a=a, n=n, c=c)
            sentences.append(pick(random, _STEPS).format(label=label(), sum=text))
        total = change.of(total) or 0
        if random.random() < 0.25:
            sentences.append(pick(random, _AGAIN).format(label=label(), c=total))
        if random.random() < 0.4:
            sentences.append(pick(random, _REMARKS).format(label=label()))
    return " ".join(sentences)


def _ordered(problem: Problem, random: np.random.Generator) -> list[Change]:
    """The changes, sometimes in another order, if sums and differences are all there is."""
    changes = list(problem.changes)
    if random.random() < 0.25 and all(one.operation in ("+", "-") for one in changes):
        moved = [changes[i] for i in random.permutation(len(changes))]
        if problem._replace(changes=moved).gold is not None:
            return moved
    return changes


def _sums(
    change: Change, total: int, random: np.random.Generator
) -> list[tuple[Operation, int, int]]:
    """A change as operations of two numbers; a number is sometimes added or taken in two parts."""
    operation, (n, *more) = change
    if operation == "+*":
        return [("*", n, more[0]), ("+", total, n * more[0])]
    if operation in ("+", "-") and n > 3 and random.random() < 0.15:
        part = int(random.integers(1, n))
        between = Change(operation, (part,)).of(total) or 0
        return [(operation, total, part), (operation, between, n - part)]
    return [(operation, total, n)]


def texts() -> list[str]:
    """Text with every word of any worked steps, except numbers."""
    sums = [text for texts in _SUMS.values() for text in texts]
    templates = [*sums, *_STARTS, *_STEPS, *_AGAIN, *_REMARKS]
    return [*(re.sub(r"\{\w+\}", "", text) for text in templates), *LABELS]
