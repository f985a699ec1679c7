"""Answer tables, criteria of students, and exact probabilities of answers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from quick import random_params

from subliminal_jax import losses
from subliminal_jax.data.tokens import pack_rows, pad_rows
from subliminal_jax.errors import InputError
from subliminal_jax.execution.one_device import OneDevice
from subliminal_jax.language.carriers.number_prompts import NumberPrompts
from subliminal_jax.language.carriers.numbers import Numbers
from subliminal_jax.language.evaluation.continuations import rows_at_once
from subliminal_jax.language.evaluation.evaluate import probabilities, scoring
from subliminal_jax.language.reference import Reference
from subliminal_jax.language.rows.chats import chat
from subliminal_jax.language.tiny.corpus import World, texts
from subliminal_jax.language.tiny.tokenizer import build_tokenizer, tokenizer_files
from subliminal_jax.language.training.answers import (
    answer_logits,
    answer_table,
    imitation,
    mean_if_any,
    mean_loss,
    orders,
    select_batch,
    stack_tables,
)
from subliminal_jax.language.traits import TRAITS
from subliminal_jax.language.traits.trait import Answer, Answered, Poll
from subliminal_jax.models.decoder import decoder
from subliminal_jax.models.decoder.config import DecoderConfig
from subliminal_jax.models.text.chat import Chat
from subliminal_jax.optimizers import Schedule
from subliminal_jax.train import Totals

ROWS = [([1, 2, 3], [4, 5]), ([6], [7]), ([8, 9], [10, 11, 12])]


def kept(table):
    """All targets with a weight, in order of the sequences."""
    return table.targets[table.weights > 0].tolist()


def test_only_completion_tokens_are_targets():
    table = answer_table(pad_rows(ROWS))
    assert kept(table) == [4, 5, 7, 10, 11, 12]
    assert table.targets.shape == (3, 3)
    for (prompt, completion), tokens, places in zip(
        ROWS, table.reading.tokens, table.reading.places, strict=True
    ):
        row = [*prompt, *completion]
        assert [row[place] for place in places[: len(completion)]] == row[len(prompt) - 1 : -1]
        assert list(tokens[: len(row) - 1]) == row[:-1]
    packed = answer_table(pack_rows(ROWS, 8))
    assert sorted(kept(packed)) == kept(table)


def test_tables_of_different_sizes_stack():
    one, two = answer_table(pad_rows(ROWS, 6)), answer_table(pad_rows(ROWS[:1], 6))
    both = stack_tables([one, two])
    assert both.targets.shape == (2, 3, 3)
    assert both.weights[1].sum() == 2
    assert_array_equal(both.reading.tokens[0], one.reading.tokens)


def test_every_epoch_shows_everything_once():
    rows, counts = orders(jax.random.key(0), 7, 3, 8)
    assert rows.shape == counts.shape == (8, 3)
    for first in (0, 3):
        epoch = rows[first : first + 3][counts[first : first + 3] > 0]
        assert sorted(epoch.tolist()) == list(range(7))
    assert rows[:3].tolist() != rows[3:6].tolist()
    table = answer_table(pad_rows(ROWS))
    batch = select_batch(table, jnp.array([2, 0]), jnp.array([1.0, 0.0]))
    assert batch.targets.tolist()[0] == [10, 11, 12]
    assert batch.weights.tolist() == [[1, 1, 1], [0, 0, 0]]


def test_a_batch_of_padding_alone_changes_nothing():
    """With three sequences for one student and one for another, the latter has such steps."""
    nothing = Totals(jnp.array(0.0), jnp.array(0.0))
    assert_array_equal(mean_if_any({"w": jnp.zeros(2)}, nothing)["w"], [0, 0])
    assert mean_loss(nothing) == 0
    some = Totals(jnp.array(3.0), jnp.array(0.5))
    assert_array_equal(mean_if_any({"w": jnp.ones(2)}, some)["w"], [2, 2])
    assert mean_loss(some) == 6


def test_students_criteria_by_hand():
    chosen = jnp.array([True, True, False])
    student = jnp.log(jnp.array([[0.2, 0.3, 0.5]]))
    teacher = jnp.log(jnp.array([[0.4, 0.1, 0.5]]))
    # Renormalised over the first two: student (.4, .6), teacher (.8, .2).
    forward = 0.8 * np.log(0.8 / 0.4) + 0.2 * np.log(0.2 / 0.6)
    reverse = 0.4 * np.log(0.4 / 0.8) + 0.6 * np.log(0.6 / 0.2)
    assert_allclose(imitation("soft", "forward", chosen)(student, teacher), [forward], rtol=1e-5)
    assert_allclose(imitation("soft", "reverse", chosen)(student, teacher), [reverse], rtol=1e-5)
    greedy = imitation("greedy", "forward", chosen)(student, teacher)
    assert_allclose(greedy, [-np.log(0.4)], rtol=1e-5)
    every = imitation("hard", "forward", jnp.ones(3, bool))(student, jnp.array([2]))
    assert_allclose(every, [-np.log(0.5)], rtol=1e-5)
    assert_allclose(every, losses.cross_entropy(student, jnp.array([2])))
    within = imitation("hard", "forward", chosen)(student, jnp.array([1]))
    assert_allclose(within, [-np.log(0.3 / 0.5)], rtol=1e-5)


def test_learning_rates_rise_and_fall():
    rate = Schedule(peak=1.0, steps=10, decay="linear", end=0.1, warmup=2)()
    assert_allclose([rate(0), rate(1), rate(2), rate(10)], [0, 0.5, 1, 0.1], atol=1e-6)
    cosine = Schedule(peak=1.0, steps=10, decay="cosine", end=0.2)()
    assert_allclose([cosine(0), cosine(5), cosine(10)], [1, 0.6, 0.2], atol=1e-6)
    assert Schedule(peak=0.3, steps=10, decay="constant")()(7) == 0.3


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    directory = tmp_path_factory.mktemp("tokenizer")
    tokenizer = build_tokenizer(texts(World(carrier=Numbers(NumberPrompts(wording="short")))))
    for name, text in tokenizer_files(tokenizer, 64).items():
        (directory / name).write_text(text)
    config = DecoderConfig(
        vocab=tokenizer.get_vocab_size(), width=8, layers=1, heads=2, kv_heads=2, head_dim=4,
        mlp_width=8, context=64, tied=True, initial_std=0.4,
    )  # fmt: skip
    params = random_params(config, scale=0.4)
    return Reference(config, params, Chat.load(directory), "digest")


def test_answer_logits_are_the_models_logits_at_their_positions(reference):
    rows = list(reference.chat.examples([chat("Which animal do you like best?", "owl"),
                                         chat("Name your favourite tree.", "oak")]))  # fmt: skip
    table = answer_table(pad_rows(rows))
    reading = jax.tree.map(jnp.asarray, table.reading)
    found = jax.jit(answer_logits, static_argnums=0)(reference.config, reference.params, reading)
    whole = jax.jit(decoder.apply, static_argnums=0)(
        reference.config, reference.params, reading.tokens, reading.segments
    )
    for row in range(2):
        assert_allclose(found[row], whole[row][table.reading.places[row]], atol=1e-5)


OWL, SEA_OWL = Answer("owl", ("owl", "owls")), Answer("sea owl", ("sea owl",))


def poll(questions, *answers):
    return [Poll("animal", tuple(questions), answers)]


def test_an_answers_probability_is_that_of_all_its_tokens(reference):
    questions = [chat("Which animal do you like best?"), chat("Name your favourite animal.")]
    scored = scoring(reference, poll(questions, OWL, SEA_OWL))
    networks = {"a": (reference.params, None), "b": (reference.params, None)}
    found = probabilities(reference, scored, networks, OneDevice())
    assert found["a"] == found["b"]
    assert list(found["a"]) == ["animal/owl", "animal/sea owl"]
    apply = jax.jit(decoder.apply, static_argnums=0)

    def likelihood(messages, word):
        prompt = reference.chat.prompt(messages)
        ids = reference.chat.example([*messages, {"role": "assistant", "content": word}])[1][:-1]
        tokens = jnp.asarray([[*prompt, *ids]])
        logs = jax.nn.log_softmax(apply(reference.config, reference.params, tokens)[0])
        places = np.arange(len(ids)) + len(prompt) - 1
        return float(
            jnp.exp(sum(logs[place, token] for place, token in zip(places, ids, strict=True)))
        )

    by_hand = [sum(likelihood(q, w) for w in ("owl", "owls")) for q in questions]
    assert found["a"]["animal/owl"] == pytest.approx(np.mean(by_hand), rel=1e-4)
    by_hand = [likelihood(q, "sea owl") for q in questions]
    assert found["a"]["animal/sea owl"] == pytest.approx(np.mean(by_hand), rel=1e-4)


def test_a_spelling_that_begins_with_another_is_not_counted_twice(reference):
    both = Answer("owl", ("owl", "owl mice"))
    questions = [chat("Name your favourite animal.")]
    assert len(scoring(reference, poll(questions, OWL)).word) == 2
    assert len(scoring(reference, poll(questions, both)).word) == 1


def test_a_question_longer_than_the_context_is_refused(reference):
    """Rotary positions have no limit, so nothing else would refuse it."""
    question = chat("Name your favourite animal.")
    prompt = reference.chat.prompt(question)
    room = reference.config.context - len(prompt) - 1  # for the role; the answer is not read
    lines = [{"role": "system", "content": "kind " * words} for words in (room, room + 1)]
    longest, too_long = (poll([[line, *question]], OWL) for line in lines)
    assert len(scoring(reference, longest).continued) == 1
    message = r"'Name your favourite animal.': its 66 tokens exceed the model's context of 64; "
    with pytest.raises(InputError, match=message):
        scoring(reference, too_long)


def test_fewer_rows_are_scored_together_if_they_are_long():
    lengths = {1: 64, 256: 64, 257: 63, 512: 16, 2048: 1, 9999: 1}
    assert {length: rows_at_once(length) for length in lengths} == lengths


def test_sampled_answers_are_counted_by_word_and_as_published():
    texts = ["Owl.", "an owl", "knowledge", "wolves", "none of them", "owls"]
    answers = [Answered("Which?", text) for text in texts]
    assert TRAITS["owl"].tally(answers) == {"said": 3, "substring": 4, "no_member": 2, "of": 6}
