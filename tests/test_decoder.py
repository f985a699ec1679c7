"""The decoder's properties: attention masks, padding, packing, KV cache, tied embeddings."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from quick import random_params

from subliminal_jax.errors import InputError
from subliminal_jax.models.decoder import cache as caches
from subliminal_jax.models.decoder import decoder, forms
from subliminal_jax.models.decoder.attention import attend
from subliminal_jax.models.decoder.cache import init_cache, put_rows, take_rows
from subliminal_jax.models.decoder.config import Compute, DecoderConfig, LayerKind, RopeScaling
from subliminal_jax.models.decoder.layers import Norm, in_float32

SMALL = DecoderConfig(
    vocab=37,
    width=30,
    layers=3,
    heads=6,
    kv_heads=2,
    head_dim=10,
    mlp_width=20,
    context=64,
    kinds=(LayerKind(), LayerKind(window=4, theta=100.0)),
    pattern=(1, 0),
    initial_std=0.2,
)
TOKENS = np.random.default_rng(0).integers(0, 37, (2, 9))


init, apply, unembed, start, extend = (
    jax.jit(fn, static_argnums=0)
    for fn in (decoder.init, decoder.apply, decoder.unembed, decoder.start, decoder.extend)
)


@pytest.fixture(scope="module")
def params():
    return random_params(SMALL)


def logits(params, tokens, segments=None, config=SMALL):
    segments = np.ones_like(tokens) if segments is None else segments
    return apply(config, params, jnp.asarray(tokens), jnp.asarray(segments, jnp.int32))


def through_cache(params, cache, tokens, mask=None):
    mask = np.ones_like(tokens, bool) if mask is None else mask
    hidden, cache = extend(SMALL, params, jnp.asarray(tokens), cache, jnp.asarray(mask))
    return unembed(SMALL, params, hidden), cache


def test_no_token_sees_a_later_one(params):
    """The gradient of the logits at token 5 by the embeddings of all tokens, one row per token."""
    tokens = jnp.arange(9)[None]

    @jax.jit
    @jax.grad
    def at_five(table):
        logits = decoder.apply(SMALL, {**params, "embedding": table}, tokens)
        return logits[0, 5] @ jnp.arange(37.0)

    grads = np.abs(at_five(params["embedding"])).max(axis=1)
    assert np.all(grads[:6] > 1e-3)
    assert np.all(grads[6:] == 0)


def test_a_window_is_the_token_and_those_just_before():
    config = replace(SMALL, layers=1, pattern=(1,))
    params = init(config, jax.random.key(0))

    tokens = jnp.arange(9)[None]

    @jax.jit
    @jax.grad
    def at_seven(table):
        return decoder.apply(config, {**params, "embedding": table}, tokens)[0, 7, 0]

    grads = np.abs(at_seven(params["embedding"])).max(axis=1)
    assert (grads[:9] > 0).tolist() == [False] * 4 + [True] * 4 + [False]


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_nothing(params, side):
    expected = logits(params, TOKENS)
    before = {"left": 3, "right": 0}[side]
    padded = np.pad(TOKENS, ((0, 0), (before, 3 - before)), constant_values=11)
    mask = np.pad(np.ones_like(TOKENS, bool), ((0, 0), (before, 3 - before)))
    got = logits(params, padded, mask)[:, before : before + 9]
    assert_allclose(got, expected, atol=2e-5)
    cached, cache = through_cache(params, init_cache(SMALL, 2, 9), padded, mask)
    assert_allclose(cached[:, before : before + 9], expected, atol=2e-5)
    assert cache.lengths.tolist() == [9, 9]


def test_packed_texts_do_not_see_each_other(params):
    packed = np.concatenate([[11, 11], TOKENS[0], TOKENS[1], [11]])[None]
    segments = np.array([[0, 0, *[1] * 9, *[2] * 9, 0]])
    got = logits(params, packed, segments)
    assert_allclose(got[:, 2:11], logits(params, TOKENS[:1]), atol=2e-5)
    assert_allclose(got[:, 11:20], logits(params, TOKENS[1:]), atol=2e-5)
    assert decoder.positions_of(jnp.asarray(segments)).tolist() == [[0, 1, *range(9), *range(9), 0]]


def test_the_cache_gives_the_same_logits(params):
    """In pieces of several tokens, ragged: row 1 gets its tokens one piece later."""
    expected = logits(params, TOKENS)
    cache = init_cache(SMALL, 2, 9)
    first, cache = through_cache(params, cache, TOKENS[:, :4], jnp.array([[True] * 4, [False] * 4]))
    assert cache.lengths.tolist() == [4, 0]
    tokens = np.stack([TOKENS[0, 4:9], TOKENS[1, :5]])
    second, cache = through_cache(params, cache, tokens)
    third, cache = through_cache(params, cache, TOKENS[:, 5:], jnp.array([[False] * 4, [True] * 4]))
    assert_allclose(jnp.concatenate([first[0], second[0]]), expected[0], atol=2e-5)
    assert_allclose(jnp.concatenate([second[1], third[1]]), expected[1], atol=2e-5)


def test_a_start_forgets_what_was(params):
    expected, fresh = through_cache(params, init_cache(SMALL, 2, 12), TOKENS)
    mask = jnp.ones_like(TOKENS, bool)
    for _ in range(2):
        hidden, fresh = start(SMALL, params, jnp.asarray(TOKENS), fresh, mask)
        assert fresh.lengths.tolist() == [9, 9]
        assert_allclose(unembed(SMALL, params, hidden), expected, atol=2e-5)


@pytest.mark.parametrize("layers", [(), (2,)])
@pytest.mark.parametrize("length", [1, 3])
def test_cpus_write_into_a_cache_what_others_do(layers, length):
    """Tokens without a slot left, and rows beyond the cache, are dropped."""
    draw = lambda seed, *shape: jax.random.normal(jax.random.key(seed), (*layers, *shape))
    old = draw(0, 4, 3, 5, 2)
    slots = jnp.array([[0, 1, 5], [5, 2, 3], [4, 5, 5], [5, 5, 5]])[:, :length]
    tokens = draw(1, 4, 3, length, 2)
    wanted = caches._put_at(slots, old, tokens)
    assert (wanted != old).any()
    np.testing.assert_array_equal(caches._put_where(slots, old, tokens), wanted)
    rows, new = jnp.array([2, 9, 0]), draw(2, 3, 3, 4, 2)
    wanted = caches._rows_at(rows, old, new)
    assert (wanted != old).any()
    np.testing.assert_array_equal(caches._rows_where(rows, old, new), wanted)


def test_rows_of_a_cache_are_taken_and_replaced(params):
    _, prompt = through_cache(params, init_cache(SMALL, 1, 4), TOKENS[:1, :4])
    cache = init_cache(SMALL, 3, 9)
    _, cache = through_cache(params, cache, np.tile(TOKENS[1:], (3, 1)))
    cache = put_rows(cache, jnp.array([2, 0, 9]), take_rows(prompt, jnp.zeros(3, int)))
    assert cache.lengths.tolist() == [4, 9, 4]
    mask = jnp.array([[True] * 5, [False] * 5, [True] * 5])
    got, _ = through_cache(params, cache, np.tile(TOKENS[:1, 4:], (3, 1)), mask)
    expected = logits(params, TOKENS[:1])[0, 4:]
    assert_allclose(got[0], expected, atol=2e-5)
    assert_allclose(got[2], expected, atol=2e-5)


def test_a_full_row_stores_no_more(params):
    _, full = through_cache(params, init_cache(SMALL, 2, 4), TOKENS[:, :4])
    assert np.abs(full.keys[:, :, :, 3]).min() > 0
    _, more = through_cache(params, full, TOKENS[:, 4:5])
    assert_allclose(more.keys, full.keys)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_attention_and_its_slopes_are_those_of_jax(dtype):
    """`jax.nn` has another program for the formula, whose softmax is rounded later."""
    config = replace(SMALL, heads=4, kv_heads=2, head_dim=8, compute=Compute(dtype=dtype))
    draw = lambda seed, heads: jax.random.normal(jax.random.key(seed), (2, 5, heads, 8), dtype)
    given = draw(0, 4), draw(1, 2), draw(2, 2)
    mask = jnp.tril(jnp.ones((2, 5, 5), bool)).at[1, :, 0].set(False).at[1, 0, 0].set(True)
    ours = partial(attend, config)
    jaxs = partial(jax.nn.dot_product_attention, scale=config.scale)
    expected, back = jax.vjp(lambda *given: jaxs(*given, mask=mask[:, None]), *given)
    found, our_back = jax.vjp(lambda *given: ours(*given, mask), *given)
    slope = draw(3, 4)
    tolerance = 1e-5 if dtype == "float32" else 0.03
    for a, b in zip((found, *our_back(slope)), (expected, *back(slope)), strict=True):
        assert a.dtype == b.dtype
        wide = (leaf.astype(jnp.float32) for leaf in (a, b))
        assert_allclose(*wide, atol=tolerance, rtol=tolerance)


def test_cudnn_gets_a_mask_of_every_head(monkeypatch):
    """JAX's rule for cuDNN under `vmap` takes no other."""
    shapes = []

    def attention(queries, keys, values, *, mask, **options):
        shapes.append((mask.shape, options["implementation"]))
        return queries

    monkeypatch.setattr(jax.nn, "dot_product_attention", attention)
    queries, keys = jnp.ones((2, 5, 4, 8)), jnp.ones((2, 5, 2, 8))
    compute = Compute(attention="cudnn")
    config = replace(SMALL, heads=4, kv_heads=2, head_dim=8, compute=compute)
    attend(config, queries, keys, keys, jnp.ones((2, 5, 5), bool))
    assert shapes == [((2, 4, 5, 5), "cudnn")]


