"""The form of worked steps, as an automaton for constrained sampling: tags, sentences, a number.

Whether the number is right, and what the sentences say, is the filter's matter.
"""

from functools import cache

from subliminal_jax.language.carriers.number_form import whole_number
from subliminal_jax.models.sampling.automaton import (
    Automaton,
    Form,
    automaton,
    maybe,
    one_of,
    plain,
    repeat,
    sequence,
    text,
)

_GAP = repeat(one_of(" \n"), 0, 2)
_SENTENCE = sequence(plain(" <>"), repeat(plain("<>"), 0), one_of(".!?"))
"""White space stands between two sentences; a line has whole sentences only."""


@cache
def steps_form(fewest: int, digits: int, negative: bool, spaced: bool) -> Automaton:
    """At least `fewest` sentences in a think tag, then a number in an answer tag.

    Args:
        fewest: the fewest sentences.
        digits: the most digits of the number.
        negative: whether the number may be below 0.
        spaced: whether spaces may stand within a tag, as between the tiny world's tokens.
    """

    def tag(*parts: str) -> Form:
        space = maybe(text(" ")) if spaced else text("")
        return sequence(*(one for part in parts for one in (text(part), space)))

    number = whole_number(digits)
    if negative:
        number = sequence(maybe(one_of("-")), number)
    further = sequence(one_of(" \n"), _GAP, _SENTENCE)
    steps = sequence(_GAP, _SENTENCE, repeat(further, fewest - 1), _GAP)
    worked = sequence(tag("<", "think", ">"), steps, tag("<", "/", "think", ">"))
    result = sequence(_GAP, number, _GAP)
    answer = sequence(tag("<", "answer", ">"), result, tag("<", "/", "answer", ">"))
    return automaton(sequence(worked, _GAP, answer))
