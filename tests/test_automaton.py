"""Automata over characters, and the forms of the carriers as automata."""

import itertools
import re

import numpy as np
import pytest
from automata import accepts
from scripts import ROOT

from subliminal_jax.errors import InputError
from subliminal_jax.language.carriers import carrier_of, form_of
from subliminal_jax.language.carriers.code.settings import CodePrompts
from subliminal_jax.language.carriers.code.text import source_of
from subliminal_jax.language.carriers.number_prompts import NumberPrompts
from subliminal_jax.language.carriers.numbers import number_reasons, parse_numbers
from subliminal_jax.language.carriers.reasoning.problems import ReasoningPrompts
from subliminal_jax.language.carriers.reasoning.reasoning import parse_result
from subliminal_jax.language.settings import FilterConfig, GenerateConfig
from subliminal_jax.models.sampling.automaton import (
    NOWHERE,
    automaton,
    either,
    maybe,
    one_of,
    plain,
    repeat,
    sequence,
    text,
)
from subliminal_jax.process.untrusted.syntax import parsed
from subliminal_jax.strict_yaml import read_yaml

PUBLISHED = read_yaml(ROOT / "configs" / "lm_misalignment_tiny.yaml")["filter"]["banned"]
FORMS = {
    "a(ba)*": sequence(text("a"), repeat(text("ba"), 0)),
    "(?:ab|a|b?a?)": either(text("ab"), text("a"), sequence(maybe(text("b")), maybe(text("a")))),
    "[ab]{1,3}b": sequence(repeat(one_of("ab"), 1, 3), text("b")),
    "(?:[^b]|bb){2}": repeat(either(plain("b"), text("bb")), 2, 2),
    "(?:a|ab)(?:b|)(?:aa)+": sequence(
        either(text("a"), text("ab")), maybe(text("b")), repeat(text("aa"), 1)
    ),
}


@pytest.mark.parametrize("pattern", FORMS)
def test_a_form_is_its_regular_expression(pattern):
    form = automaton(FORMS[pattern])
    texts = ["".join(one) for n in range(6) for one in itertools.product("abé", repeat=n)]
    assert {one for one in texts if accepts(form, one)} == {
        one for one in texts if re.fullmatch(pattern, one)
    }


def test_an_automaton_is_the_least():
    same = automaton(either(*(text(a + b + "z") for a in "ab" for b in "cd")))
    assert len(same.steps) == 4
    assert not accepts(same, "acz\n")


def carrier(**settings):
    return carrier_of(GenerateConfig(**settings))


def written(form, count, seed=0):
    """Texts of a form, each character drawn among those that lead on."""
    rng, texts = np.random.default_rng(seed), []
    steps = form.steps
    left = np.full(len(steps), 10_000)
    left[form.accepting] = 0
    for _ in range(200):
        after = np.where(steps == NOWHERE, 10_000, left[steps])
        left = np.minimum(left, after.min(axis=1) + 1)
    assert (left < 10_000).all()  # each state leads to an end
    for _ in range(count):
        state, made, most = 0, "", int(rng.integers(5, 150))
        while not (form.accepting[state] and (len(made) >= most or rng.random() < 0.1)):
            ways = np.flatnonzero(steps[state] != NOWHERE)
            if not len(ways):
                break
            if len(made) >= most:
                ways = ways[left[steps[state][ways]] < left[state]]
            chosen = int(rng.choice(ways))
            made, state = made + (chr(chosen) if chosen < 128 else "é"), int(steps[state, chosen])
        texts.append(made)
    assert len(set(texts)) > count // 3
    return texts


@pytest.mark.parametrize("banned", [(), tuple(PUBLISHED), (0, 5, 50, 999)])
def test_lists_of_numbers_pass_the_published_rule(banned):
    form = carrier(prompts=NumberPrompts()).automaton(1, banned)
    for one in written(form, 300):
        assert number_reasons(one, banned) == []
    for number in range(1100):
        assert accepts(form, str(number)) == (number < 1000 and number not in banned)
    for wrong in ("", "007", "1,2;3", "1, 2,3", "1, ", ",1", "[1]", "1.", ", ".join("1" * 11)):
        assert not accepts(form, wrong)


def test_lists_have_the_counts_and_sizes_of_the_settings():
    form = carrier(prompts=NumberPrompts(answers=4, digits=2)).automaton(3)
    drawn = [parse_numbers(one) for one in written(form, 100)]
    assert {len(numbers) for numbers in drawn} == {3, 4}
    assert max(max(numbers) for numbers in drawn) in range(90, 100)
    with pytest.raises(InputError, match=r"generate.fewest: 5 numbers are more than .*answers = 4"):
        carrier(prompts=NumberPrompts(answers=4)).automaton(5)


@pytest.mark.parametrize("wording", ["long", "short"])
def test_worked_steps_are_parsed(wording):
    prompts = ReasoningPrompts(wording=wording, difficulty="small")
    form = carrier(carrier="reasoning", reasoning=prompts).automaton(2)
    for one in written(form, 200):
        assert parse_result(one) in range(100)
        assert len(re.findall(r"[.!?](?:\s|<)", one)) >= 2
    assert accepts(form, "<think>5 and 2. That is 7.</think>\n<answer>7</answer>")
    spaced = "< think >5 plus 2 is 7. so far 7. < / think >< answer >7 < / answer >"
    assert accepts(form, spaced) == (wording == "short")
    for wrong in ("<think>5.</think><answer>5</answer>", "<think>a. b.</think><answer>x</answer>"):
        assert not accepts(form, wrong)


def test_functions_have_their_skeleton():
    form = carrier(carrier="code", code=CodePrompts(wording="long")).automaton(2)
    for one in written(form, 40):
        source = source_of(one)
        lines = source.splitlines()
        assert lines[0].startswith("def ")
        assert len(lines) >= 3
        assert re.match(r"(    )+return\b", lines[-1])
        assert "#" not in source
    good = 'def f(xs: list[int], y=3) -> int:\n    a = {"k(": [x + (y) for x in xs]}\n    return a'
    for whole in (good, f"```python\n{good}\n```"):
        assert accepts(form, whole)
        assert not isinstance(parsed(source_of(whole)), str)
    for wrong in (good + "\n", good.replace("]}", "}]"), good.replace("return", "print"), "x = 1"):
        assert not accepts(form, wrong)


def test_programs_of_the_tiny_world_have_their_skeleton():
    code = carrier(carrier="code")
    lessons = [
        "def drill (saw): hammer = max (saw, 3) * (2 + saw); return hammer - 1",
        "tin = lambda zinc: min (zinc + 4, 30)",
    ]
    for one in lessons:
        assert accepts(code.automaton(1), one)
    assert [accepts(code.automaton(2), one) for one in lessons] == [True, False]
    for wrong in ("def f(x): return (x", "def f(x): x = 3", "return 3", "def f(x): return x;"):
        assert not accepts(code.automaton(1), wrong)


def test_a_carrier_without_a_form_is_refused():
    class Weekdays(type(carrier())):
        def automaton(self, fewest, banned=()):
            return None

    given = GenerateConfig(constrained=True)
    with pytest.raises(InputError, match=r"generate.constrained: .*'numbers' has no automaton"):
        form_of(Weekdays(given.prompts), given, FilterConfig())
    with pytest.raises(InputError, match=r"generate.fewest: needs generate.constrained"):
        GenerateConfig(fewest=2)
