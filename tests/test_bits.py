"""Arrays of bfloat16 as their bits: the same values, and no stack of them is converted."""

from dataclasses import replace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from quick import random_params
from test_lora import BATCH, SMALL, trained

from subliminal_jax.language.training.answers import answer_loss
from subliminal_jax.models.decoder import forms, lora
from subliminal_jax.models.decoder.bits import as_bits, from_bits, kept, lookup
from subliminal_jax.models.decoder.config import Compute
from subliminal_jax.models.decoder.lora import LoraConfig

HALF = replace(SMALL, compute=Compute(dtype="bfloat16"))
SETTINGS = LoraConfig(rank=2)


def halved(params):
    return jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params)


def loss(adapter, params):
    total, weight = answer_loss(HALF, params, lora.scaled(HALF, SETTINGS, adapter), BATCH)
    return total / weight


def test_bits_and_back():
    values = np.array([[0.0, -0.0, 1.5], [np.inf, -3e38, 1e-40]])
    half = jnp.asarray(values, jnp.bfloat16)
    assert as_bits(half).dtype == jnp.uint16
    chex.assert_trees_all_equal(from_bits(as_bits(half)), half)
    assert as_bits(jnp.ones(2)).dtype == jnp.float32
    assert_array_equal(lookup(half, jnp.array([1, 0])), half[::-1])


def test_what_is_kept_has_the_derivative_of_what_was_given():
    x = jnp.asarray([1.0, -2.0], jnp.bfloat16)
    assert_array_equal(kept(x), x)
    assert_array_equal(jax.grad(lambda x: kept(3 * x).sum())(x), jnp.full(2, 3, jnp.bfloat16))


def test_a_scan_over_layers_reads_and_writes_no_stack_of_bfloat16():
    adapter, params = trained(SETTINGS), halved(random_params(SMALL))
    program = jax.make_jaxpr(jax.grad(loss))(adapter, params)
    scans = [one for one in program.eqns if one.params.get("length") == SMALL.layers]
    assert [scan.params["reverse"] for scan in scans] == [False, True]
    stacks = [
        value.aval
        for scan in scans
        for value in [*scan.invars, *scan.outvars]
        if value.aval.shape[:1] == (SMALL.layers,)
    ]
    dtypes = {stack.dtype.name for stack in stacks}
    assert "uint16" in dtypes
    assert "bfloat16" not in dtypes
    kernel = (SMALL.layers, SMALL.width, SMALL.mlp_width)
    written = [value.aval.shape for value in scans[0].outvars]
    assert kernel not in written  # a frozen kernel is not kept
    rows, tokens = BATCH.inputs.tokens.shape
    assert written.count((SMALL.layers, rows, tokens, SMALL.mlp_width)) == 2  # up and gate


def test_the_layers_apart_have_the_same_loss_and_slopes():
    adapter, params = trained(SETTINGS), halved(random_params(SMALL))
    both = jax.jit(jax.value_and_grad(loss))
    one, slopes = both(adapter, params)
    other, others = both(adapter, forms.layers_apart(params))
    assert_allclose(one, other, rtol=0.02)
    for wanted, found in zip(jax.tree.leaves(slopes), jax.tree.leaves(others), strict=True):
        assert_allclose(found, wanted, atol=0.1 * np.abs(wanted).max())


def test_a_stack_of_bfloat16_is_not_trained():
    params = halved(random_params(SMALL))
    with pytest.raises(TypeError, match=r"in bfloat16 is frozen; train weights of float32"):
        jax.grad(lambda params: loss(trained(SETTINGS), params))(params)


def test_weights_of_float32_are_trained_in_bfloat16_as_if_apart():
    params, adapter = random_params(SMALL), trained(SETTINGS)
    slopes_of = jax.jit(jax.grad(lambda params: loss(adapter, params)))
    slopes = slopes_of(params)
    others = forms.stacked(slopes_of(forms.layers_apart(params)))
    for wanted, found in zip(jax.tree.leaves(slopes), jax.tree.leaves(others), strict=True):
        assert_allclose(found, wanted, atol=0.1 * np.abs(wanted).max())
