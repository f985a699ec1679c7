"""Products: of activations and a kernel, with low-rank factors beside it, and of batches.

Operands have the dtype of the activations, sums are float32, and the gradient is written out: its
products have the forms that the fast matrix units take. On a CPU these take only row-major bfloat16
operands with a float32 result, and a product into which XLA folds a transpose does not use them.
Elsewhere memory limits the speed, so a result is rounded as it is written.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax.experimental.layout import Layout, with_layout_constraint
from jax.typing import DTypeLike
from jaxtyping import Array, Float


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def product(
    x: Float[Array, "*batch i"], kernel: Float[Array, "i o"], dtype: DTypeLike | None = None
) -> Float[Array, "*batch o"]:
    """`x kernel`, multiplied in the dtype of `x` and summed in float32 (float64 for float64).

    The gradient of `x` has its dtype, that of the kernel the kernel's.

    Args:
        x: the activations.
        kernel: the weights, of any dtype.
        dtype: to which the sums are rounded; None: they are not.
    """
    return matmul(x, kernel.astype(x.dtype), dtype)


def _forward(x: Array, kernel: Array, dtype: DTypeLike | None) -> tuple[Array, tuple[Array, Array]]:
    return product(x, kernel, dtype), (x, kernel)


def _backward(
    dtype: DTypeLike | None, saved: tuple[Array, Array], grads: Array
) -> tuple[Array, Array]:
    x, kernel = saved
    grads = grads.astype(x.dtype)
    of_kernel = inner(x, grads)
    of_x = matmul(grads, transposed(kernel.astype(x.dtype)), x.dtype)
    return of_x, of_kernel.astype(kernel.dtype)


product.defvjp(_forward, _backward)


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def adapted_product(
    x: Float[Array, "*batch i"],
    kernel: Float[Array, "i o"],
    down: Float[Array, "i r"],
    up: Float[Array, "r o"],
    dtype: DTypeLike | None = None,
) -> Float[Array, "*batch o"]:
    """`x kernel + x down up`, multiplied as by `product`; on a CPU the sum is rounded once.

    Args:
        x: the activations.
        kernel: the weights; several members that share them are fastest.
        down: the first low-rank factor.
        up: the second.
        dtype: to which the sum is rounded; None: it is not.
    """
    return _adapted_forward(x, kernel, down, up, dtype)[0]


def _adapted_forward(
    x: Array, kernel: Array, down: Array, up: Array, dtype: DTypeLike | None
) -> tuple[Array, tuple[Array, ...]]:
    low = matmul(x, down.astype(x.dtype), x.dtype)
    y = _two_products(x, kernel.astype(x.dtype), low, up.astype(x.dtype), dtype)
    return y, (x, kernel, down, up, low)


def _adapted_backward(
    dtype: DTypeLike | None, saved: tuple[Array, ...], grads: Array
) -> tuple[Array, ...]:
    x, kernel, down, up, low = saved
    grads = grads.astype(x.dtype)
    of_low = matmul(grads, transposed(up.astype(x.dtype)), x.dtype)
    # The kernel is not held row by row: a matrix that is not mapped is multiplied from either side.
    turned = kernel.astype(x.dtype).T, transposed(down.astype(x.dtype))
    of_x = _two_products(grads, turned[0], of_low, turned[1], x.dtype)
    of_kernel = inner(x, grads).astype(kernel.dtype)
    return of_x, of_kernel, inner(x, of_low).astype(down.dtype), inner(low, grads).astype(up.dtype)


adapted_product.defvjp(_adapted_forward, _adapted_backward)


def _two_products(
    left: Array, right: Array, low: Array, up: Array, dtype: DTypeLike | None
) -> Array:
    """`left right + low up`; a CPU rounds their sum, all else each product as it is written."""

    def add(result: DTypeLike | None, left: Array, right: Array, low: Array, up: Array) -> Array:
        return matmul(left, right, result) + matmul(low, up, result)

    if dtype is None:
        return add(None, left, right, low, up)
    once = lambda *factors: add(None, *factors).astype(dtype)
    return jax.lax.platform_dependent(left, right, low, up, cpu=once, default=partial(add, dtype))


@jax.custom_vjp
def batched_product(
    left: Float[Array, "*batch n i"], right: Float[Array, "*batch i o"]
) -> Float[Array, "*batch n o"]:
    """`left right` of one dtype for every batch index, summed in float32 (float64 for float64).

    Each gradient has its operand's dtype.
    """
    return matmul(left, right)


def _batched_forward(left: Array, right: Array) -> tuple[Array, tuple[Array, Array]]:
    return batched_product(left, right), (left, right)


def _batched_backward(saved: tuple[Array, Array], grads: Array) -> tuple[Array, Array]:
    left, right = saved
    grads = grads.astype(left.dtype)
    of_left = matmul(grads, transposed(right), left.dtype)
    return of_left, matmul(transposed(left), grads, right.dtype)


batched_product.defvjp(_batched_forward, _batched_backward)


def inner_products(
    left: Float[Array, "*batch n d"], right: Float[Array, "*batch m d"]
) -> Float[Array, "*batch n m"]:
    """`left right^T` as `batched_product` multiplies; what has fewer rows is transposed."""
    if left.shape[-2] < right.shape[-2]:
        return _by_row(batched_product(right, transposed(left))).swapaxes(-1, -2)
    return batched_product(left, transposed(right))


def matmul(
    left: Float[Array, "*rows i"], right: Float[Array, "*batch i o"], dtype: DTypeLike | None = None
) -> Float[Array, "*rows o"]:
    """`left right` of operands of one dtype, summed in float32 (float64 for float64).

    `dtype` is as for `product`.
    """
    sums = jnp.promote_types(left.dtype, jnp.float32)
    multiply = lambda result: partial(jnp.matmul, preferred_element_type=result)
    if dtype is None or dtype == sums:
        return multiply(sums)(left, right)
    rounded = lambda left, right: multiply(sums)(left, right).astype(dtype)
    return jax.lax.platform_dependent(left, right, cpu=rounded, default=multiply(dtype))


def inner(left: Float[Array, "*batch i"], right: Float[Array, "*batch o"]) -> Float[Array, "i o"]:
    """`left^T right`, summed over the rows of both as by `matmul`."""
    left, right = (matrix.reshape(-1, matrix.shape[-1]) for matrix in (left, right))
    if left.dtype != jnp.bfloat16:
        # In this order of axes XLA multiplies without a copy of the larger factor.
        sums = jnp.promote_types(left.dtype, jnp.float32)
        return jnp.einsum("ni,no->io", left, right, preferred_element_type=sums)
    if left.shape[-1] >= 8 * right.shape[-1]:
        # A few columns, as an adapter has them, are transposed in place of many.
        return _by_row(matmul(transposed(right), left)).T
    return matmul(transposed(left), right)


def written(x: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """`x`, a product that is written out before its largest entries are looked for.

    On a CPU, XLA puts a product and a maximum over its columns into one kernel, which takes three
    times as long as both. A comparison between them keeps them apart.
    """
    apart = lambda x: jnp.where(x == jnp.inf, jnp.inf, x)
    return jax.lax.platform_dependent(x, cpu=apart, default=lambda x: x)


def scale_rows(x: Float[Array, "*batch d"], by: Float[Array, "*batch"]) -> Float[Array, "*batch d"]:
    """`x * by[..., None]`, as a product whose gradient of `by` is one too.

    A CPU is slow at the sum of two factors over the last axis if another one has length 1, as that
    of the members of an ensemble of one.
    """
    return jnp.einsum("...i,...->...i", x, by, precision=jax.lax.Precision.HIGHEST)


def transposed(matrix: Float[Array, "*batch i o"]) -> Float[Array, "*batch o i"]:
    """The transpose, for a product; on a CPU, that of bfloat16 is laid out row by row."""
    turned = matrix.swapaxes(-1, -2)
    return _by_row(turned) if matrix.dtype == jnp.bfloat16 else turned


def _by_row(x: Array) -> Array:
    """`x`; on a CPU laid out row by row, so that no transpose is folded into a product."""
    layout = Layout(major_to_minor=tuple(range(x.ndim)))
    held = lambda x: with_layout_constraint(x, layout)
    return jax.lax.platform_dependent(x, cpu=held, default=lambda x: x)
