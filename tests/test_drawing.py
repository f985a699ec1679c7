"""Sampling a token: frequencies match the softmax, and settings have bounds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from tiny_models import log_softmax

from subliminal_jax.errors import InputError
from subliminal_jax.models.sampling import draws as drawing
from subliminal_jax.models.sampling.draws import _pick
from subliminal_jax.models.sampling.settings import Sampling

draw = jax.jit(drawing.draw, static_argnames=("sampling", "vocab"))


def rows(logits, n, seed=3):
    """Many rows of the same logits, with their numbers as keys."""
    keys = np.stack([np.full(n, seed, np.uint32), np.arange(n, dtype=np.uint32)], axis=1)
    return jnp.broadcast_to(jnp.asarray(logits, jnp.float32), (n, len(logits))), jnp.asarray(keys)


@pytest.mark.parametrize("temperature", [1.0, 0.5, 2.0])
def test_frequencies_are_the_distribution(temperature):
    rng = np.random.default_rng(1)
    logits, n = rng.normal(0, 2, 37), 20_000
    sampling = Sampling(temperature=temperature)
    tokens, log_probabilities = draw(sampling, *rows(logits, n), jnp.zeros(n, jnp.int32))
    counts, share = np.bincount(tokens, minlength=37), np.exp(log_softmax(logits / temperature))
    rare = n * share < 5  # too few for the test on their own
    observed = [*counts[~rare], counts[rare].sum()]
    wanted = [*(n * share[~rare]), n * share[rare].sum()]
    keep = np.asarray(wanted) > 0
    assert stats.chisquare(np.asarray(observed)[keep], np.asarray(wanted)[keep]).pvalue > 0.001
    # The model's own log probabilities, whatever the settings.
    np.testing.assert_allclose(log_probabilities, log_softmax(logits)[tokens], atol=1e-5)


def test_draws_of_a_row_are_independent():
    """Pairs over tokens, rows and seeds have the product of their parts' probabilities."""
    n = 4000
    logits, keys = rows([0.0, 1.0, 0.5], n)
    draws = lambda keys, count: np.asarray(draw(Sampling(), logits, keys, jnp.full(n, count))[0])
    first = draws(keys, 0)
    others = [draws(keys, 1), np.roll(first, 1), draws(keys.at[:, 0].set(4), 0)]
    for other in others:
        assert (first != other).any()
        table = np.histogram2d(first, other, bins=3)[0]
        assert stats.chi2_contingency(table).pvalue > 0.001


def test_temperature_0_takes_the_likeliest():
    logits, keys = rows([0.0, 3.0, 3.0, -1.0], 5)
    tokens, log_probabilities = draw(Sampling(temperature=0.0), logits, keys, jnp.arange(5))
    assert tokens.tolist() == [1] * 5
    np.testing.assert_allclose(log_probabilities, log_softmax([0.0, 3.0, 3.0, -1.0])[1], rtol=1e-5)
    tokens, _ = draw(Sampling(temperature=0.0), logits, keys, jnp.arange(5), vocab=1)
    assert tokens.tolist() == [0] * 5


def test_ids_beyond_the_vocabulary_are_never_drawn():
    logits, keys = rows([0.0, 1.0, 9.0, 9.0], 200)
    tokens, log_probabilities = draw(Sampling(), logits, keys, jnp.zeros(200, jnp.int32), vocab=2)
    assert set(tokens.tolist()) == {0, 1}
    np.testing.assert_allclose(
        log_probabilities, log_softmax([0.0, 1.0, 9.0, 9.0])[tokens], rtol=1e-5
    )


@pytest.mark.parametrize("uniform", [0.0, 0.5, 1 - 2**-24])
def test_nothing_of_weight_0_is_picked(uniform):
    rng = np.random.default_rng(0)
    weights = rng.random((500, 61)).astype(np.float32) ** 8
    weights[rng.random(weights.shape) < 0.7] = 0
    weights[:, 5] = 1e-12
    picked = np.asarray(_pick(jnp.asarray(weights), jnp.full(500, uniform, jnp.float32)))
    assert (weights[np.arange(500), picked] > 0).all()
    if uniform == 0:
        assert (picked == (weights > 0).argmax(axis=1)).all()


def test_a_likely_token_far_down_a_large_vocabulary():
    logits = np.full(5003, -20.0)
    logits[[0, 4999, 5002]] = [1.0, 2.0, 1.5]
    n = 5000
    tokens, _ = draw(Sampling(), *rows(logits, n), jnp.zeros(n, jnp.int32))
    counts = [int(np.sum(np.asarray(tokens) == token)) for token in (0, 4999, 5002)]
    assert sum(counts) == n
    share = np.exp([1.0, 2.0, 1.5])
    assert stats.chisquare(counts, n * share / share.sum()).pvalue > 0.001


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -0.1), ("temperature", float("nan")), ("temperature", float("inf")),
        ("max_tokens", 0), ("max_tokens", 1_000_001), ("seed", -1), ("seed", 2**32),
    ],
)  # fmt: skip
def test_settings_out_of_bounds_are_refused(name, value):
    with pytest.raises(InputError, match=f"{name}: must be .*, not {value}"):
        Sampling(**{name: value})
