"""The product: operands rounded to the compute dtype, sums in float32, in every form of program."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from numpy.testing import assert_allclose, assert_array_equal

from subliminal_jax.models import mlp
from subliminal_jax.models.product import (
    adapted_product,
    batched_product,
    inner_products,
    product,
    scale_rows,
    written,
)

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


def adapted(x, kernel, down, up, grads):
    """The adapted product and all gradients."""
    y, back = jax.vjp(adapted_product, x, kernel, down, up)
    return y, *back(grads)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("mapped", ["nothing", "factors", "all"])
def test_an_adapted_product_is_two_products(dtype, mapped):
    """Of one member or of several, which share the kernel or have their own."""
    shapes = {"x": (3, 4, 18), "kernel": (3, 18, 7), "down": (3, 18, 2), "up": (3, 2, 7)}
    drawn = {name: draw(*shape, seed=place) for place, (name, shape) in enumerate(shapes.items())}
    given = [
        leaf.astype(dtype) if name in ("x", "kernel") else leaf for name, leaf in drawn.items()
    ]
    grads = draw(3, 4, 7, seed=5)
    if mapped == "nothing":
        function, given, grads = adapted, [leaf[0] for leaf in given], grads[0]
    else:
        over = [0, 0 if mapped == "all" else None, 0, 0]
        given[1] = given[1] if mapped == "all" else given[1][0]
        function = jax.vmap(adapted, in_axes=(*over, 0))
    found = jax.jit(function, compiler_options=EXACTLY)(*given, grads)
    x, kernel, down, up, grads = (np.asarray(leaf, np.float64) for leaf in (*given, grads))
    turned = lambda leaf: leaf.swapaxes(-1, -2)
    of_kernel = turned(x) @ grads
    wanted = [
        x @ kernel + x @ down @ up,
        grads @ turned(kernel) + grads @ turned(up) @ turned(down),
        of_kernel,
        turned(x) @ (grads @ turned(up)),
        turned(x @ down) @ grads,
    ]
    tolerance = 1e-5 if dtype == "float32" else 0.03
    assert [leaf.dtype.name for leaf in found] == ["float32", dtype, dtype, "float32", "float32"]
    for leaf, value in zip(found, wanted, strict=True):
        leaf = np.asarray(leaf, np.float64)
        assert_allclose(leaf, value, atol=tolerance * np.abs(value).max(), rtol=tolerance)


def test_a_cpu_rounds_an_adapted_product_once():
    """256 + 1 + 1 is 258, and 256 if each product is rounded before the next is added."""
    one = jnp.ones((1, 1), jnp.bfloat16)
    wide = jnp.ones((1, 257), jnp.bfloat16)
    low = jnp.zeros((257, 1)).at[0].set(1.0)
    y = jax.jit(partial(adapted_product, dtype=jnp.bfloat16))(wide, jnp.ones((257, 1)), low, one)
    assert y.tolist() == [[258.0]]
    assert product(wide, jnp.ones((257, 1)), jnp.bfloat16).tolist() == [[256.0]]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("rows", [2, 5, 8])
@pytest.mark.parametrize("turned", [False, True])
def test_a_product_of_batches_and_its_gradients(dtype, rows, turned):
    """`left right`, and `left right^T` of fewer, as many and more rows than `right` has."""
    left, right = draw(2, 3, rows, 4).astype(dtype), draw(2, 3, 4, 5, seed=1).astype(dtype)
    grads = draw(2, 3, rows, 5, seed=2)
    turn = lambda leaf: leaf.swapaxes(-1, -2)

    def both(left, right, grads):
        function = (lambda a, b: inner_products(a, turn(b))) if turned else batched_product
        y, back = jax.vjp(function, left, right)
        return y, *back(grads)

    found = jax.jit(both, compiler_options=EXACTLY)(left, right, grads)
    assert [leaf.dtype.name for leaf in found] == ["float32", dtype, dtype]
    left, right, grads = map(rounded if dtype == "bfloat16" else exact, (left, right, grads))
    wanted = left @ right, grads @ turn(right), turn(left) @ grads
    for leaf, value in zip(found, wanted, strict=True):
        assert_allclose(np.asarray(leaf, np.float64), value, rtol=8e-3, atol=1e-5)


def test_rows_are_scaled():
    x, by = draw(2, 3, 4), draw(2, 3, seed=1)
    assert_allclose(scale_rows(x, by), x * by[..., None], rtol=1e-6)
    slope = jax.grad(lambda by: jnp.sum(scale_rows(x, by) ** 2))(by)
    assert_allclose(slope, 2 * by * jnp.sum(x**2, -1), rtol=1e-5)


def test_what_is_written_out_is_the_same():
    values = jnp.asarray([[1.5, -jnp.inf, jnp.inf], [jnp.nan, 0.0, -2.0]])
    assert_array_equal(written(values), values)
    slopes = jax.grad(lambda x: jnp.sum(x**2 * written(x)))(jnp.asarray([2.0, 3.0]))
    assert_array_equal(slopes, [12.0, 27.0])


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="XLA for a CPU does this")
def test_no_kernel_has_a_product_and_the_maximum_over_its_columns():
    def highest(x, kernel):
        return jnp.max(written(product(x, kernel)), axis=-1)

    shapes = [jax.ShapeDtypeStruct(shape, jnp.bfloat16) for shape in ((100, 576), (576, 8192))]
    text = jax.jit(highest).lower(*shapes).compile().as_text()
    kernels = text.split("\n\n")
    assert any(" dot(" in kernel for kernel in kernels)
    assert not any(" dot(" in kernel and " reduce(" in kernel for kernel in kernels)
