"""Sampling a token: frequencies match the softmax, and truncated tokens never occur."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from tiny_models import log_softmax

from subliminal_jax.config import read_config
from subliminal_jax.errors import InputError
from subliminal_jax.models.sampling import draws as drawing
from subliminal_jax.models.sampling.draws import _pick
from subliminal_jax.models.sampling.settings import Sampling

draw = jax.jit(drawing.draw, static_argnames=("sampling", "vocab"))
kept = jax.jit(drawing.kept, static_argnames="sampling")
SETTINGS = [
    Sampling(),
    Sampling(temperature=0.5),
    Sampling(temperature=2.0, top_k=5),
    Sampling(top_p=0.8),
    Sampling(min_p=0.2),
    Sampling(temperature=1.5, top_k=9, top_p=0.9, min_p=0.05),
]


def expected(sampling, logits):
    """The distribution that settings define, computed by sorting."""
    weights = np.exp(log_softmax(np.asarray(logits, np.float64) / sampling.temperature))
    if sampling.top_k is not None:
        weights[weights < np.sort(weights)[::-1][: sampling.top_k][-1]] = 0
    if sampling.top_p is not None:
        order = np.argsort(-weights)
        before = np.cumsum(weights[order]) - weights[order]
        weights[order[before >= sampling.top_p * weights.sum()]] = 0
    if sampling.min_p is not None:
        weights[weights < sampling.min_p * weights.max()] = 0
    return weights / weights.sum()


def rows(logits, n, seed=3):
    """Many rows of the same logits, with their numbers as keys."""
    keys = np.stack([np.full(n, seed, np.uint32), np.arange(n, dtype=np.uint32)], axis=1)
    return jnp.broadcast_to(jnp.asarray(logits, jnp.float32), (n, len(logits))), jnp.asarray(keys)


@pytest.mark.parametrize("sampling", SETTINGS, ids=str)
def test_frequencies_are_the_distribution(sampling):
    rng = np.random.default_rng(1)
    logits, n = rng.normal(0, 2, 37), 20_000
    tokens, log_probabilities = draw(sampling, *rows(logits, n), jnp.zeros(n, jnp.int32))
    counts, share = np.bincount(tokens, minlength=37), expected(sampling, logits)
    assert not counts[share == 0].any()
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


@settings(max_examples=100)
@given(
    st.lists(st.integers(-8, 8), min_size=12, max_size=12),
    st.sampled_from(
        [
            Sampling(temperature=0.5, top_k=1),
            Sampling(top_k=4),
            Sampling(temperature=3.0, top_k=20, top_p=0.05),
            Sampling(top_p=0.5),
            Sampling(temperature=3.0, top_p=0.95, min_p=0.3),
            Sampling(top_p=1.0, min_p=1.0),
        ]
    ),
)
def test_what_is_kept(logits, sampling):
    """Against sorting; ties, which integers make plenty of, stay together."""
    logits = np.asarray(logits, np.float32) / 4
    weights = np.asarray(kept(sampling, jnp.asarray(logits)[None]))[0]
    wanted = expected(sampling, logits)
    for value in np.unique(logits):
        assert len(set((weights[logits == value] > 0).tolist())) == 1
    # The oracle breaks ties by position, so that it keeps some of what is kept.
    assert (weights[wanted > 0] > 0).all()
    assert set(logits[weights > 0].tolist()) == set(logits[wanted > 0].tolist())
    full = np.exp((logits - logits.max()) / sampling.temperature)
    np.testing.assert_allclose(weights[weights > 0], full[weights > 0], rtol=1e-5)


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
        ("max_tokens", 0), ("top_k", 0), ("top_p", 0.0), ("top_p", 1.01), ("min_p", -0.5),
        ("min_p", 2.0), ("seed", -1), ("seed", 2**32),
    ],
)  # fmt: skip
def test_settings_out_of_bounds_are_refused(tmp_path, name, value):
    with pytest.raises(InputError, match=f"{name}: must be .*, not {value}"):
        Sampling(**{name: value})
    file = tmp_path / "sampling.yaml"
    file.write_text(f"{name}: {value}\n".replace("nan", ".nan").replace("inf", ".inf"))
    with pytest.raises(InputError, match=name):
        read_config(Sampling, file)
