"""Every family against transformers on torch: logits, gradients, padding, the cache, greedy text.

The fixtures hold what torch said (`torch_models.py` writes them); where torch is installed, a
last test checks that it still says so.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from safetensors.numpy import load_file
from torch_models import CASES, FIXTURES, LENGTHS, NEW_TOKENS, left_padded, make, prompts

from subliminal_jax.losses import cross_entropy
from subliminal_jax.models.decoder import decoder
from subliminal_jax.models.decoder.cache import init_cache
from subliminal_jax.models.hub.families import FAMILIES
from subliminal_jax.models.hub.weights import load
from subliminal_jax.models.sampling.scoring import likelihoods_after, score


def test_every_family_is_tested():
    assert set(CASES) == set(FAMILIES)


def largest_difference(got, expected, least: float = 0.0) -> float:
    """The largest difference, relative to the largest expected number, at least `least`."""
    scale = max(np.abs(expected).max(), least)
    return float(np.abs(np.asarray(got) - expected).max() / scale)


def right_padded(rows):
    tokens, mask = left_padded([row[::-1] for row in rows])
    return tokens[:, ::-1].copy(), mask[:, ::-1].copy()


@pytest.mark.parametrize("name", CASES)
def test_logits_and_gradients(name):
    model = load(str(FIXTURES / name / "model"))
    expected = load_file(FIXTURES / name / "expected.safetensors")
    gradients = load(str(FIXTURES / name / "gradients")).params
    # A bias of keys moves no softmax: its gradient is rounding alone.
    least = 1e-3 * max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(gradients))

    @jax.jit
    def loss_and_logits(params, tokens, mask):
        def mean(params):
            logits = decoder.apply(model.config, params, tokens, mask)
            losses = cross_entropy(logits[:, :-1], tokens[:, 1:])
            counted = mask[:, :-1] & mask[:, 1:]
            return jnp.sum(losses * counted) / jnp.sum(counted), logits

        return jax.value_and_grad(mean, has_aux=True)(params)

    for pad in (left_padded, right_padded):
        tokens, mask = map(jnp.asarray, pad(prompts(name)))
        (loss, logits), grads = loss_and_logits(model.params, tokens, mask)
        assert_allclose(logits[mask], expected["logits"], atol=1e-4)
        assert_allclose(loss, expected["loss"][0], rtol=1e-5)
        worst = jax.tree.map(partial(largest_difference, least=least), grads, gradients)
        assert max(jax.tree.leaves(worst)) < 1e-3, worst


@pytest.mark.parametrize("name", CASES)
def test_greedy_continuations(name):
    """The prompt at once, then 64 tokens one by one, rows of different length."""
    model = load(str(FIXTURES / name / "model"))
    expected = load_file(FIXTURES / name / "expected.safetensors")
    greedy = load_file(FIXTURES / name / "greedy.safetensors")
    tokens, mask = map(jnp.asarray, left_padded(prompts(name)))
    config = model.config

    @jax.jit
    def run(params):
        cache = init_cache(config, len(LENGTHS), max(LENGTHS) + NEW_TOKENS)
        hidden, cache = decoder.start(config, params, tokens, cache, mask)
        read = decoder.unembed(config, params, hidden)

        def step(carry, _):
            cache, token = carry
            hidden, cache = decoder.extend(config, params, token[:, None], cache)
            following = jnp.argmax(decoder.unembed(config, params, hidden[:, 0]), axis=-1)
            return (cache, following), token

        begin = (cache, jnp.argmax(read[:, -1], axis=-1))
        _, text = jax.lax.scan(step, begin, length=NEW_TOKENS)
        return read, text.T

    read, text = run(model.params)
    assert_allclose(read[mask], expected["logits"], atol=1e-4)
    assert text.tolist() == greedy["tokens"].tolist()


@pytest.mark.parametrize("name", CASES)
def test_texts_behind_what_was_read(name):
    """Continuations that share beginnings, after prompts of different length that are read once."""
    model = load(str(FIXTURES / name / "model"))
    words = [[3], [3, 5], [3, 5, 8, 1, 2, 7], [4, 5, 6]]
    begun = [list(map(int, prompt)) for prompt in prompts(name)]
    plain = score(model.config, model.params, [(one, word) for one in begun for word in words])
    found = likelihoods_after(model.config, model.params, begun, words, batch=8)
    assert_allclose(found.reshape(-1), [row.sum() for row in plain], atol=1e-4)


@pytest.mark.parametrize("name", CASES)
def test_torch_still_says_so(name, tmp_path):
    pytest.importorskip("torch", reason="the stored fixtures are compared with torch's answers")
    make(name, tmp_path)
    for part in ("expected", "gradients/model"):
        fresh = load_file(tmp_path / f"{part}.safetensors")
        stored = load_file(FIXTURES / name / f"{part}.safetensors")
        assert fresh.keys() == stored.keys()
        for key, array in fresh.items():
            assert largest_difference(stored[key], array, least=1e-3) < 1e-4, key
    fresh = (tmp_path / "model" / "config.json").read_text()
    assert fresh == (FIXTURES / name / "model" / "config.json").read_text()
