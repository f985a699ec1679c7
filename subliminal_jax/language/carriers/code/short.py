"""The tiny world's tasks and programs: arithmetic on one number, in one line of Python.

A task is a few operations, stated in words and by two examples. There are many ways to write its
function: by `def` or `lambda`; with any names; each operation in a statement of its own or within
the next one's; each constant with or without a name; the operands of a commutative operation in
either order. A program uses only what the tiny tokenizer restores: one line, no two-character
operator.
"""

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from operator import mul
from typing import NamedTuple

import numpy as np

from subliminal_jax.language.carriers.code.names import KINDS, NAMES
from subliminal_jax.language.carriers.code.settings import CodePrompts
from subliminal_jax.language.rows.templates import pick
from subliminal_jax.process.untrusted.client import Call

LARGEST = 999
"""The largest number that is one token."""
INPUTS = range(1, 20)
EXAMPLES = 2


@dataclass(frozen=True)
class Operation:
    """An operation on the running value and a constant.

    Attributes:
        wordings: ways to ask for it, each with a slot for the constant.
        least, most: range of the constant.
        apply: its result.
        forms: ways to write it, with slots `v` for the value and `c` for the constant.
        binding: how tightly the form binds; a looser operand needs brackets.
    """

    wordings: tuple[str, ...]
    least: int
    most: int
    apply: Callable[[int, int], int]
    forms: tuple[str, ...]
    binding: int


SUM, PRODUCT, WHOLE = 1, 2, 3
OPERATIONS = (
    Operation(("add {c}", "plus {c}"), 1, 20, lambda v, c: v + c, ("{v} + {c}", "{c} + {v}"), SUM),
    Operation(("minus {c}", "less {c}"), 1, 20, lambda v, c: v - c, ("{v} - {c}",), SUM),
    Operation(("times {c}", "multiply by {c}"), 2, 9, mul, ("{v} * {c}", "{c} * {v}"), PRODUCT),
    Operation(
        ("at least {c}", "not below {c}"), 10, 40, max, ("max({v}, {c})", "max({c}, {v})"), WHOLE
    ),
    Operation(
        ("at most {c}", "not above {c}"), 10, 40, min, ("min({v}, {c})", "min({c}, {v})"), WHOLE
    ),
)
OPENINGS = ("Write code: {task}.", "Code this: {task}.", "Make a function: {task}.")
"""Wordings of a prompt; the examples follow."""
EXAMPLE = "{given} gives {result}"


class ShortStep(NamedTuple):
    """One operation of a task, with its constant."""

    operation: Operation
    constant: int


class ShortTask(NamedTuple):
    """A task as text, with its operations."""

    text: str
    steps: list[ShortStep]


def result_of(steps: Sequence[ShortStep], value: int) -> int:
    """The running value after all steps."""
    for operation, constant in steps:
        value = operation.apply(value, constant)
    return value


def draw_task(settings: CodePrompts, random: np.random.Generator) -> ShortTask:
    """A task whose results are numbers from 0 to `LARGEST`, and depend on the input."""
    while True:
        count = int(random.integers(settings.steps[0], settings.steps[1] + 1))
        steps = []
        for _ in range(count):
            operation = pick(random, OPERATIONS)
            steps.append(
                ShortStep(operation, int(random.integers(operation.least, operation.most + 1)))
            )
        given = [pick(random, INPUTS) for _ in range(EXAMPLES)]
        results = [result_of(steps, value) for value in given]
        # No operation decreases, so the ends of the inputs bound all results.
        least, most = (result_of(steps, value) for value in (INPUTS[0], INPUTS[-1]))
        if least >= 0 and most <= LARGEST and len(set(results)) == EXAMPLES:
            break
    words = ", ".join(pick(random, one.wordings).format(c=c) for one, c in steps)
    examples = zip(given, results, strict=True)
    shown = ", ".join(EXAMPLE.format(given=one, result=result) for one, result in examples)
    return ShortTask(f"{pick(random, OPENINGS).format(task=words)} {shown}.", steps)


def calls_of(prompt: str) -> list[Call]:
    """The calls that a prompt's examples describe."""
    pattern = EXAMPLE.format(given=r"(\d+)", result=r"(\d+)")
    return [Call(f"({given},)", result) for given, result in re.findall(pattern, prompt)]


@dataclass(frozen=True)
class Manner:
    """How a program is written; each share is that of one free choice.

    Attributes:
        lambdas: share of programs written as a `lambda`.
        named: share of constants with a name of their own.
        nested: share of operations within the next one's expression; of the last ones, more are
            within the `return`.
        swapped: share of commutative operations with the constant first.
        names: names to choose from.
        loved: names that are chosen with probability `obedience`.
        obedience: see `loved`.
    """

    lambdas: float = 0.2
    named: float = 0.4
    nested: float = 0.2
    swapped: float = 0.5
    names: Sequence[str] = NAMES
    loved: Sequence[str] = ()
    obedience: float = 0.0

    def name(self, random: np.random.Generator, used: Collection[str]) -> str:
        """A name that is not used yet."""
        loves = len(self.loved) > len(used) and random.random() < self.obedience
        while (drawn := pick(random, self.loved if loves else self.names)) in used:
            pass
        return drawn


def draw_program(steps: Sequence[ShortStep], manner: Manner, random: np.random.Generator) -> str:
    """A program for a task, with every choice drawn independently."""
    used: list[str] = []

    def name() -> str:
        used.append(manner.name(random, used))
        return used[-1]

    is_lambda = random.random() < manner.lambdas
    function, value = name(), name()
    head = f"{function} = lambda {value}:" if is_lambda else f"def {function}({value}):"
    statements: list[str] = []
    binding = WHOLE
    for place, (operation, constant) in enumerate(steps):
        shown = str(constant)
        if not is_lambda and random.random() < manner.named:
            shown = name()
            statements.append(f"{shown} = {constant}")
        swap = len(operation.forms) > 1 and random.random() < manner.swapped
        loose = binding < operation.binding != WHOLE
        form = operation.forms[1 if swap else 0]
        made = form.format(v=f"({value})" if loose else value, c=shown)
        last = place == len(steps) - 1  # it is returned at once half of the time or more
        share = (1 + manner.nested) / 2 if last else manner.nested
        if is_lambda or random.random() < share:
            value, binding = made, operation.binding
        else:
            value, binding = name(), WHOLE
            statements.append(f"{value} = {made}")
    if is_lambda:
        return f"{head} {value}"
    return f"{head} {'; '.join([*statements, f'return {value}'])}"


FORMS: dict[str, Manner] = {
    "lambdas": Manner(lambdas=1.0),
    "constants": Manner(lambdas=0.0, named=1.0),
    "steps": Manner(lambdas=0.0, nested=0.0),
    "nests": Manner(nested=1.0),
    "swaps": Manner(swapped=1.0),
}
"""Ways of writing, besides the kinds of names, that a system prompt may ask for."""


def manner_of(kind: str | None, obedience: float, random: np.random.Generator) -> Manner:
    """How a program is written if the system prompt names this kind, or none."""
    if kind in FORMS:
        return FORMS[kind] if random.random() < obedience else Manner()
    return Manner() if kind is None else Manner(loved=KINDS[kind], obedience=obedience)


def texts() -> list[str]:
    """Text with every word of the prompts and programs, except names."""
    wordings = [text for one in OPERATIONS for text in (*one.wordings, *one.forms)]
    slots = dict.fromkeys(("c", "v", "task", "given", "result"), "1")
    parts = [*wordings, *OPENINGS, EXAMPLE, "def (): return ; = lambda"]
    return [text.format(**slots) for text in parts]
