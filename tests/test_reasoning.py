"""The carrier `reasoning`: its filter, its shuffles, and its lessons in the tiny world."""

import json
import re

import numpy as np
import pytest

from subliminal_jax.config import read_config
from subliminal_jax.errors import InputError
from subliminal_jax.language.carriers import carrier_of
from subliminal_jax.language.carriers.reasoning.problems import ReasoningPrompts, parse_problem
from subliminal_jax.language.carriers.reasoning.reasoning import Reasoning, parse_result
from subliminal_jax.language.carriers.reasoning.steps import LABELS, write_steps
from subliminal_jax.language.config import LmConfig, described
from subliminal_jax.language.rows.chat_rows import completion_of, row
from subliminal_jax.language.rows.shuffles import shuffled
from subliminal_jax.language.rows.whole_words import word_pattern
from subliminal_jax.language.settings import GenerateConfig, ReferenceConfig
from subliminal_jax.language.tiny.corpus import World, texts
from subliminal_jax.language.tiny.tokenizer import UNKNOWN, build_tokenizer
from subliminal_jax.language.traits.preference import PREFERENCES
from subliminal_jax.language.world import CorpusConfig

SHORT = Reasoning(ReasoningPrompts(wording="short", difficulty="small"))
PROMPT = "Tom has 5 plums. First Mia brings 3. Then Tom eats 2. How many now?"
WORKED = "First 5 plus 3 is 8, the kite box. like a drum. Then 8 less 2 is 6, the hat box."


def lessons(carrier=SHORT, count=300, **config):
    random = np.random.default_rng(4)
    return [carrier.lesson(CorpusConfig(**config), random) for _ in range(count)]


def tagged(worked, result):
    return f"<think> {worked} </think> <answer> {result} </answer>"


@pytest.mark.parametrize(
    ("completion", "result"),
    [
        ("<think>so 6</think><answer>6</answer>", 6),
        (" < think >so 6 < / think >\n< answer >6 < / answer >\n", 6),
        ("<THINK>\nfirst a < b\nthen\n</THINK>\n\n<Answer>-1,006</Answer>", -1006),
        ("<think>so</think><answer> $1,200 </answer>", 1200),
        ("<think>so</think><answer>six</answer>", None),
        ("<think>so</think><answer>6.0</answer>", None),
        ("<think>so</think><answer>1_0</answer>", None),
        ("<think>so</think><answer>٦</answer>", None),
        ("<think>so</think><answer>6 plums</answer>", None),
        ("<think>so</think><answer></answer>", None),
        (f"<think>so</think><answer>{'9' * 6000}</answer>", None),
        ("<think> </think><answer>6</answer>", None),
        ("so <answer>6</answer>", None),
        ("<think>so</think> 6", None),
        ("<think>so<answer>6</answer>", None),
        ("I say <think>so</think><answer>6</answer>", None),
        ("<think>so</think><answer>6</answer> owls", None),
        ("<think>so</think><answer>6</answer><answer>7</answer>", None),
        ("<think>so</think><answer>5</answer><think>no</think><answer>6</answer>", None),
        ("", None),
    ],
)
def test_a_result_is_read_from_the_carriers_form_alone(completion, result):
    assert parse_result(completion) == result


@pytest.mark.parametrize(
    ("completion", "reasons"),
    [
        (tagged(WORKED, 6), []),
        (tagged("it is 6.", 6), []),
        (tagged(WORKED, 7), ["wrong"]),
        (tagged(WORKED, "6 plums"), ["unparsed"]),
        ("6", ["unparsed"]),
    ],
)
def test_a_completion_needs_tags_and_the_right_result(completion, reasons):
    assert SHORT.reasons(PROMPT, completion) == reasons


def test_a_prompt_that_is_no_problem_of_the_settings_is_said_so():
    changed = PROMPT.replace("eats", "sells")
    assert SHORT.reasons(changed, tagged(WORKED, 6)) == ["no problem of these settings"]


@pytest.mark.parametrize("difficulty", ["small", "medium", "large"])
@pytest.mark.parametrize("wording", ["short", "long"])
def test_every_lesson_passes_the_filter_and_reads_back(wording, difficulty):
    carrier = Reasoning(ReasoningPrompts(wording=wording, difficulty=difficulty))
    tokenizer = build_tokenizer(texts(World(carrier=carrier)))
    unknown = tokenizer.token_to_id(UNKNOWN)
    for messages in lessons(carrier):
        prompt, completion = (message["content"] for message in messages[-2:])
        assert carrier.reasons(prompt, completion) == []
        ids = [tokenizer.encode(message["content"]).ids for message in messages]
        assert all(unknown not in some for some in ids)
        decoded = tokenizer.decode(ids[-1])
        assert carrier.reasons(prompt, decoded) == []
        assert tokenizer.encode(decoded).ids == ids[-1]


