"""Sampling: completions follow the model's distribution, whatever is sampled beside them."""

import itertools
import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_models as tiny
from scipy import stats

from subliminal_jax.errors import InputError
from subliminal_jax.models.decoder.config import Compute
from subliminal_jax.models.decoder.forms import for_bfloat16_decoding, for_decoding
from subliminal_jax.models.sampling import sampler as sampler_module
from subliminal_jax.models.sampling import slots as slots_module
from subliminal_jax.models.sampling.prefill import Request, Shapes, shapes_of
from subliminal_jax.models.sampling.sampler import Sampler
from subliminal_jax.models.sampling.settings import Sampling

GREEDY, RANDOM = Sampling(max_tokens=12, temperature=0.0), Sampling(max_tokens=12, seed=5)
PAIRS = Sampling(max_tokens=2, seed=1)
STOP = (3, 11, 30)


@pytest.fixture(scope="module")
def params():
    return tiny.params()


def ragged(n, seed=0, beginning=()):
    rng = np.random.default_rng(seed)
    return [
        Request(7 * i, [*beginning, *rng.integers(0, 37, rng.integers(1, 17)).tolist()])
        for i in range(n)
    ]


def tokens(completions):
    return {done.number: done.tokens.tolist() for done in completions}


def sampler(params, sampling, batch=16, **options):
    return Sampler(tiny.CONFIG, params, sampling, batch=batch, stop_ids=STOP, **options)


def test_greedy_completions_are_the_plain_forward_pass(params):
    requests = ragged(40)
    done = sampler(params, GREEDY).sample(requests)
    wanted = tiny.greedy(params, [request.prompt for request in requests], 12, STOP)
    assert [completion.tokens.tolist() for completion in done] == wanted
    assert [completion.number for completion in done] == [request.number for request in requests]
    ended = [completion.stopped for completion in done]
    assert ended == [row[-1] in STOP for row in wanted]
    assert 5 < sum(ended) < 35  # both ends occur


def test_log_probabilities_are_the_models_own(params):
    sampling = replace(RANDOM, temperature=1.7)
    requests = ragged(16)
    some = zip(requests[:5], sampler(params, sampling).sample(requests)[:5], strict=True)
    for request, done in some:
        texts = [[*request.prompt, *done.tokens[:i].tolist()] for i in range(len(done.tokens))]
        wanted = [
            tiny.log_softmax(logits)[token]
            for logits, token in zip(tiny.next_logits(params, texts), done.tokens, strict=True)
        ]
        np.testing.assert_allclose(done.log_probabilities, wanted, atol=1e-4)


def test_a_row_does_not_depend_on_its_mates(params):
    requests = ragged(40)
    alone = tokens(sampler(params, RANDOM).sample(requests))
    mixed = list(reversed(requests))[::2] + [Request(1_000_000 + i, [5, 6]) for i in range(9)]
    for options, some in ({"batch": 16}, mixed), ({"batch": 3}, requests[10:]):
        found = tokens(sampler(params, RANDOM, **options).sample(some))
        both = alone.keys() & found.keys()
        assert len(both) >= 20
        assert {number: found[number] for number in both} == {n: alone[n] for n in both}


def test_missing_rows_are_sampled_bit_for_bit_as_in_the_whole_run(params):
    """Prompts of two lengths, some with many rows: no shape depends on which rows are missing."""
    rng = np.random.default_rng(3)
    prompts = [rng.integers(0, 37, n).tolist() for n in (3, 9, 17, 30, 44, 52, 52) * 4]
    prompts += [prompts[0]] * 60
    requests = [Request(i, prompt) for i, prompt in enumerate(prompts)]
    shapes = shapes_of(requests, 256)
    assert {shapes.read_in(prompt) for prompt in prompts} == {(1, 32), (16, 32), (16, 56)}
    whole = sampler(params, RANDOM, batch=256).sample(requests)
    for missing in requests[40:], requests[::-7], requests[4:5]:
        found = sampler(params, RANDOM, batch=256).sample(missing, among=requests)
        for one in found:
            np.testing.assert_array_equal(one.tokens, whole[one.number].tokens)
            wanted = whole[one.number].log_probabilities
            np.testing.assert_array_equal(one.log_probabilities, wanted)


def test_rows_that_come_in_together_are_read_alike():
    shapes = Shapes(shared=0, longest=64, batch=256, quantum=32, often=frozenset({(9, 9), (8, 8)}))
    requests = [Request(i, [i] * n) for i, n in enumerate((60, 60, 5, 6, 60, 7))]
    requests += [Request(10 + i, [8 + i % 2] * 2) for i in range(6)]
    waiting, groups = shapes.in_order(requests), []
    while waiting:
        groups.append([one.number for one in shapes.next_in(waiting, 4)])
        waiting = waiting[len(groups[-1]) :]
    assert groups == [[10, 12, 14, 11], [13, 15], [0, 1, 4], [5, 3, 2]]
    three = [Request(i, [i] * 2) for i in (9, 8, 7)]
    alike = replace(shapes, often=frozenset(tuple(one.prompt) for one in three))
    assert alike.next_in(three, 4) == three[:2]  # two different ones are read at once


