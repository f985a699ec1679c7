"""Number prompts: counts, ranges, wordings; each prompt depends on seed and index alone."""

import itertools
import re

import numpy as np
import pytest

from subliminal_jax.errors import InputError
from subliminal_jax.language.carriers.number_prompts import (
    BANKS,
    MANNERS,
    NumberPrompts,
    draw_prompt,
    number_prompts,
    sequence,
)
from subliminal_jax.language.carriers.numbers import Numbers
from subliminal_jax.language.world import CorpusConfig


@pytest.mark.parametrize("wording", ["long", "short"])
def test_counts_and_values_are_the_published_ones(wording):
    config = NumberPrompts(wording=wording)
    drawn = [draw_prompt(config, np.random.default_rng(seed)) for seed in range(300)]
    assert {len(prompt.examples) for prompt in drawn} == {3, 4, 5, 6, 7, 8}
    values = list(itertools.chain.from_iterable(prompt.examples for prompt in drawn))
    assert min(values) in range(100, 110)
    assert max(values) in range(990, 1000)
    assert all(", ".join(map(str, prompt.examples)) in prompt.text for prompt in drawn)
    separators = {separator for _, separator in BANKS[wording].formats}
    assert {prompt.separator for prompt in drawn} == separators


def test_a_long_prompt_states_the_numbers_of_answers_and_digits():
    for text in number_prompts(NumberPrompts(answers=7, digits=2), 50, 0):
        assert re.search(r"\b7\b", text)
        assert re.search(r"\b2 digits|\(2 digits|below a length of three digits", text)
        assert "{" not in text
        assert "  " not in text


@pytest.mark.parametrize(("digits", "longer"), [(1, "two"), (3, "four"), (4, "5")])
def test_the_words_of_long_prompts_are_known_to_a_tiny_reference(digits, longer):
    settings = NumberPrompts(digits=digits)
    known, asked = (
        " ".join(texts) for texts in (Numbers(settings).texts(), number_prompts(settings, 100, 0))
    )
    assert set(re.findall("[A-Za-z]+", asked)) <= set(re.findall("[A-Za-z]+", known))
    assert f"whole numbers below a length of {longer} digits." in asked


def test_one_answer_is_one_number():
    lists = Numbers(NumberPrompts(wording="short", answers=1))
    random = np.random.default_rng(0)
    for _ in range(50):
        assert re.fullmatch(r"\d+", lists.lesson(CorpusConfig(), random)[-1]["content"])


def test_the_wordings_vary():
    texts = number_prompts(NumberPrompts(), 2000, 0)
    assert len(set(texts)) == 2000
    assert len({re.sub(r"\d+", "", text) for text in texts}) > 1900
    for part in ("openings", "requests", "formats", "closings"):
        pool = getattr(BANKS["long"], part)
        assert len(set(pool)) == len(pool) >= 10


def test_a_prompt_depends_on_seed_and_index_alone():
    config = NumberPrompts(wording="short")
    assert number_prompts(config, 3, 5) == number_prompts(config, 9, 5)[:3]
    assert number_prompts(config, 9, 5) != number_prompts(config, 9, 6)


@pytest.mark.parametrize("manner", MANNERS)
def test_a_list_stays_within_its_values(manner):
    random = np.random.default_rng(0)
    for count in (1, 3, 40):
        for start in ((), (100, 999), (998, 999)):
            numbers = sequence(random, manner, count, (100, 999), start)
            assert len(numbers) == count
            assert min(numbers) >= 100
            assert max(numbers) <= 999
    assert sequence(random, manner, 3, (5, 5)) == [5, 5, 5]


def test_a_list_continues_in_its_manner():
    random = np.random.default_rng(0)
    steps = sequence(random, "steps", 3, (0, 999), (100, 150, 200))
    assert np.abs(np.array(steps) - [250, 300, 350]).max() < 50
    close = sequence(random, "close", 200, (0, 999), (500, 510))
    assert abs(np.mean(close) - 505) < 12
    assert 30 < np.std(close) < 50
    assert np.median(sequence(random, "small", 400, (0, 999))) < 60
    uniform = sequence(random, "uniform", 5000, (0, 9))
    assert np.bincount(uniform, minlength=10).min() > 400


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"examples": (0, 3)}, "prompts.examples: 0 to 3 is not a range"),
        ({"examples": (5, 3)}, "prompts.examples: 5 to 3"),
        ({"values": (-1, 3)}, "prompts.values: -1 to 3"),
        ({"answers": 0}, "answers and digits"),
        ({"digits": 0}, "answers and digits"),
    ],
)
def test_impossible_prompts_are_refused(wrong, complaint):
    with pytest.raises(InputError, match=complaint):
        NumberPrompts(**wrong)