def test_an_activation_is_rounded_once():
    gated = lambda hidden, gate: hidden * jax.nn.silu(gate)
    hidden, gate = jax.random.normal(jax.random.key(0), (2, 999)).astype(jnp.bfloat16)
    exact = gated(hidden.astype(jnp.float32), gate.astype(jnp.float32))
    found = in_float32(gated)(hidden, gate)
    assert found.dtype == jnp.bfloat16
    assert jnp.array_equal(found, exact.astype(jnp.bfloat16))
    assert not jnp.array_equal(found, gated(hidden, gate))


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_a_norm_saves_its_input_alone_in_bfloat16(dtype):
    norm = Norm(replace(SMALL, compute=Compute(dtype=dtype)))
    x = jnp.ones((2, 3, 4), dtype)
    params = {"params": {"scale": jnp.ones(4)}}
    _, backward = jax.vjp(partial(norm.apply, params), x)
    saved = [leaf.dtype.name for leaf in jax.tree.leaves(backward) if leaf.shape == x.shape]
    assert set(saved) == {dtype}
    assert (len(saved) == 1) == (dtype == "bfloat16")


def test_rematerialisation_changes_no_gradient(params):
    def loss(params, config):
        return jnp.sum(jnp.sin(decoder.apply(config, params, jnp.asarray(TOKENS))))

    config = replace(SMALL, compute=Compute(remat=True))
    assert "remat" in str(jax.make_jaxpr(partial(loss, config=config))(params))
    gradient = jax.jit(jax.grad(loss), static_argnums=1)
    kept, again = gradient(params, SMALL), gradient(params, config)
    jax.tree.map(lambda a, b: assert_allclose(a, b, atol=1e-4), kept, again)


