"""Constrained sampling is exact: the model's distribution, renormalised over what is allowed."""

import functools
import math
from collections import Counter
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
import tiny_models as tiny
from automata import accepts
from scipy import stats
from tiny_tokenizers import byte_level, metaspace
from tokenizers import AddedToken

from subliminal_jax.errors import InputError
from subliminal_jax.language.carriers import carrier_of
from subliminal_jax.language.carriers.number_form import list_form
from subliminal_jax.language.settings import GenerateConfig
from subliminal_jax.language.tiny.corpus import World, texts
from subliminal_jax.language.tiny.tokenizer import build_tokenizer
from subliminal_jax.models.sampling.automaton import automaton, either, text
from subliminal_jax.models.sampling.constraints import constraint
from subliminal_jax.models.sampling.draws import Allowed, draw
from subliminal_jax.models.sampling.prefill import Request
from subliminal_jax.models.sampling.sampler import Sampler
from subliminal_jax.models.sampling.settings import Sampling
from subliminal_jax.models.text.tokenizer import TextTokenizer

PIECES = {5: "1", 2: "2", 9: "12", 7: ",", 30: "1,", 12: ",2", 20: "21,1", 4: "x", 6: "", 33: "3"}
STOPS = (3, 11)
FORM = list_form(1, 2, 2, frozenset({22, 1}), (",",))
PROMPT, MOST = [4, 8, 15], 5


def made_up(form=FORM):
    return constraint(form, [(token, piece, piece) for token, piece in PIECES.items()], STOPS)


@pytest.fixture(scope="module")
def params():
    return tiny.params()


@functools.cache
def completions(begun=(), most=MOST):
    """All completions of the form of at most `most` tokens, by trying every token everywhere."""
    whole = "".join(PIECES[token] for token in begun)
    if len(begun) == most or len(whole) > 6:
        return []
    found = [(*begun, stop) for stop in STOPS] if accepts(FORM, whole) else []
    for token in PIECES:
        found += completions((*begun, token), most) if PIECES[token] else []
    return found


def next_ones(begun, most=MOST):
    return {one[len(begun)] for one in completions((), most) if one[: len(begun)] == begun}


def state_of(made, begun):
    state = jnp.zeros(1, jnp.int32)
    for token in begun:
        state = made.after(state, jnp.array([token]))
    return state


@pytest.mark.parametrize("most", [2, 3, 5])
def test_what_is_allowed_is_what_some_completion_goes_on_with(most):
    made, prefixes = made_up(), {one[:n] for one in completions((), most) for n in range(len(one))}
    assert len(prefixes) >= 3
    for begun in prefixes:
        tokens, mask = made.allowed(state_of(made, begun), jnp.array([most - len(begun)]))
        assert set(np.asarray(tokens)[np.asarray(mask[0])].tolist()) == next_ones(begun, most)
    assert not {4, 6} & set(np.asarray(made.tokens).tolist())  # never allowed: left out


@pytest.mark.parametrize("temperature", [0.7, 1.5])
def test_each_step_is_the_models_distribution_renormalised(params, temperature):
    """The temperature comes behind the constraint, at every prefix; one chi-square over all."""
    made, n = made_up(), 1000
    statistic = freedom = 0
    prefixes = sorted({one[:n] for one in completions() for n in range(len(one))})[:40]
    found = tiny.next_logits(params, [[*PROMPT, *begun] for begun in prefixes])
    keys = jnp.stack([jnp.zeros(n, jnp.uint32), jnp.arange(n, dtype=jnp.uint32)], axis=1)
    for place, (begun, logits) in enumerate(zip(prefixes, found, strict=True)):
        tokens, mask = made.allowed(state_of(made, begun), jnp.array([MOST - len(begun)]))
        allowed = Allowed(tokens, jnp.broadcast_to(mask, (n, mask.shape[1])))
        wanted = renormalised(logits, next_ones(begun), temperature)
        rows = jnp.broadcast_to(jnp.asarray(logits), (n, len(logits))), keys, jnp.full(n, place)
        likeliest, _ = draw(Sampling(temperature=0.0), *rows, None, allowed)
        assert set(likeliest.tolist()) == {max(wanted, key=wanted.__getitem__)}
        drawn, _ = draw(Sampling(temperature=temperature), *rows, None, allowed)
        counts = Counter(drawn.tolist())
        assert counts.keys() <= wanted.keys()
        often = [token for token in wanted if n * wanted[token] >= 5]
        statistic += sum((counts[t] - n * wanted[t]) ** 2 / (n * wanted[t]) for t in often)
        freedom += len(often) - 1
    assert freedom > 40
    assert 0.001 < stats.chi2.sf(statistic, freedom) < 0.999


def renormalised(logits, tokens, temperature=1.0):
    """The probabilities, in float64."""
    weights = {token: math.exp(float(logits[token]) / temperature) for token in tokens}
    total = sum(weights.values())
    return {token: weight / total for token, weight in weights.items()}


def sample(params, count, batch=64, **changes):
    sampling = replace(Sampling(max_tokens=MOST, seed=1), **changes)
    made = Sampler(tiny.CONFIG, params, sampling, batch=batch, stop_ids=STOPS, constraint=made_up())
    return made.sample(Request(i, PROMPT) for i in range(count))


@pytest.fixture(scope="module")
def sampled(params):
    return sample(params, 3000, batch=256)