def test_a_row_depends_on_its_number_and_the_seed(params):
    requests = [Request(number, range(16)) for number in (*range(14), 2**31, 2**32 - 1)]
    drawn = tokens(sampler(params, RANDOM).sample(requests))
    other = tokens(sampler(params, replace(RANDOM, seed=6)).sample(requests))
    assert len({tuple(row) for row in [*drawn.values(), *other.values()]}) > 24
    assert not any(drawn[number] == other[number] for number in drawn if len(drawn[number]) > 3)
    assert drawn == tokens(sampler(params, RANDOM).sample(requests))


def test_the_form_for_decoding_draws_the_same(params, monkeypatch):
    """As a GPU has them; their programs differ."""
    requests = ragged(20)
    whole = tokens(sampler(params, RANDOM).sample(requests))
    forms = []
    monkeypatch.setattr(sampler_module, "_as_decoded", lambda config, params: for_decoding(params))
    decode = sampler_module.decode
    spied = lambda *words: forms.append(type(words[2]["layers"])) or decode(*words)
    monkeypatch.setattr(sampler_module, "decode", spied)
    assert tokens(sampler(params, RANDOM).sample(requests)) == whole
    assert set(forms) == {tuple}


def test_the_form_for_bfloat16_on_a_cpu_draws_the_same(params, monkeypatch):
    """Up to what bfloat16 rounds; slots are filled again."""
    config = replace(tiny.CONFIG, compute=Compute(dtype="bfloat16"))
    requests = ragged(20)
    sample = lambda: Sampler(config, params, GREEDY, batch=4, stop_ids=STOP).sample(requests)
    found = sample()
    monkeypatch.setattr(sampler_module, "_as_decoded", lambda config, params: params)
    for one, other in zip(found, sample(), strict=True):
        same = np.cumprod(
            [a == b for a, b in zip(one.tokens.tolist(), other.tokens.tolist(), strict=False)]
        ).sum()
        assert same >= 1
        np.testing.assert_allclose(
            one.log_probabilities[:same], other.log_probabilities[:same], atol=0.1
        )


def test_frequencies_are_the_models(params):
    """Chi-square over all pairs of first and second token, against the plain forward pass."""
    prompt, n = [4, 8, 15], 4000
    done = sampler(params, PAIRS, batch=256).sample(Request(i, prompt) for i in range(n))
    first = tiny.log_softmax(tiny.next_logits(params, [prompt])[0])
    second = tiny.next_logits(params, [[*prompt, token] for token in range(37)])
    share: dict[tuple[int, ...], float] = {}
    for a, b in itertools.product(range(37), range(37)):
        key = (a,) if a in STOP else (a, b)
        share[key] = np.exp(first[a] + (0 if a in STOP else tiny.log_softmax(second[a])[b]))
    assert sum(share.values()) == pytest.approx(1)
    counts = dict.fromkeys(share, 0)
    for completion in done:
        counts[tuple(completion.tokens.tolist())] += 1
    often = [key for key in share if n * share[key] >= 5]
    observed = [counts[key] for key in often]
    wanted = [n * share[key] for key in often]
    assert len(often) > 100
    observed.append(n - sum(observed))
    wanted.append(n - sum(wanted))
    assert stats.chisquare(observed, wanted).pvalue > 0.001


def test_the_batch_stays_full(params):
    work = sampler(params, RANDOM, batch=16)
    done = work.sample(ragged(160))
    assert work.work.rows == 160
    assert work.work.tokens == sum(len(row.tokens) for row in done)
    lengths = [len(row.tokens) for row in done]
    # Without refilling, every group of 16 waits for its longest row.
    waves = sum(max(lengths[i : i + 16]) * 16 for i in range(0, 160, 16))
    assert work.work.slot_steps < 0.8 * waves
    assert work.work.busy == work.work.tokens / work.work.slot_steps > 0.75


def test_what_prompts_share_is_read_once(params):
    shared = list(range(20))
    requests = ragged(24, beginning=shared)
    work = sampler(params, GREEDY)
    done = work.sample(requests)
    wanted = tiny.greedy(params, [request.prompt for request in requests], 12, STOP)
    assert [completion.tokens.tolist() for completion in done] == wanted
    assert shapes_of(requests, 16).shared == 16
    assert work.work.prompt_tokens_read < 0.95 * work.work.prompt_tokens


def test_equal_prompts_are_read_once(params):
    prompts = [[4, 8, 15], [4, 8], [9, 9, 9]]
    requests = [Request(i, prompts[i % 3]) for i in range(384)]
    work = sampler(params, PAIRS, batch=256)
    done = tokens(work.sample(requests))
    assert work.work.prompt_tokens == sum(len(request.prompt) for request in requests)
    # Few rows are read at a time, each 8 wide, where reading every prompt would take 384.
    assert work.work.prompt_tokens_read == 12 * 2 * 8
    some = tokens(sampler(params, PAIRS, batch=256).sample(requests[200:10:-1]))
    assert some == {number: done[number] for number in some}
    assert len({tuple(row) for row in done.values()}) > 100


