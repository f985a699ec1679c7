"""Exact scores: those of the plain forward pass, however rows are grouped."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_models as tiny

from subliminal_jax.errors import InputError
from subliminal_jax.models.sampling.scoring import likelihoods_after, logits_at, score


@pytest.fixture(scope="module")
def params():
    return tiny.params()


def rows_of(n, seed=0):
    rng = np.random.default_rng(seed)
    draw = lambda most: rng.integers(0, 37, rng.integers(1, most)).tolist()
    return [(draw(20), draw(5)) for _ in range(n)]


def plain(params, prompt, continuation):
    texts = [[*prompt, *continuation[:i]] for i in range(len(continuation))]
    logits = tiny.next_logits(params, texts)
    return [tiny.log_softmax(row)[token] for row, token in zip(logits, continuation, strict=True)]


def test_scores_are_the_plain_forward_pass(params):
    rows = rows_of(12)
    for found, row in zip(score(tiny.CONFIG, params, rows, batch=16), rows, strict=True):
        np.testing.assert_allclose(found, plain(params, *row), atol=1e-4)


def test_all_one_token_words_sum_to_one(params):
    """After one prompt, which is read once; also all pairs of tokens with one first token."""
    prompt = [5, 6, 7]
    words = [(prompt, [token]) for token in range(37)]
    found = np.exp(np.concatenate(score(tiny.CONFIG, params, words, batch=16)))
    assert found.sum() == pytest.approx(1, abs=1e-5)
    longer = score(tiny.CONFIG, params, [(prompt, [4, token]) for token in range(37)], batch=16)
    assert np.exp([row.sum() for row in longer]).sum() == pytest.approx(found[4], rel=1e-4)


def test_rows_with_one_text_and_different_prompts(params):
    rows = [([5, 6], [7, 8]), ([5, 6, 7], [8]), ([5], [6, 7, 8])]
    found = score(tiny.CONFIG, params, rows, batch=16)
    np.testing.assert_allclose(found[2], [*found[2][:1], *found[0]], atol=1e-5)
    np.testing.assert_allclose(found[1], found[0][1:], atol=1e-5)
    np.testing.assert_allclose(found[2], plain(params, *rows[2]), atol=1e-4)


@pytest.mark.parametrize("continuations", [[[4]], [[4], [4, 9], [4, 9, 1], [7, 4]]])
@pytest.mark.parametrize("batch", [2, 16])
def test_continuations_after_prompts_that_are_read_once(params, continuations, batch):
    prompts = [prompt for prompt, _ in rows_of(5)]
    found = likelihoods_after(tiny.CONFIG, params, prompts, continuations, batch=batch)
    rows = [(prompt, after) for prompt in prompts for after in continuations]
    wanted = [row.sum() for row in score(tiny.CONFIG, params, rows, batch=16)]
    np.testing.assert_allclose(found, np.reshape(wanted, found.shape), atol=1e-4)


def test_prompts_and_continuations_are_checked(params):
    long = [1] * tiny.CONFIG.context
    for prompts, continuations in ([[[]], [[1]]], [[[1]], [[]]], [[long], [[1]]], [[[1]], [[37]]]):
        with pytest.raises(InputError, match="row 0: "):
            likelihoods_after(tiny.CONFIG, params, prompts, continuations, batch=2)


def test_logits_at_chosen_positions(params):
    rows = [(prompt, [1, 2, 3]) for prompt, _ in rows_of(5)]
    tokens, places = np.zeros((5, 24), np.int32), np.zeros((5, 2), np.int32)
    for i, (prompt, continuation) in enumerate(rows):
        tokens[i, : len(prompt) + 3] = [*prompt, *continuation]
        places[i] = [len(prompt) - 1, len(prompt) + 2]
    found = logits_at(tiny.CONFIG, params, jnp.asarray(tokens), jnp.asarray(places))
    assert found.shape == (5, 2, 37)
    wanted = tiny.next_logits(params, [prompt for prompt, _ in rows])
    np.testing.assert_allclose(found[:, 0], wanted, atol=1e-4)
    wanted = tiny.next_logits(params, [[*prompt, 1, 2, 3] for prompt, _ in rows])
    np.testing.assert_allclose(found[:, 1], wanted, atol=1e-4)


def test_many_models_at_once(params):
    """Mapped over the parameters, as an evaluation of many students is."""
    both = jax.tree.map(lambda a, b: jnp.stack([a, b]), params, tiny.params(1))
    tokens, places = jnp.asarray([[1, 2, 3, 0], [4, 5, 0, 0]]), jnp.asarray([[2], [1]])
    found = jax.vmap(lambda p: logits_at(tiny.CONFIG, p, tokens, places))(both)
    for model, own in zip(found, (params, tiny.params(1)), strict=True):
        wanted = tiny.next_logits(own, [[1, 2, 3], [4, 5]])
        np.testing.assert_allclose(model[:, 0], wanted, atol=1e-4)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (([], [1]), "row 1: its prompt is empty"),
        (([1], []), "row 1: its continuation is empty"),
        (([1] * 60, [1] * 5), "row 1: its 65 tokens exceed the model's context of 64"),
        (([1, 37], [1]), "row 1: has an id outside the model's 37"),
        (([1], [-1]), "row 1: has an id outside"),
    ],
)
def test_unfit_rows_are_named(params, row, words):
    fits = ([1] * 60, [2] * 4)  # the context is full
    with pytest.raises(InputError, match=words):
        score(tiny.CONFIG, params, [fits, row])
