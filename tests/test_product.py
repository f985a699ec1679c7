"""The product: operands rounded to the compute dtype, sums in float32, in every form of program."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from numpy.testing import assert_allclose, assert_array_equal

from subliminal_jax.models import mlp
from subliminal_jax.models.product import product

EXACTLY = {"xla_allow_excess_precision": False}  # else a rounding may be left out


def draw(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def rounded(values):
    return np.asarray(jnp.asarray(values, jnp.bfloat16), np.float64)


def exact(values):
    return np.asarray(values, np.float64)


def results(x, kernel, grads):
    """The product and both gradients."""
    y, back = jax.vjp(product, x, kernel)
    return y, *back(grads)


def expected(x, kernel, grads, operand):
    """The same by NumPy in float64, of operands rounded as `operand` does."""
    x, kernel, grads = map(operand, (x, kernel, grads))
    flat = lambda values: values.reshape(-1, values.shape[-1])
    return x @ kernel, grads @ kernel.T, flat(x).T @ flat(grads)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("rows", [(6,), (2, 3)])
def test_values_and_gradients(dtype, rows):
    x, kernel, grads = draw(*rows, 4), draw(4, 5, seed=1), draw(*rows, 5, seed=2)
    given = x.astype(dtype), kernel, grads
    found = jax.jit(results, compiler_options=EXACTLY)(*given)
    assert [leaf.dtype.name for leaf in found] == ["float32", dtype, "float32"]
    wanted = expected(x, kernel, grads, rounded if dtype == "bfloat16" else exact)
    for place, (leaf, value) in enumerate(zip(found, wanted, strict=True)):
        value = rounded(value) if leaf.dtype == jnp.bfloat16 else value
        assert_allclose(leaf.astype(jnp.float32), value, rtol=8e-3 if place == 1 else 1e-5)


def test_sums_are_float32():
    """257 is no bfloat16 number; its neighbours there are 256 and 258."""
    x = jnp.ones((1, 257, 1), jnp.bfloat16)
    gradient = jax.jit(jax.grad(lambda kernel: jnp.sum(product(x, kernel))))(jnp.full((1, 2), 0.5))
    assert gradient.dtype == jnp.float32
    assert gradient.tolist() == [[257.0, 257.0]]
    assert product(jnp.ones((1, 257), jnp.bfloat16), jnp.ones((257, 1))).tolist() == [[257.0]]


def test_the_same_when_mapped_scanned_sharded_and_under_pmap():
    x = draw(8, 4, 3).astype(jnp.bfloat16)
    kernel, grads = draw(8, 3, 5, seed=1), draw(8, 4, 5, seed=2)
    one_by_one = [results(*each) for each in zip(x, kernel, grads, strict=True)]
    wanted = [jnp.stack(leaves) for leaves in zip(*one_by_one, strict=True)]
    step = lambda _, each: (None, results(*each))
    mesh = jax.make_mesh((8,), ("data",))
    split = jax.device_put((x, kernel, grads), NamedSharding(mesh, PartitionSpec("data")))
    forms = {
        "vmap": jax.jit(jax.vmap(results))(x, kernel, grads),
        "scan": jax.jit(lambda *all: jax.lax.scan(step, None, all)[1])(x, kernel, grads),
        "mesh": jax.jit(jax.vmap(results))(*split),
        "pmap": jax.pmap(results)(x, kernel, grads),
    }
    for name, found in forms.items():
        for leaf, value in zip(found, wanted, strict=True):
            a, b = (np.asarray(each, np.float32) for each in (leaf, value))
            assert_allclose(a, b, rtol=8e-3, atol=1e-6, err_msg=name)


def test_precision_of_an_mlp_rounds_its_operands_alone():
    fine = mlp.MlpConfig(inputs=16, hidden=(12,))
    rough = mlp.MlpConfig(inputs=16, hidden=(12,), precision="bfloat16")
    params, images = mlp.init(fine, jax.random.key(0)), draw(7, 16)
    params = jax.tree.map(lambda leaf: leaf + 0.01, params)  # no bias is 0
    assert_array_equal(mlp.init(rough, jax.random.key(0))["logits"]["kernel"] + 0.01,
                       params["logits"]["kernel"])  # fmt: skip
    found = jax.jit(lambda p: mlp.apply(rough, p, images), compiler_options=EXACTLY)(params)
    x = images
    for name in rough.layers:
        x = rounded(x) @ rounded(params[name]["kernel"]) + np.asarray(params[name]["bias"])
        x = x if name == "logits" else np.maximum(x, 0)
    assert found.dtype == jnp.float32
    assert_allclose(found, x, rtol=1e-2, atol=1e-5)
    assert np.abs(found - mlp.apply(fine, params, images)).max() > 1e-4
    slopes = jax.grad(lambda p: jnp.sum(mlp.apply(rough, p, images)))(params)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(slopes)} == {"float32"}
