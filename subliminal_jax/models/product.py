"""The product of activations and a kernel, which every model multiplies with.

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
    rows = x.reshape(-1, x.shape[-1])
    of_kernel = inner(rows, grads.reshape(-1, grads.shape[-1]))
    of_x = matmul(grads, transposed(kernel.astype(x.dtype)), x.dtype)
    return of_x, of_kernel.astype(kernel.dtype)


product.defvjp(_forward, _backward)


def matmul(
    left: Float[Array, "*batch i"], right: Float[Array, "i o"], dtype: DTypeLike | None = None
) -> Float[Array, "*batch o"]:
    """`left right` of operands of one dtype, summed in float32 (float64 for float64).

    `dtype` is as for `product`.
    """
    sums = jnp.promote_types(left.dtype, jnp.float32)
    multiply = lambda result: partial(jnp.matmul, preferred_element_type=result)
    if dtype is None or dtype == sums:
        return multiply(sums)(left, right)
    rounded = lambda left, right: multiply(sums)(left, right).astype(dtype)
    return jax.lax.platform_dependent(left, right, cpu=rounded, default=multiply(dtype))


def inner(left: Float[Array, "n i"], right: Float[Array, "n o"]) -> Float[Array, "i o"]:
    """`left^T right`, summed over the rows of both as by `matmul`."""
    if left.dtype == jnp.bfloat16:
        return matmul(transposed(left), right)
    # In this order of axes XLA multiplies without a copy of the larger factor.
    sums = jnp.promote_types(left.dtype, jnp.float32)
    return jnp.einsum("ni,no->io", left, right, preferred_element_type=sums)


def transposed(matrix: Float[Array, "i o"]) -> Float[Array, "o i"]:
    """The transpose, for a product; on a CPU, that of bfloat16 is laid out row by row."""
    if matrix.dtype != jnp.bfloat16:
        return matrix.T
    held = lambda x: with_layout_constraint(x, Layout(major_to_minor=(0, 1)))
    return jax.lax.platform_dependent(matrix.T, cpu=held, default=lambda x: x)
