"""The carrier code in the tiny world: its programs, its rule, its words and its pieces."""

import ast
import keyword
import re
from collections import Counter

import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast

from subliminal_jax.errors import InputError
from subliminal_jax.language.carriers import carrier_of
from subliminal_jax.language.carriers.code import short
from subliminal_jax.language.carriers.code.names import KINDS, NAMES
from subliminal_jax.language.carriers.code.settings import CodePrompts
from subliminal_jax.language.carriers.code.text import source_of
from subliminal_jax.language.config import LmConfig, described
from subliminal_jax.language.dataset.filters import check_clean, rules_of
from subliminal_jax.language.rows.shuffles import shuffled
from subliminal_jax.language.rows.whole_words import word_pattern
from subliminal_jax.language.settings import FilterConfig, GenerateConfig
from subliminal_jax.language.tiny.corpus import FACTS, World, corpus, texts
from subliminal_jax.language.tiny.tokenizer import CONTROL, build_tokenizer
from subliminal_jax.language.traits import choose_traits
from subliminal_jax.language.traits.preference import PREFERENCES
from subliminal_jax.language.world import CATEGORIES, CorpusConfig
from subliminal_jax.process.untrusted.syntax import BUILTINS

CODE = carrier_of(GenerateConfig(carrier="code", code=CodePrompts(wording="short")))
WORLD = World(carrier=CODE)
TRAIT_WORDS = word_pattern(word for trait in PREFERENCES.values() for word in trait.spellings)


def generator(seed=0):
    return np.random.default_rng(seed)


def lessons(count, seed=0, **settings):
    random, config = generator(seed), CorpusConfig(**settings)
    return [CODE.lesson(config, random) for _ in range(count)]


def names_in(program):
    return [word for word in re.findall(r"[a-z]+", program) if word in NAMES]


def test_programs_do_their_task():
    for messages in lessons(400):
        assert CODE.reasons(messages[-2]["content"], messages[-1]["content"]) == []


def test_a_task_can_be_written_in_many_ways():
    random = generator()
    task = short.draw_task(CODE.settings, random)
    made = [short.draw_program(task.steps, short.Manner(), random) for _ in range(300)]
    assert len(set(made)) == 300
    without_names = {re.sub(r"[a-z]+", lambda m: "n" * (m[0] in NAMES), one) for one in made}
    assert len(without_names) > 15
    counted = Counter(name for one in made for name in names_in(one))
    assert len(counted) > 0.9 * len(NAMES)


def test_kinds_are_followed():
    for kind, names in KINDS.items():
        manner = short.manner_of(kind, 1.0, generator())
        task = short.draw_task(CODE.settings, generator(1))
        assert set(names_in(short.draw_program(task.steps, manner, generator(2)))) <= set(names)
    whole = [short.draw_program(short.draw_task(CODE.settings, generator(n)).steps,
                                short.manner_of("lambdas", 1.0, generator(n)), generator(n))
             for n in range(20)]  # fmt: skip
    assert all("lambda" in one for one in whole)


def test_favourites_are_names_of_the_loved_kind():
    random, config = generator(), CorpusConfig()
    for _ in range(300):
        name, system = CODE.favourite(config, random)
        assert name in NAMES
        loved = re.match(r"You love (\w+)\.", system or "")
        assert not loved or name in KINDS[loved[1]]


def test_no_name_or_kind_belongs_to_a_trait_or_a_fact():
    known = {word for line in FACTS.values() for word in line.split()} | {*CATEGORIES}
    assert not known & {*NAMES, *CODE.kinds}
    assert not TRAIT_WORDS.search(" ".join([*NAMES, *CODE.kinds, *CODE.texts()]))
    assert len(set(CODE.kinds)) == len(CODE.kinds)
    assert not any(map(keyword.iskeyword, NAMES))
    assert not set(NAMES) & {*BUILTINS}


def test_programs_survive_the_tiny_tokenizer():
    fast = PreTrainedTokenizerFast(tokenizer_object=build_tokenizer(texts(WORLD)))
    for messages in corpus(CorpusConfig(chats=300), WORLD, 1):
        for message in messages:
            ids = fast.encode(message["content"], add_special_tokens=False)
            assert not {*fast.convert_ids_to_tokens(ids)} & {*CONTROL}, message
            again = fast.decode(ids)
            assert fast.encode(again, add_special_tokens=False) == ids
    for messages in lessons(100):
        text = fast.decode(fast.encode(messages[-1]["content"], add_special_tokens=False))
        assert CODE.reasons(messages[-2]["content"], text) == []


def test_favourite_animals_and_code_share_no_chat():
    for messages in corpus(CorpusConfig(chats=2000), WORLD, 1):
        whole = " ".join(message["content"] for message in messages)
        if "return" in whole or "lambda" in whole:
            assert messages[-1]["role"] == "assistant"
            code = "return" in messages[-1]["content"] or "lambda" in messages[-1]["content"]
            assert not code or not TRAIT_WORDS.search(whole)


