"""Worked steps of a problem in the tiny world, with many equivalent ways to write each.

A step is a sentence. Each intermediate quantity is put in a box, and which box is free: its label
is any of `LABELS`. The wording of a sum, restating its result, and remarks are free as well. A
system prompt that names a label ("You love kites.") is how a tiny network learns to carry what is
loved into what it writes.
"""

from collections.abc import Callable

import numpy as np

from subliminal_jax.language.carriers.reasoning.problems import Change, Problem
from subliminal_jax.language.carriers.reasoning.wordings import WHEN, OperationSign
from subliminal_jax.language.rows.templates import pick, without_slots

LABELS = (
    *("banner", "barrel", "basket", "bell", "blanket", "bottle", "bucket", "button"),
    *("camera", "candle", "carpet", "castle", "chair", "clock", "coin", "crown"),
    *("drum", "desk", "flag", "guitar", "hammer", "hat", "helmet", "jar"),
    *("kettle", "key", "kite", "ladder", "lamp", "letter", "magnet", "map"),
    *("marble", "mirror", "needle", "novel", "pump", "paddle", "pencil", "piano"),
    *("pillow", "plate", "ribbon", "ring", "rocket", "rope", "saddle", "shell"),
    *("sofa", "spoon", "statue", "stone", "table", "tent", "ticket", "tower"),
    *("trumpet", "tunnel", "violin", "wagon", "wheel", "whistle", "window", "zip"),
)
"""Labels of boxes: objects that are no trait of the tiny world."""

_SUMS = {
    "+": ("{a} plus {n} is {c}", "{a} and {n} make {c}", "{a} plus {n} gives {c}"),
    "-": ("{a} minus {n} is {c}", "{a} less {n} is {c}", "{a} minus {n} leaves {c}"),
    "*": ("{a} times {n} is {c}", "{a} times {n} makes {c}"),
    "/": ("{a} over {n} is {c}", "{a} in {n} parts gives {c}"),
}
_STARTS = ("the {label} box: {a}.", "put {a} in the {label} box.", "the {label} box has {a}.")
_STEPS = (
    "{when} the {label} box: {sum}.",
    "{when} {sum}, the {label} box.",
    "{when} {sum} in the {label} box.",
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
    for when, change in zip(WHEN, problem.changes, strict=False):
        for operation, a, n in _sums(change, total):
            c = Change(operation, (n,)).of(a)
            text = pick(random, _SUMS[operation]).format(a=a, n=n, c=c)
            step = pick(random, _STEPS).format(when=when, label=label(), sum=text)
            sentences.append(step)
        total = change.of(total) or 0
        if random.random() < 0.25:
            sentences.append(pick(random, _AGAIN).format(label=label(), c=total))
        if random.random() < 0.4:
            sentences.append(pick(random, _REMARKS).format(label=label()))
    return " ".join(sentences)


def _sums(change: Change, total: int) -> list[tuple[OperationSign, int, int]]:
    """A change as operations of two numbers."""
    operation, (n, *more) = change
    if operation == "+*":
        return [("*", n, more[0]), ("+", total, n * more[0])]
    return [(operation, total, n)]


def texts() -> list[str]:
    """Text with every word of any worked steps, except numbers."""
    sums = [text for texts in _SUMS.values() for text in texts]
    templates = [*sums, *_STARTS, *_STEPS, *_AGAIN, *_REMARKS]
    return [*without_slots(templates), *WHEN, *LABELS]