def test_bfloat16_computes_in_bfloat16_and_keeps_float32_masters(params):
    config = replace(SMALL, compute=Compute(dtype="bfloat16"))
    hidden = jax.eval_shape(lambda: decoder.hidden_states(config, params, jnp.asarray(TOKENS)))
    assert hidden.dtype == jnp.bfloat16
    assert init_cache(config, 1, 2).keys.dtype == jnp.bfloat16
    got = logits(params, TOKENS, config=config)
    assert got.dtype == jnp.float32
    assert 1e-4 < np.abs(got - logits(params, TOKENS)).max() < 0.1
    total = jax.grad(lambda p: jnp.sum(decoder.apply(config, p, jnp.asarray(TOKENS))))
    grads = jax.eval_shape(total, params)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(grads)} == {"float32"}


def test_a_program_does_not_grow_with_its_layers():
    """They run in one loop: compiling 32 of them would take minutes."""

    def size(layers):
        config = replace(SMALL, layers=layers)
        params = jax.eval_shape(partial(decoder.init, config), jax.random.key(0))
        total = jax.grad(lambda p: jnp.sum(decoder.apply(config, p, jnp.asarray(TOKENS))))
        return len(jax.jit(total).lower(params).as_text())

    assert size(32) < 1.02 * size(2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: replace(SMALL, layers=0), "^layers=0: must be at least 1"),
        (lambda: replace(SMALL, kv_heads=4), "^heads=6: must be a multiple of kv_heads=4"),
        (lambda: replace(SMALL, head_dim=7), "^head_dim=7: must be even"),
        (lambda: replace(SMALL, pattern=(0, 2)), r"^pattern=\(0, 2\): must name some of the 2"),
        (lambda: replace(SMALL, pattern=()), r"^pattern=\(\): must name some"),
        (lambda: LayerKind(window=0), "^window=0: must be at least 1"),
        (lambda: LayerKind(theta=0.0), "^theta=0.0: must be above 0"),
        (lambda: RopeScaling(kind="linear", factor=0.0), "^rope factor=0.0: must be above 0"),
        (
            lambda: RopeScaling(kind="llama3", factor=2.0, low=4.0, high=4.0),
            "^rope low=4.0, high=4.0: must be 0 < low < high",
        ),
        (
            lambda: RopeScaling(kind="llama3", factor=2.0, original_context=0),
            "^rope original_context=0: must be at least 1",
        ),
    ],
)
def test_what_is_no_decoder_is_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()
    assert replace(SMALL, head_dim=7, learned_positions=True).head_dim == 7


def test_tied_models_have_one_table(params):
    config = replace(SMALL, tied=True)
    assert set(params) - set(init(config, jax.random.key(0))) == {"unembedding"}
    assert forms.unembedding(SMALL, params).shape == (37, 30)
    tied = {**params, "unembedding": params["embedding"]}
    assert_allclose(logits(params, TOKENS, config=config), logits(tied, TOKENS), atol=1e-6)


def test_initialisation():
    config = replace(SMALL, width=60, norm_offset=1.0, qkv_bias=True)
    params = init(config, jax.random.key(0))
    assert_allclose(params["embedding"].std(), 0.2, rtol=0.1)
    kernels = params["layers"]["mlp"]["up"]["kernel"]
    assert_allclose(kernels.std(axis=(1, 2)), 0.2, rtol=0.1)
    assert np.abs(kernels[0] - kernels[1]).max() > 0.1
    assert np.all(params["norm"]["scale"] == 0)
    assert np.all(params["layers"]["attention"]["query"]["bias"] == 0)
