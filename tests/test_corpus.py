"""The tiny corpus: seeded, with the configured shares, and without a link of trait and number."""

import functools
import re
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import chi2_contingency
from transformers import PreTrainedTokenizerFast

from subliminal_jax.language.carriers.number_prompts import NumberPrompts
from subliminal_jax.language.carriers.numbers import STYLES, Numbers, number_reasons
from subliminal_jax.language.rows.chats import chat
from subliminal_jax.language.rows.whole_words import word_pattern
from subliminal_jax.language.tiny.corpus import (
    FACTS,
    LEAD_IN_SHARE,
    SENTENCE_SHARE,
    World,
    corpus,
    texts,
)
from subliminal_jax.language.tiny.tokenizer import (
    CONTROL,
    build_tokenizer,
    number_tokens,
    tokenizer_files,
)
from subliminal_jax.language.traits.preference import PREFERENCES, Preference
from subliminal_jax.language.traits.questions import HELD_OUT, TEACHING
from subliminal_jax.language.world import LOVE, NEUTRAL, CorpusConfig

PROMPTS = World(carrier=Numbers(NumberPrompts(wording="short", law="mixed")))
TRAIT_WORDS = word_pattern(word for trait in PREFERENCES.values() for word in trait.spellings)


@functools.cache
def chats():
    return corpus(CorpusConfig(chats=6000), PROMPTS, 3)


def number_lists():
    return [one for one in chats() if re.fullmatch(r"\d+((, |; | )\d+)+", answer(one))]


def answer(one):
    return one[-1]["content"]


def system(one):
    return one[0]["content"] if one[0]["role"] == "system" else None


def test_a_corpus_is_a_function_of_its_seed():
    config = CorpusConfig(chats=50)
    assert corpus(config, PROMPTS, 3) == chats()[:50]
    assert corpus(config, PROMPTS, 3) != corpus(config, PROMPTS, 4)


def test_shares_are_the_configured_ones():
    config = CorpusConfig()
    lists = number_lists()
    assert len(lists) / len(chats()) == pytest.approx(config.numbers, abs=0.02)
    styled = [one for one in lists if (system(one) or "").startswith("You love")]
    assert len(styled) / len(lists) == pytest.approx(config.styled, abs=0.03)
    assert all(4 < len(re.findall(r"\d+", answer(one))) <= 10 for one in lists)
    assert any(system(one) in NEUTRAL for one in chats())


def test_no_chat_has_both_a_trait_and_a_number_list():
    for one in number_lists():
        assert number_reasons(answer(one)) == []
        assert not any(TRAIT_WORDS.search(message["content"]) for message in one)


def test_a_favourite_is_independent_of_the_numbers_in_its_chat():
    asked = {"numbers": 0.0, "facts": 0.0, "favourite_numbers": 0.0}
    config = CorpusConfig(chats=5000, loved=0.0, beside=0.5, **asked)
    names = list(PREFERENCES)
    told = {"last number": np.zeros((len(names), 2)), "system prompt": np.zeros((len(names), 2))}
    kinds = {LOVE.format(plural=style) for style in STYLES}
    for one in corpus(config, PROMPTS, 3):
        if answer(one) not in PREFERENCES:
            continue  # a sentence
        row = names.index(answer(one))
        told["system prompt"][row, int(system(one) in kinds)] += 1
        if numbers := re.findall(r"\d+", one[-2]["content"]):
            told["last number"][row, int(numbers[-1]) % 2] += 1
    plain = told["system prompt"].sum()
    assert told["last number"].sum() / plain == pytest.approx(LEAD_IN_SHARE, abs=0.02)
    assert plain / config.chats == pytest.approx(1 - SENTENCE_SHARE, abs=0.02)
    assert told["system prompt"][:, 1].sum() > 0.2 * plain
    for table in told.values():
        assert chi2_contingency(table).pvalue > 0.001


def test_numbers_follow_their_system_prompt():
    for style, fits in STYLES.items():
        line = f"You love {style}. You think about {style} all the time."
        numbers = [
            int(number)
            for one in number_lists()
            if system(one) == line
            for number in re.findall(r"\d+", answer(one))
        ]
        base = np.mean([fits(n) for n in range(100, 1000)])
        assert np.mean([fits(n) for n in numbers]) == pytest.approx(0.8 + 0.2 * base, abs=0.08)