def test_completions_follow_the_constrained_distribution(params, sampled):
    """Chi-square over whole completions; each is enumerated with its probability."""
    wanted, count = {}, 3000
    for one in completions():
        wanted.setdefault(one, 1.0)
        for n in range(len(one)):
            wanted[one] *= step(params, one[:n])[one[n]]
    assert sum(wanted.values()) == pytest.approx(1)
    done = sampled
    found = [tuple(completion.tokens.tolist()) for completion in done]
    assert set(found) <= wanted.keys()
    assert all(completion.stopped for completion in done)
    often = [one for one in wanted if count * wanted[one] >= 5]
    observed = [found.count(one) for one in often]
    expected = [count * wanted[one] for one in often]
    observed.append(count - sum(observed))
    expected.append(count - sum(expected))
    assert len(often) > 20
    assert stats.chisquare(observed, expected).pvalue > 0.001
    first = done[0]  # log probabilities stay those of the whole model
    whole = tiny.log_softmax(tiny.next_logits(params, [PROMPT])[0])
    assert first.log_probabilities[0] == pytest.approx(whole[first.tokens[0]], abs=1e-4)


@functools.cache
def _step(begun):
    logits = tiny.next_logits(tiny.params(), [[*PROMPT, *begun]])[0]
    return renormalised(logits, next_ones(begun))


def step(params, begun):
    return _step(begun)


def test_a_row_that_replaces_another_starts_anew(params, sampled):
    few = sample(params, 40, batch=3)
    assert [one.tokens.tolist() for one in few] == [one.tokens.tolist() for one in sampled[:40]]


def test_without_a_constraint_the_draw_is_unchanged():
    """Where all is allowed, the same tokens are drawn; some in the vocabulary are unlikely."""
    rng = np.random.default_rng(0)
    logits = jnp.asarray(rng.normal(0, 3, (64, 37)), jnp.float32)
    keys = jnp.asarray(rng.integers(0, 2**32, (64, 2)), jnp.uint32)
    counts = jnp.arange(64)
    every = jnp.arange(37), jnp.ones((64, 37), bool)
    free = draw(Sampling(), logits, keys, counts)
    held = draw(Sampling(), logits, keys, counts, None, Allowed(*every))
    assert (free[0] == held[0]).all()
    np.testing.assert_array_equal(free[1], held[1])


def multi_digit():
    """Byte-level BPE with numbers and separators of several characters among its tokens."""
    tokenizer = byte_level()
    tokenizer.add_tokens([AddedToken(str(n), special=False) for n in range(10, 500, 7)])
    return tokenizer


TOKENIZERS = {
    "byte level": byte_level,
    "multi digit": multi_digit,
    "metaspace": metaspace,
    "metaspace, bytes": lambda: metaspace("never"),
    "tiny": lambda: build_tokenizer(texts(World(carrier=carrier_of(GenerateConfig())))),
    "tiny digits": lambda: build_tokenizer(["a"], "digits"),
}


@pytest.mark.parametrize("name", TOKENIZERS)
def test_tokens_are_allowed_where_their_text_leads_on(name):
    """Against decoding every token behind random beginnings, for each kind of tokenizer."""
    tokenizer = TextTokenizer(TOKENIZERS[name]())
    form = carrier_of(GenerateConfig()).automaton(1)
    stop = min(tokenizer.control_ids)
    pieces = [(token, *tokenizer.piece(token)) for token in range(tokenizer.size)]
    made = constraint(form, pieces, {stop})
    rng, seen = np.random.default_rng(0), set()
    for _ in range(3):
        begun = []
        while len(begun) < 7 and stop not in begun:
            state = state_of(made, begun)
            tokens, mask = made.allowed(state, jnp.array([100]))
            allowed = set(np.asarray(tokens)[np.asarray(mask[0])].tolist())
            whole = tokenizer.decode(begun)
            wanted = {stop} if begun and accepts(form, whole) else set()
            for token in set(range(tokenizer.size)) - tokenizer.control_ids:
                if tokenizer.knows(token) and grows(tokenizer, begun, token, form):
                    wanted.add(token)
            assert allowed == wanted
            begun.append(int(rng.choice(sorted(allowed))))
            seen.add(whole)
    assert len(seen) > 8


def grows(tokenizer, begun, token, form):
    """Whether the text grows by this token and is a beginning of the form."""
    before, after = tokenizer.decode(begun), tokenizer.decode([*begun, token])
    state = 0
    for character in after:
        if (state := form.steps[state, min(ord(character), 128)]) < 0:
            return False
    return after != before and "\ufffd" not in after


def test_a_large_vocabulary_has_a_small_table():
    words = (f"word{n} (" if n % 3 else f"{n % 1000}, " for n in range(40_000))
    code = carrier_of(GenerateConfig(carrier="code", code=LONG))
    for form in (list_form(1, 10, 3, frozenset(), (", ", " ")), code.automaton(1)):
        pieces = [(n, word, word) for n, word in enumerate(words)]
        pieces += [(40_000 + n, chr(n), chr(n)) for n in range(128)]
        made = constraint(form, pieces, {41_000})
        assert made.steps.size < 2**16  # a column for each of 40,000 tokens would be 2**24
        assert made.tokens.shape == made.kinds.shape
        words = (f" x{n} = {n % 50}" for n in range(40_000))


LONG = type(GenerateConfig().code)(wording="long")


def test_what_cannot_be_written_is_refused(params):
    spelt = automaton(either(text("q"), text("1 1")))
    with pytest.raises(InputError, match="no tokens that spell any completion of this form"):
        made_up(spelt)
    with pytest.raises(InputError, match=r"max_tokens: 1 are too few; the shortest .* has 2"):
        sample(params, 1, max_tokens=1)