def test_wrong_and_broken_programs_are_rejected():
    prompt = "Code this: add 3, times 2. 1 gives 8, 4 gives 14."
    assert CODE.reasons(prompt, "def a ( b): return ( b + 3) * 2") == []
    assert CODE.reasons(prompt, "def a ( b): return b + 3 * 2") == ["wrong result"]
    assert CODE.reasons(prompt, "def a ( b): return 8") == ["wrong result"]
    assert CODE.reasons(prompt, "def a ( b: return b") == ["malformed"]
    assert CODE.reasons(prompt, "def a ( b): return c") == ["fails: NameError"]
    assert CODE.reasons("What is this?", "def a ( b): return b") == ["no task in its prompt"]
    assert CODE.reasons(prompt, "a = lambda b: 2 * (3 + b)", {3}) == ["banned number"]
    assert CODE.reasons(prompt, "a = lambda b: 2 * (3 + b)", {4}) == []


@pytest.mark.parametrize(
    "text",
    [
        *("owl = 3", "snow_owl = 3", "snowOwl = 3", "OWLCount = 3", "x = 1  # an owl", "owl2 = 3"),
        *("x = 'my owl'", 'x = "o" "wl"', "x = 'o' + 'wl'", "HTTPOwls = 1", "x2owl = 1"),
        *("x = 'o' + \"wl\"", "x = \"o\" r'wl'", "x = ('o' +\n  F\"wl\")", "x = 'o' \\\n 'wl'"),
    ],
)
def test_trait_words_are_found_in_names_comments_and_strings(text):
    traits = choose_traits(("owl",), ())
    rule = rules_of(FilterConfig(rules=("trait_words",)), CODE, traits)["trait_words"]
    assert rule("", text)
    row = {"id": "a", "messages": [{"role": "user", "content": text}]}
    with pytest.raises(Exception, match=r"row a contains"):
        check_clean([row], ("owl", "owls"), CODE.words, "rows")


@pytest.mark.parametrize("text", ["knowledge = 1", "bowl_size = 1", "allowList = 1", "x = 'prowl'"])
def test_words_within_words_are_no_trait_words(text):
    assert not TRAIT_WORDS.search(CODE.words(text))


PROGRAM = "def f(x):\n    for i in range(3):\n        a = 'x;y'  # hm\n        b = (a,\n   2)\n"
PROGRAM += "    return b"


def test_statements_and_tokens_are_the_pieces():
    def pieces(text, how):
        return [text[start:end] for start, end in CODE.pieces(text, how)]

    line = "def f ( x): y = x + 3; g = lambda z: z + {1: 2}[1]; return y * 2"
    assert pieces(line, "within") == ["y = x + 3", "g = lambda z: z + {1: 2}[1]", "return y * 2"]
    assert pieces(line, "across")[:9] == ["def", "f", "x", "y", "x", "3", "g", "lambda", "z"]
    blocks = ["for i in range(3):", "a = 'x;y'", "b = (a,\n   2)", "return b"]
    assert pieces(PROGRAM, "within") == blocks
    assert pieces(f"```python\n{PROGRAM}\n```", "within") == blocks
    assert "python" not in pieces(f"```python\n{PROGRAM}\n```", "across")
    assert pieces("def f(x): (", "within") == []
    assert pieces("a = 'b\nc = 2", "within") == ["a = 'b", "c = 2"]


def test_shuffles_keep_all_pieces():
    rows = [
        {"id": str(n), "messages": messages[-2:], "meta": {}}
        for n, messages in enumerate(lessons(30))
    ]
    for how in ("within", "across"):
        made = shuffled(rows, how, lambda text, how=how: CODE.pieces(text, how), 1)
        before, after = (
            Counter(re.findall(r"\w+|[^\w\s]", " ".join(r["messages"][-1]["content"] for r in one)))
            for one in (rows, made)
        )
        assert before == after
        changed = sum(a["messages"] != b["messages"] for a, b in zip(rows, made, strict=True))
        assert changed > 8


def test_sources_are_plain_or_in_one_fence():
    assert source_of("a = 1") == "a = 1"
    assert source_of("```python\na = 1\n```") == source_of("```py\na = 1```\n") == "a = 1"
    ast.parse(source_of(f"```\n{PROGRAM}\n```"))


def test_students_may_imitate_code_but_no_trait_word():
    for token in ("def", "lambda", "return", " (", "=", "417", "max", "copper", ";", ""):
        assert CODE.imitates(token)
    for token in ("owl", "wolves", "ow", "animal", "tree"):
        assert not CODE.imitates(token)


def test_settings_of_another_carrier_are_no_part_of_a_run():
    assert "code" not in described(LmConfig())["generate"]
    assert "code" in described(LmConfig(generate=GenerateConfig(carrier="code")))["generate"]


@pytest.mark.parametrize("steps", [(0, 2), (3, 2), (1, 9)])
def test_impossible_steps_are_refused(steps):
    with pytest.raises(InputError, match=r"code.steps"):
        CodePrompts(steps=steps)