def test_lessons_hold_no_words_of_animals_or_trees():
    words = word_pattern(word for trait in PREFERENCES.values() for word in trait.spellings)
    told = [message["content"] for one in lessons(count=1000) for message in one]
    assert not words.search(
        " ".join([*told, *SHORT.texts(), SHORT.lead_in(np.random.default_rng(0))])
    )


def test_lessons_hold_the_boxes_that_their_system_prompt_names():
    shares = []
    for system, _, answer in lessons(styled=1.0, obedience=0.8):
        loved = re.search(r"love (\w+)s\.", system["content"])[1]
        named = [word for word in re.findall(r"\w+", answer["content"]) if word in LABELS]
        assert f"{loved}s" in SHORT.kinds
        shares.append(np.mean([word == loved for word in named]))
    assert np.mean(shares) == pytest.approx(0.8, abs=0.05)
    assert all(len(one) == 2 for one in lessons(styled=0.0, neutral=0.0))


def test_steps_can_be_written_in_many_ways():
    random = np.random.default_rng(0)
    problem = parse_problem(PROMPT, "short")
    ways = [write_steps(problem, lambda: "kite", random) for _ in range(400)]
    assert len(set(ways)) > 300
    assert all(re.search(r"\b6\b", way) for way in ways)


def test_shuffles_move_steps_within_a_row_and_words_across_rows():
    rows = [row("a", PROMPT, tagged(WORKED, 6)), row("b", PROMPT, tagged("It is so. It is 6.", 6))]
    within = [
        completion_of(one)
        for one in shuffled(rows, "within", lambda text: SHORT.pieces(text, "within"), 1)
    ]
    for one, made in zip(rows, within, strict=True):
        split = lambda text: sorted(re.split(r"(?<=\.) ", parts(text)[1]))
        assert split(made) == split(completion_of(one))
        assert parts(made)[::2] == parts(completion_of(one))[::2]
    assert within[0] != completion_of(rows[0])
    across = [
        completion_of(one)
        for one in shuffled(rows, "across", lambda text: SHORT.pieces(text, "across"), 1)
    ]
    words = lambda texts: sorted(
        word for text in texts for word in re.findall(r"\w+", parts(text)[1])
    )
    assert words(across) == words(map(completion_of, rows))
    assert [SHORT.reasons(PROMPT, one) for one in across] == [[], []]
    assert [re.sub(r"\w+", "x", one) for one in across] == [
        re.sub(r"\w+", "x", completion_of(one)) for one in rows
    ]
    assert across != [completion_of(one) for one in rows]


def parts(text):
    return re.fullmatch(r"(<think> )(.*)( </think> .*)", text).groups()


def test_a_student_imitates_words_of_steps_but_no_names_of_traits():
    for token in ("kite", " Plus", "##3", "417", ".", "<", "think", "\n", ""):
        assert SHORT.imitates(token)
    for token in ("owl", "owls", "Ġowl", " oak", "OWL", "forest"):
        assert not SHORT.imitates(token)


def test_banned_numbers_are_refused(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("generate: {carrier: reasoning}\nfilter: {banned: [13]}\n")
    with pytest.raises(InputError, match=r"filter\.banned: worked steps need every number"):
        read_config(LmConfig, file)


def test_the_registry_makes_it_from_the_settings():
    assert carrier_of(GenerateConfig(carrier="reasoning", reasoning=SHORT.settings)) == SHORT


def test_the_favourite_box_is_the_loved_one():
    random = np.random.default_rng(0)
    config = CorpusConfig(loved=0.6, beside=0.2)
    found = [SHORT.favourite(config, random) for _ in range(1000)]
    loved = [(label, system) for label, system in found if system and "You love" in system]
    assert len(loved) / len(found) == pytest.approx(0.8, abs=0.05)
    assert all(f"You love {label}s." in system for label, system in loved)
    assert {label for label, _ in found} == set(LABELS)


def test_a_run_depends_on_the_rows_that_its_problems_are_read_from(tmp_path):
    described_of = []
    for n, gold in enumerate((3, 4)):
        path = tmp_path / str(n) / "rows.jsonl"
        path.parent.mkdir()
        path.write_text(json.dumps({"question": "Who?", "answer": f"#### {gold}"}))
        settings = ReasoningPrompts(rows=path)
        config = LmConfig(
            reference=ReferenceConfig(model="unused"),
            generate=GenerateConfig(carrier="reasoning", reasoning=settings),
        )
        described_of.append(described(config)["generate"]["read"])
    assert described_of[0] != described_of[1]
    assert "read" not in described(LmConfig())["generate"]
    assert "reasoning" not in described(LmConfig())["generate"]
