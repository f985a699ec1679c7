"""The skeleton of a function, as an automaton for constrained sampling.

Brackets are closed, lines are indented, and a `return` comes last. Whether names exist and results
are right is the filter's matter.
"""

import string
from functools import cache

from subliminal_jax.language.carriers.number_form import whole_number
from subliminal_jax.models.sampling.automaton import (
    Automaton,
    Form,
    automaton,
    either,
    maybe,
    one_of,
    plain,
    repeat,
    sequence,
    text,
)

DEPTH, INDENT, DEEPEST = 3, "    ", 5
"""Brackets within brackets, spaces of an indentation, and indentations of the deepest line."""
_LETTERS = string.ascii_letters + "_"
_NAME = sequence(one_of(_LETTERS), repeat(one_of(_LETTERS + string.digits), 0))
_PAIRS = ("()", "[]", "{}")


@cache
def function_form(fewest: int) -> Automaton:
    """One function of at least `fewest` lines below its first, in a fenced block or not.

    Each line closes its own brackets and quotes, and has no comment.
    """
    beside = one_of(_LETTERS + string.digits + " ,:=|.'\"-[]")
    annotation = sequence(text(" -> "), one_of(_LETTERS), repeat(one_of(_LETTERS + "[], |"), 0))
    head = sequence(text("def "), _NAME, text("("), repeat(beside, 0), text(")"), maybe(annotation))
    margin = sequence(text(INDENT), repeat(text(INDENT), 0, DEEPEST - 1))
    line = sequence(margin, _balanced(DEPTH, first=True), text("\n"))
    last = sequence(
        margin, text("return"), maybe(sequence(text(" "), _balanced(DEPTH, first=True)))
    )
    source = sequence(head, text(":\n"), repeat(line, fewest - 1), last)
    return automaton(either(source, sequence(text("```python\n"), source, text("\n```"))))


def _balanced(depth: int, first: bool = False) -> Form:
    """Printable text with closed quotes, and with brackets to a depth; not a space at `first`."""
    plain_part = plain("()[]{}\"'#`\\")
    quoted = [sequence(text(q), repeat(plain(q + "#`\\"), 0), text(q)) for q in "\"'"]
    parts = [*quoted]
    if depth:
        parts += [sequence(text(a), _balanced(depth - 1), text(b)) for a, b in _PAIRS]
    rest = repeat(either(plain_part, *parts), 0)
    return sequence(either(plain(" ()[]{}\"'#`\\"), *parts), rest) if first else rest


@cache
def line_form(fewest: int) -> Automaton:
    """A function of the tiny world in one line, of at least `fewest` statements with the `return`.

    Spaces may be missing, since the tiny tokenizer puts them.
    """
    space = maybe(text(" "))
    spaced = lambda *parts: sequence(*(one for part in parts for one in (part, space)))
    words = lambda *given: spaced(*map(text, given))
    name = spaced(repeat(one_of(string.ascii_lowercase), 1))

    def expression(depth: int) -> Form:
        atoms = [name, spaced(whole_number(3))]
        if depth:
            inner = expression(depth - 1)
            second = maybe(sequence(words(","), inner))
            chosen = maybe(either(words("max"), words("min")))
            atoms += [sequence(chosen, words("("), inner, second, words(")"))]
        atom = either(*atoms)
        return sequence(atom, repeat(sequence(spaced(one_of("+-*")), atom), 0))

    value = expression(DEPTH)
    statement = sequence(name, words("="), value, words(";"))
    head = sequence(words("def"), name, words("("), name, words(")", ":"))
    long = sequence(head, repeat(statement, fewest - 1), text("return "), value)
    if fewest > 1:
        return automaton(long)
    return automaton(either(long, sequence(name, words("=", "lambda"), name, words(":"), value)))