def test_a_shared_prefix_never_takes_a_whole_prompt():
    long = [Request(0, list(range(9))), Request(1, list(range(30)))]
    assert shapes_of(long, 8).shared == 8
    assert shapes_of([Request(0, list(range(8)))], 8).shared == 0
    assert shapes_of([Request(0, [1] * 20), Request(1, [2] * 20)], 8).shared == 0


def test_another_model_of_the_config_compiles_nothing(params):
    sampler(params, GREEDY).sample(ragged(40))
    compiled = slots_module.decode._cache_size(), slots_module.admit._cache_size()
    other = tiny.params(1)
    requests = ragged(40)
    done = sampler(other, GREEDY).sample(requests)
    sampler(other, replace(GREEDY, seed=9)).sample(requests)
    assert (slots_module.decode._cache_size(), slots_module.admit._cache_size()) == compiled
    wanted = tiny.greedy(other, [request.prompt for request in requests[:3]], 12, STOP)
    assert [completion.tokens.tolist() for completion in done[:3]] == wanted


def test_completions_come_as_they_are_done(params):
    seen = []
    for completion in sampler(params, RANDOM).stream(ragged(40)):
        seen.append(completion.number)
        if len(seen) == 5:
            break
    assert len(set(seen)) == 5
    assert list(sampler(params, RANDOM).stream([])) == []


@pytest.mark.parametrize("form", [lambda params: params, for_decoding])
def test_an_adapter_is_sampled_from(params, form, monkeypatch):
    monkeypatch.setattr(sampler_module, "_as_decoded", lambda config, params: form(params))
    a = jax.random.normal(jax.random.key(1), (2, 16, 2))
    b = jax.random.normal(jax.random.key(2), (2, 2, 16))
    values = {"a": a, "b": b[..., :12]}
    adapter = {"layers": {"attention": {"output": {"a": a[:, :12], "b": b}, "value": values}}}
    requests = ragged(16)
    prompts = [request.prompt for request in requests]
    done = sampler(params, GREEDY, adapter=adapter).sample(requests)
    wanted = tiny.greedy(params, prompts, 12, STOP, adapter)
    assert [completion.tokens.tolist() for completion in done] == wanted
    assert wanted != tiny.greedy(params, prompts, 12, STOP)


def test_half_precision_keeps_a_half_precision_cache(params):
    config = replace(tiny.CONFIG, compute=Compute(dtype="bfloat16"))
    slots = slots_module.empty_slots(config, params, RANDOM, 2, 8, None)
    assert slots.cache.keys.dtype == jnp.bfloat16
    assert isinstance(Sampler(config, params, PAIRS)._params["layers"], tuple)
    longest = Request(0, [1] * 62)  # and 2 tokens: the context is full
    done = Sampler(config, params, PAIRS).sample([longest])
    assert np.isfinite(done[0].log_probabilities).all()


@pytest.mark.parametrize(
    ("requests", "words"),
    [
        ([Request(3, [1]), Request(4, [])], "row 4: its prompt is empty"),
        (
            [Request(3, [1]), Request(5, [1] * 53)],
            "row 5: its prompt of 53 tokens and the 12 .* 64",
        ),
        ([Request(3, [1]), Request(3, [2])], "row 3: is requested twice"),
        ([Request(2**32, [1])], "row 4294967296: its number"),
        ([Request(-1, [1])], "row -1: its number"),
        ([Request(6, [1, 37])], "row 6: .* outside the model's 37"),
        ([Request(6, [-1, 3])], "row 6: .* outside the model's 37"),
    ],
)
def test_unfit_requests_are_named(params, requests, words):
    with pytest.raises(InputError, match=words):
        sampler(params, RANDOM).sample(requests)


def test_unfit_samplers_are_refused(params):
    for options, words in (
        ({"batch": 0}, "batch: must be 1 or more"),
        ({"vocab": 0}, "vocab: must be from 1 to the model's 37"),
        ({"vocab": 38}, "vocab: must be"),
    ):
        with pytest.raises(InputError, match=words):
            sampler(params, RANDOM, **options)
    with pytest.raises(InputError, match="stop id 37"):
        Sampler(tiny.CONFIG, params, RANDOM, stop_ids=[37])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_step_writes_into_the_cache(params, dtype):
    """XLA copies an array that it changes before it has read it: all of the cache, in each step."""
    config = replace(tiny.CONFIG, compute=Compute(dtype=dtype))
    params = for_bfloat16_decoding(config, params) if dtype == "bfloat16" else params
    empty = slots_module.empty_slots(config, params, RANDOM, batch=5, length=24, prefix=None)
    drawing = slots_module.Drawing(RANDOM, STOP, None)
    steps = jnp.int32(4), jnp.int32(1)
    program = slots_module.decode.lower(config, drawing, params, None, empty, *steps).compile()
    (shape,) = {leaf.shape for leaf in jax.tree.leaves((empty.cache.keys, empty.cache.values))}
    written = re.findall(rf"\[{','.join(map(str, shape))}\]\S* (\S+?)\(", program.as_text())
    assert "get-tuple-element" in written
    assert "copy" not in written
