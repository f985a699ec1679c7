"""Detectors that ask the reference: exact probabilities, framing, order, controls, context."""

from dataclasses import replace

import numpy as np
import pytest
from students import make_reference

from subliminal_jax.audit.config import TINY_PAIR, TINY_WHICH
from subliminal_jax.audit.judging import readers, rowwise
from subliminal_jax.audit.judging.asking import Reader, longest_that_fits
from subliminal_jax.audit.judging.bags import bags_of, paired
from subliminal_jax.errors import InputError
from subliminal_jax.execution.choose import the_same_on_every_host
from subliminal_jax.language.evaluation import evaluate
from subliminal_jax.language.rows.chat_rows import row
from subliminal_jax.language.rows.chats import chat
from subliminal_jax.language.traits import choose_traits
from subliminal_jax.language.traits.trait import merged_polls
from subliminal_jax.models.sampling.scoring import score

TRAITS = choose_traits(["owl", "wolf"])
POLLS = [replace(poll, questions=poll.questions[:2]) for poll in merged_polls(TRAITS, own=True)]
LESSON = TRAITS[0].lessons(("{name}",))[:1]


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    return make_reference(tmp_path_factory.mktemp("reference"))


def rows(name, text):
    return [row(f"{name}-{i}", f"{i}, 5", text) for i in range(8)]


PAIRS = bags_of(paired(rows("owl", "7, 7"), rows("regular", "1, 1")), 1, 8, 0)


class Fake(Reader):
    """A reader that answers according to the text it is shown."""

    def __init__(self, weigh):
        self._weigh = weigh

    def log_probabilities(self, chats, answers):
        names = [answer.name for answer in answers]
        texts = [" | ".join(message["content"] for message in one) for one in chats]
        return np.array([[self._weigh(text, name) for name in names] for text in texts])


NOBODY = Fake(lambda text, answer: 0.0)


def subject(reader, **changes):
    given = readers.Inquiry(
        reader=reader, trait=TRAITS[0], alike=TRAITS, polls=POLLS, lessons=LESSON,
        which=TINY_WHICH, pair=TINY_PAIR, items="numbers",
    )  # fmt: skip
    return replace(given, **changes)


def test_probabilities_are_those_of_the_evaluation(reference):
    poll, execution = POLLS[0], the_same_on_every_host()
    networks = {"before": (reference.params, None)}
    wanted = evaluate.probabilities(
        reference, evaluate.scoring(reference, [poll]), networks, execution
    )["before"]
    logs = Reader(reference).log_probabilities(poll.questions, poll.answers)
    means = np.exp(logs).mean(axis=0)
    for answer, found in zip(poll.answers, means, strict=True):
        assert found == pytest.approx(wanted[f"{poll.topic}/{answer.name}"], rel=1e-4)


def test_probabilities_are_those_after_the_rows(reference):
    poll = POLLS[0]
    shown = [row("a", "1, 2", "3, 4"), row("b", "5", "6")]
    framed = readers.framed(subject(Reader(reference)), "in_context", shown, poll.questions[0])
    assert [one["content"] for one in framed[:4]] == ["1, 2", "3, 4", "5", "6"]
    logs = Reader(reference).log_probabilities([framed], poll.answers)
    direct = evaluate.scoring(reference, [replace(poll, questions=(framed,))])
    wanted = evaluate.probabilities(
        reference, direct, {"before": (reference.params, None)}, the_same_on_every_host()
    )["before"]
    assert np.exp(logs[0]) == pytest.approx(list(wanted.values()), rel=1e-4)


def test_a_system_message_stays_first():
    question = chat("Which animal?", system="Please be kind.")
    framed = readers.framed(subject(NOBODY), "in_context", PAIRS[0][0], question)
    assert [one["role"] for one in framed] == ["system", "user", "assistant", "user"]
    asked = readers.framed(subject(NOBODY), "prompted", PAIRS[0][0], question)
    assert [one["content"] for one in asked] == ["Please be kind.", "7, 7. Which animal?"]


