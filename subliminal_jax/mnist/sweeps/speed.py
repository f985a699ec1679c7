"""Useful FLOP of the MNIST experiment, and the machine's matrix rate."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from subliminal_jax.data.images import ImageData
from subliminal_jax.execution.program import Program
from subliminal_jax.execution.protocol import Execution
from subliminal_jax.mnist.config import MnistConfig, schedule
from subliminal_jax.models import mlp
from subliminal_jax.models.product import matmul, transposed

FORMULA = """\
Useful FLOP, two per multiply-add of a matrix product and nothing else:
  teach     members x epochs x training images x T
  label     members x noise images x F
  distill   members x arms x epochs x noise images x T
  evaluate  members x (2 + arms) x test images x F
F = 2 x weights; T = 4 x weights + 2 x weights after the first layer (no gradient of the images).
Padding, elementwise work, and members that pad a block do not count."""


def useful_flop(
    config: MnistConfig, network: mlp.MlpConfig, data: ImageData, arms: int
) -> dict[str, int]:
    """Return the useful FLOP of each phase, as `FORMULA` counts them."""
    times = schedule(config, data.name)
    training, forward = mlp.training_flop(network), mlp.forward_flop(network)
    one_member = {
        "teach": times.teacher_epochs * len(data.train_labels) * training,
        "label": times.noise_images * forward,
        "distill": arms * times.student_epochs * times.noise_images * training,
        "evaluate": (2 + arms) * len(data.test_labels) * forward,
    }
    return {phase: config.members * flop for phase, flop in one_member.items()}


@dataclass(frozen=True)
class Product:
    """A chain of matrix products whose values neither grow nor vanish.

    Each link multiplies by the same matrix, `[rows, columns]`, with orthonormal columns; if it is
    not square, then by its transpose too, as the forward product and the weight gradient of a
    layer do.

    Attributes:
        rows: images per step.
        columns: inputs of the layer.
        width: outputs of the layer.
    """

    rows: int
    columns: int
    width: int

    def __str__(self) -> str:
        return f"{self.rows} x {self.columns} x {self.width}"

    @property
    def flop(self) -> int:
        """FLOP of one link of the chain."""
        one = 2 * self.rows * self.columns * self.width
        return one if self.rows == self.columns else 2 * one

    def matrix(self) -> Float[np.ndarray, "{self.rows} {self.columns}"]:
        """Return the matrix of the chain."""
        # Columns of a Householder reflection: orthonormal and dense, without a factorisation.
        normal = np.random.default_rng(0).standard_normal(self.rows)
        normal /= np.linalg.norm(normal)
        reflected = 2 * np.outer(normal, normal[: self.columns])
        return (np.eye(self.rows, self.columns) - reflected).astype(np.float32)

    def start(self) -> Float[np.ndarray, "{self.columns} {self.width}"]:
        """Return the matrix that the chain starts from."""
        normal = np.random.default_rng(1).standard_normal((self.columns, self.width))
        return normal.astype(np.float32)

    def chain(
        self,
        y: Float[Array, "c w"],
        member: Int[Array, ""],
        shared: tuple[Float[Array, "r c"], Int[Array, ""]],
    ) -> tuple[Float[Array, "c w"], None]:
        """Run a number of links; a member function with `shared` = (matrix, links)."""
        matrix, links = shared
        square = self.rows == self.columns

        def link(_: Any, y: Array) -> Array:
            y = matmul(matrix, y, y.dtype)
            return y if square else matmul(transposed(matrix), y, y.dtype)

        return jax.lax.fori_loop(0, links, link, y), None


@dataclass
class MatrixRate:
    """The matrix rate under XLA of all devices of an execution together.

    Attributes:
        execution: the execution whose devices are measured.
        products: shapes to try.
        seconds: approximate time of a measurement.
        dtype: of the matrices.
        rates: FLOP/s of every measurement so far, by product.
    """

    execution: Execution
    products: tuple[Product, ...]
    seconds: float = 0.2
    dtype: DTypeLike = jnp.float32
    rates: dict[Product, list[float]] = field(default_factory=dict)
    _chains: dict[Product, tuple[Callable[[int], float], int]] = field(default_factory=dict)

    def measure(self) -> None:
        """Measure each product once."""
        for product in self.products:
            if product not in self._chains:
                self._chains[product] = self._long_enough(product)
            run, links = self._chains[product]
            flop = self.execution.devices * links * product.flop
            self.rates.setdefault(product, []).append(flop / run(links))

    def best(self) -> tuple[Product, float]:
        """Return the product with the highest median rate, and that rate."""
        medians = {product: statistics.median(rates) for product, rates in self.rates.items()}
        fastest = max(medians, key=lambda product: medians[product])
        return fastest, medians[fastest]

    def _long_enough(self, product: Product) -> tuple[Callable[[int], float], int]:
        """Return the product's timed chain, and a length at which it takes about `seconds`."""
        execution, program = self.execution, Program(product.chain, self.execution)
        members = execution.split(np.arange(execution.devices))
        matrix = execution.share(product.matrix().astype(self.dtype))
        start = np.stack([product.start().astype(self.dtype)] * execution.devices)

        def run(links: int) -> float:
            y, before = execution.split(start), program.seconds
            program(y, members, (matrix, jnp.int32(links)))
            return program.seconds - before

        run(1)  # the first run of a program is slower
        links = 1
        while (took := run(links)) < self.seconds / 2:
            links *= 2
        return run, max(1, round(links * self.seconds / took))


def paper_products(network: mlp.MlpConfig, batch: int) -> tuple[Product, ...]:
    """Return two large square products, and that of the first layer of the experiment's network.

    The layer is left out if its inputs outnumber the batch: its columns cannot be orthonormal.
    """
    squares = (Product(1024, 1024, 1024), Product(2048, 2048, 2048))
    layer = Product(batch, network.inputs, network.hidden[0])
    return (*squares, layer) if batch > network.inputs else squares
