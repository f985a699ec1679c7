"""What an accelerator can do at most: rates of matrix products, bandwidth, rounding of float32."""

import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from subliminal_jax.execution.one_device import OneDevice
from subliminal_jax.mnist.sweeps.speed import MatrixRate, Product

REPETITIONS, PASSES = 5, 20
ROUNDING = {1e-5: "float32", 1.5e-3: "TF32", 2e-2: "bfloat16"}
"""The most that the error of a product may be -> the format of its operands."""


def product_rate(side: int, dtype: DTypeLike) -> float:
    """Return the FLOP/s of a square matrix product on one device, the median of a few chains."""
    rate = MatrixRate(OneDevice(), (Product(side, side, side),), dtype=dtype)
    for _ in range(REPETITIONS):
        rate.measure()
    return rate.best()[1]


def bandwidth(size: int) -> float:
    """Return the bytes read and written per second by elementwise passes over `size` bytes."""
    values = jnp.zeros(size // 4)
    passes = jax.jit(
        lambda values, count: jax.lax.fori_loop(0, count, lambda _, values: values + 1, values),
        donate_argnums=0,
    )
    seconds = []
    for _ in range(REPETITIONS + 1):  # the first compiles
        start = time.perf_counter()
        values = jax.block_until_ready(passes(values, PASSES))
        seconds.append((time.perf_counter() - start) / PASSES)
    return 2 * size / statistics.median(seconds[1:])


def product_error(side: int = 1024) -> float:
    """Return the relative error of a default product of float32 matrices, in the 2-norm."""
    rng = np.random.default_rng(0)
    left, right = (rng.standard_normal((side, side)).astype(np.float32) for _ in range(2))

    @jax.jit
    def multiply(left: Float[Array, "n n"], right: Float[Array, "n n"]) -> Float[Array, "n n"]:
        return left @ right

    exact = left.astype(np.float64) @ right.astype(np.float64)
    return float(np.linalg.norm(multiply(left, right) - exact) / np.linalg.norm(exact))


def rounding(error: float) -> str:
    """Return the format to which a product's operands were rounded, by its relative error."""
    return next((name for most, name in ROUNDING.items() if error <= most), "none known")
