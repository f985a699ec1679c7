"""How fast this machine multiplies in each precision, for products of the shape of some work."""

import time
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array

from subliminal_jax.config import Precision
from subliminal_jax.models.product import product

REPETITIONS = 5


def product_rates(
    rows: int, inputs: int, outputs: int, members: int = 1
) -> Mapping[Precision, float]:
    """The FLOP/s of a product with its gradient, the best of a few, by the precision of operands.

    Operands are float32 and are rounded within the program, as in a training step.

    Args:
        rows: of the activations.
        inputs: of the kernel.
        outputs: likewise.
        members: products at a time, each with its own kernel.
    """
    x = jnp.ones((members, rows, inputs))
    kernel = jnp.ones((members, inputs, outputs))

    def program(precision: Precision) -> jax.stages.Compiled:
        def total(x: Array, kernel: Array) -> Array:
            return jnp.sum(jnp.tanh(jax.vmap(product)(x.astype(precision), kernel)))

        return jax.jit(jax.grad(total, (0, 1))).lower(x, kernel).compile()

    programs: dict[Precision, jax.stages.Compiled] = {
        "float32": program("float32"),
        "bfloat16": program("bfloat16"),
    }
    seconds: dict[Precision, list[float]] = {name: [] for name in programs}
    for _ in range(REPETITIONS + 1):  # in turn, so that a disturbance meets both
        for name, run in programs.items():
            start = time.perf_counter()
            jax.block_until_ready(run(x, kernel))
            seconds[name].append(time.perf_counter() - start)
    flop = 3 * 2 * members * rows * inputs * outputs
    return {name: flop / min(each[1:]) for name, each in seconds.items()}
