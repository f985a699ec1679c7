"""The product of activations and a kernel, which every model multiplies with.

Operands have the dtype of the activations, sums are float32, and the gradient is written out: its
products have the forms that the fast matrix units take. On a CPU these take bfloat16 operands in
row-major order with a float32 result, and nothing else; a transpose that XLA folds into a product
leaves them.
"""

import jax
import jax.numpy as jnp
from jax.experimental.layout import Layout, with_layout_constraint
from jaxtyping import Array, Float


@jax.custom_vjp
def product(x: Float[Array, "*batch i"], kernel: Float[Array, "i o"]) -> Float[Array, "*batch o"]:
    """`x kernel`, multiplied in the dtype of `x` and summed in float32 (float64 for float64).

    The gradient of `x` has its dtype, that of the kernel the kernel's.
    """
    return matmul(x, kernel.astype(x.dtype))


def _forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return product(x, kernel), (x, kernel)


def _backward(saved: tuple[Array, Array], grads: Array) -> tuple[Array, Array]:
    x, kernel = saved
    grads = grads.astype(x.dtype)
    rows = x.reshape(-1, x.shape[-1])
    of_kernel = inner(rows, grads.reshape(-1, grads.shape[-1]))
    of_x = matmul(grads, transposed(kernel.astype(x.dtype)))
    return of_x.astype(x.dtype), of_kernel.astype(kernel.dtype)


product.defvjp(_forward, _backward)


def matmul(left: Float[Array, "*batch i"], right: Float[Array, "i o"]) -> Float[Array, "*batch o"]:
    """`left right` of operands of one dtype, summed in float32 (float64 for float64)."""
    return jnp.matmul(left, right, preferred_element_type=_sums(left))


def inner(left: Float[Array, "n i"], right: Float[Array, "n o"]) -> Float[Array, "i o"]:
    """`left^T right`, summed over the rows of both as by `matmul`."""
    if left.dtype == jnp.bfloat16:
        return matmul(transposed(left), right)
    # In this order of axes XLA multiplies without a copy of the larger factor.
    return jnp.einsum("ni,no->io", left, right, preferred_element_type=_sums(left))


def transposed(matrix: Float[Array, "i o"]) -> Float[Array, "o i"]:
    """The transpose, for a product; on a CPU, that of bfloat16 is laid out row by row."""
    if matrix.dtype != jnp.bfloat16:
        return matrix.T
    held = lambda x: with_layout_constraint(x, Layout(major_to_minor=(0, 1)))
    return jax.lax.platform_dependent(matrix.T, cpu=held, default=lambda x: x)


def _sums(operand: Array) -> jnp.dtype:
    return jnp.promote_types(operand.dtype, jnp.float32)