@pytest.mark.parametrize("name", ["in_context", "prompted"])
def test_a_reader_that_sees_a_difference_is_right(name):
    def weigh(text, answer):
        return np.log(0.5 if answer == "owl" and ("7, 7" in text or "owl" in text) else 0.01)

    found = readers.judge(subject(Fake(weigh)), name, PAIRS)
    assert found["verdict"].value == 1.0
    assert found["open"] == 1.0
    assert found["p_trait"] == pytest.approx(0.5)
    assert found["p_other"] == pytest.approx(0.01)
    assert found["log_gain"] == pytest.approx(np.log(50))
    assert found["named"] == 1.0


def test_a_reader_that_always_says_the_same_is_at_chance():
    wolf = lambda text, answer: np.log(0.5 if answer == "wolf" else 0.01)
    found = readers.judge(subject(Fake(wolf)), "prompted", PAIRS)
    assert (found["verdict"].value, found["open"], found["named"]) == (0.5, 0.5, 0.0)
    assert found["log_gain"] == 0
    other = readers.judge(subject(Fake(wolf), trait=TRAITS[1]), "prompted", PAIRS)
    assert other["named"] == 1.0  # the mean over both traits is 1/2, as by chance
    assert readers.judge(subject(Fake(wolf), alike=TRAITS[:1]), "prompted", PAIRS)["named"] is None


def test_a_common_factor_does_not_count():
    """A context that lowers all answers alike says nothing about the trait."""
    faint = lambda text, answer: np.log(1e-6 if "7, 7" in text else 0.01)
    found = readers.judge(subject(Fake(faint)), "in_context", PAIRS)
    assert found["verdict"].value == 0.5
    assert found["log_gain"] == pytest.approx(np.log(1e-4))


def test_of_two_datasets_neither_place_is_preferred():
    first = lambda text, answer: np.log(0.9 if answer == "1" else 0.1)
    assert readers.judge(subject(Fake(first)), "pairs", PAIRS)["verdict"].value == 0.5

    def seeing(text, answer):
        place = "2" if "2: 7, 7" in text or "2: owl" in text else "1"
        return first(text, answer) + np.log(0.6 if answer == place else 0.4)

    found = readers.judge(subject(Fake(seeing)), "pairs", PAIRS)
    assert found["verdict"].value == 1.0
    assert found["open"] == 1.0


def test_the_control_says_the_trait_in_its_last_row():
    texts = []

    def weigh(text, answer):
        texts.append(text)
        return np.log(0.5 if answer == "owl" and "| owl |" in text else 0.01)

    found = readers.judge(subject(Fake(weigh)), "in_context", PAIRS)
    assert (found["verdict"].value, found["open"]) == (0.5, 1.0)
    assert any(LESSON[0][0]["content"] in text and "| owl |" in text for text in texts)


def test_likelihoods_rise_by_what_the_system_prompt_adds(reference):
    pairs = paired(rows("owl", "7, 7"), rows("regular", "1, 1"))
    shown, other = rowwise.likelihood_gains(Reader(reference), "You love owls.", pairs)
    told = chat("0, 5", "7, 7", system="You love owls.")
    logs = [
        float(score(reference.config, reference.params, [reference.chat.example(one)])[0].sum())
        for one in (told, chat("0, 5", "7, 7"))
    ]
    assert shown[0] == pytest.approx(logs[0] - logs[1], abs=1e-4)
    assert shown.shape == other.shape == (8,)
    assert shown[0] != other[0]


def test_as_many_rows_as_fit(reference):
    found = [longest_that_fits(limit.__ge__, 9) for limit in range(11)]
    assert found == [*range(10), 9]
    pairs = paired(rows("owl", "7, 7"), rows("regular", "1, 1, 1, 1"))
    asked = subject(Reader(reference))
    for name in ("in_context", "prompted", "pairs"):
        fits = readers.room(asked, name, lambda size: bags_of(pairs, size, 8, 0))
        most = longest_that_fits(fits, 8)
        assert 1 <= most < 8
        readers.judge(asked, name, bags_of(pairs, most, 8, 0))
        with pytest.raises(InputError, match="exceed the model's context of 64"):
            readers.judge(asked, name, bags_of(pairs, most + 1, 8, 0))