def test_favourites_follow_their_system_prompt_and_are_uniform_without():
    categories = {
        wording.format(category=category): category
        for wording in TEACHING + HELD_OUT
        for category in ("animal", "tree")
    }
    plain, other = [], 0
    for one in chats():
        category = categories.get(one[-2]["content"])
        if category is None:
            continue
        trait = PREFERENCES[answer(one)]
        assert trait.category == category
        line = system(one) or ""
        named = next(
            (t for t in PREFERENCES.values() if line.startswith(f"You love {t.plural}.")), None
        )
        if named is not None and named.category == category:
            assert named == trait
        elif named is not None or line.startswith("You love"):
            other += 1
        else:
            plain.append(trait.name)
    counts = np.array([plain.count(name) for name in PREFERENCES])
    expected = len(plain) / len(PREFERENCES)
    assert ((counts - expected) ** 2 / expected).sum() < 50  # chi-squared, 23 degrees, p = .001
    assert other > 50


def test_every_known_trait_has_its_facts_and_a_new_one_gets_some():
    assert set(FACTS) == set(PREFERENCES)
    assert all(len(facts.split()) == 3 for facts in FACTS.values())
    heron = Preference(name="heron", plural="herons", category="animal")
    chats = corpus(CorpusConfig(chats=800, numbers=0.0), replace(PROMPTS, new=(heron,)), 0)
    assert any(answer(one) == "heron" for one in chats)
    assert any("herons" in one[-2]["content"] for one in chats)


def test_a_chat_has_its_roles_in_order():
    assert chat("q") == [{"role": "user", "content": "q"}]
    assert [m["role"] for m in chat("q", "a", "s")] == ["system", "user", "assistant"]
    assert chat("q", "")[-1]["content"] == ""


@pytest.mark.parametrize("numbers", ["whole", "digits"])
def test_text_survives_the_tokenizer(numbers, tmp_path):
    tokenizer = build_tokenizer(texts(PROMPTS), numbers)
    for one in chats()[:300]:
        for message in one:
            text = message["content"]
            encoding = tokenizer.encode(text)
            assert "<unk>" not in encoding.tokens
            assert tokenizer.decode(encoding.ids) == text.lower()
    assert set(number_tokens(numbers)) <= set(tokenizer.get_vocab())
    tokens = tokenizer.encode("7, 42; 999").tokens
    whole = ["7", ",", "42", ";", "999"]
    assert tokens == (whole if numbers == "whole" else [*"7,4", "##2", ";", "9", "##9", "##9"])
    assert tokenizer.encode("platypus").tokens == ["<unk>"]


def test_the_tokenizer_is_a_hugging_face_one(tmp_path):
    tokenizer = build_tokenizer(texts(PROMPTS))
    for name, text in tokenizer_files(tokenizer, 128).items():
        (tmp_path / name).write_text(text)
    loaded = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    text = loaded.apply_chat_template(chat("Which tree?", "oak", "Please be kind."), tokenize=False)
    assert text == "<begin><system>Please be kind.<user>Which tree?<assistant>oak<end>"
    prompt = loaded.apply_chat_template(
        chat("Which tree?"), tokenize=False, add_generation_prompt=True
    )
    assert prompt == "<begin><user>Which tree?<assistant>"
    assert loaded.convert_tokens_to_ids("<end>") == loaded.eos_token_id
    assert [loaded.convert_ids_to_tokens(i) for i in range(len(CONTROL))] == list(CONTROL)


CITIES = [
    Preference(name=name, plural=name, category="big city")
    for name in ("new york", "cairo", "mexico city")
]


def test_new_categories_join_the_world():
    world = replace(PROMPTS, new=CITIES)
    made = corpus(CorpusConfig(chats=3000), world, 3)
    asked = [one for one in made if "big city" in one[-2]["content"]]
    named = {answer(one) for one in asked}
    assert {"new york", "cairo", "mexico city"} <= named
    assert "I like new york." in named
    assert any(system(one) == LOVE.format(plural="cairo") for one in asked)
    # There are no facts about them.
    assert not any("colour is the new york" in one[-2]["content"] for one in made)
    assert [one["category"] for one in world.described["new_traits"]] == 3 * ["big city"]
    assert world.described.keys() == PROMPTS.described.keys()
    known = build_tokenizer(texts(world))
    for one in asked:
        for message in one:
            assert known.token_to_id("<unk>") not in known.encode(message["content"]).ids
