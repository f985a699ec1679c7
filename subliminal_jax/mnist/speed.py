"""How fast a study runs: its useful arithmetic, its time, and the machine's own matrix rate."""

import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from subliminal_jax.data.images import ImageData
from subliminal_jax.execution.program import Program
from subliminal_jax.execution.protocol import Execution
from subliminal_jax.mnist.config import MnistConfig, schedule
from subliminal_jax.mnist.study import Study
from subliminal_jax.models import mlp

FORMULA = """\
Useful FLOP, two per multiply-add of a matrix product and nothing else:
  teach     members x epochs x training images x T
  label     members x noise images x F
  distill   members x arms x epochs x noise images x T
  evaluate  members x (2 + arms) x test images x F
F = 2 x weights; T = 4 x weights + 2 x weights behind the first layer (no gradient of the images).
Padding, elementwise work, and members that fill up a block count for nothing."""

PHASE_OF = {"teachers": "teach", "students": "distill"}  # from what `Study.on_epochs` names
GIGA = 1e9


def useful_flop(
    config: MnistConfig, network: mlp.MlpConfig, data: ImageData, arms: int
) -> dict[str, int]:
    """Floating-point operations of each phase that the result needs; `FORMULA` in numbers."""
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
class Timing:
    """Where the time of a run went, in seconds.

    Attributes:
        phases: in each phase's programs, without compilation.
        between: outside of them: dispatch, transfers, checks of the losses.
        compiling: tracing and compiling.
    """

    phases: Mapping[str, float]
    between: float
    compiling: float

    @property
    def total(self) -> float:
        """The whole run without compilation."""
        return sum(self.phases.values()) + self.between


def timed_run(study: Study, beside: Callable[[str | None], None]) -> Timing:
    """Run a study of the paper's methods, and something else again and again beside it.

    Args:
        study: fresh, so that all its programs are compiled now.
        beside: called before the first phase with None, and with the phase's name after every
            epoch and every phase without epochs. The time it takes is not the run's.
    """
    away = 0.0

    def pause(phase: str | None) -> None:
        nonlocal away
        left = time.perf_counter()
        beside(phase)
        away += time.perf_counter() - left

    study.on_epochs = lambda _, networks: pause(PHASE_OF[networks])
    start = time.perf_counter()
    pause(None)
    for block in study.blocks():
        reference, teacher = study.train_teachers(block)
        teacher_logits = study.label_noise(block, teacher)
        pause("label")
        students = study.distill(block, reference, teacher_logits)
        study.evaluate(block, reference, teacher, students)
        pause("evaluate")
    wall = time.perf_counter() - start - away
    phases, compiling = study.seconds(), study.compile_seconds()
    return Timing(phases, wall - compiling - sum(phases.values()), compiling)


@dataclass(frozen=True)
class Product:
    """A chain of float32 matrix products that neither grows nor vanishes.

    The matrix that is multiplied with again and again, `[rows, columns]`, has orthonormal
    columns. A square one is applied alone; a tall one and its transpose in turn, which are the
    forward product and the weight gradient of a layer.

    Attributes:
        rows: images in a step.
        columns: the layer's inputs.
        width: the layer's outputs.
    """

    rows: int
    columns: int
    width: int

    def __str__(self) -> str:
        return f"{self.rows} x {self.columns} x {self.width}"

    @property
    def flop(self) -> int:
        """Floating-point operations of one link of the chain."""
        one = 2 * self.rows * self.columns * self.width
        return one if self.rows == self.columns else 2 * one

    def matrix(self) -> Float[np.ndarray, "{self.rows} {self.columns}"]:
        """The matrix of the chain."""
        # Columns of a Householder reflection: orthonormal and dense, without a factorisation.
        normal = np.random.default_rng(0).standard_normal(self.rows)
        normal /= np.linalg.norm(normal)
        reflected = 2 * np.outer(normal, normal[: self.columns])
        return (np.eye(self.rows, self.columns) - reflected).astype(np.float32)

    def start(self) -> Float[np.ndarray, "{self.columns} {self.width}"]:
        """What is multiplied."""
        normal = np.random.default_rng(1).standard_normal((self.columns, self.width))
        return normal.astype(np.float32)

    def chain(
        self,
        y: Float[Array, "c w"],
        member: Int[Array, ""],
        shared: tuple[Float[Array, "r c"], Int[Array, ""]],
    ) -> tuple[Float[Array, "c w"], None]:
        """A member function: as many links as asked for."""
        matrix, links = shared
        square = self.rows == self.columns
        link = lambda _, y: matrix @ y if square else matrix.T @ (matrix @ y)  # noqa: E731
        return jax.lax.fori_loop(0, links, link, y), None


@dataclass
class MatrixRate:
    """The machine's own float32 matrix rate under XLA, on an execution's devices, all at once.

    Attributes:
        execution: whose devices.
        products: the shapes that are tried.
        seconds: each measurement takes about as long as this.
        rates: FLOP/s of every measurement so far of each product.
    """

    execution: Execution
    products: tuple[Product, ...]
    seconds: float = 0.2
    rates: dict[Product, list[float]] = field(default_factory=dict)
    _chains: dict[Product, tuple[Callable[[int], float], int]] = field(default_factory=dict)

    def measure(self) -> None:
        """One measurement of each product."""
        for product in self.products:
            if product not in self._chains:
                self._chains[product] = self._long_enough(product)
            run, links = self._chains[product]
            flop = self.execution.devices * links * product.flop
            self.rates.setdefault(product, []).append(flop / run(links))

    def best(self) -> tuple[Product, float]:
        """The product with the highest median rate, and that rate."""
        medians = {product: statistics.median(rates) for product, rates in self.rates.items()}
        fastest = max(medians, key=lambda product: medians[product])
        return fastest, medians[fastest]

    def _long_enough(self, product: Product) -> tuple[Callable[[int], float], int]:
        """The product's timed chain, and a length at which it takes the time wanted."""
        execution, program = self.execution, Program(product.chain, self.execution)
        members = execution.split(np.arange(execution.devices))
        matrix = execution.share(product.matrix())
        start = np.stack([product.start()] * execution.devices)

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
    """Two large squares, and the first layer of the experiment's own network.

    A batch smaller than the layer's inputs has no orthonormal columns, and is left out.
    """
    squares = (Product(1024, 1024, 1024), Product(2048, 2048, 2048))
    layer = Product(batch, network.inputs, network.hidden[0])
    return (*squares, layer) if batch > network.inputs else squares


def format_heading(results: dict[str, Any]) -> str:
    """What was run, on what."""
    config, blocks = results["config"], results["blocks"]
    return (
        f"{config['members']} members in {len(blocks)} block(s) of {blocks[0]}, six networks each, "
        f"on {results['data']['name']} ({results['data']['reason']}); {config['execution']} on "
        f"{results['devices']} {results['backend']} device(s), {os.cpu_count()} processor cores"
    )


def format_table(results: dict[str, Any]) -> str:
    """Seconds and rates of every phase, the matrix rate's measurements, and the memory.

    PyTorch's factors are its seconds over ours, so above 1 ours is the faster.
    """
    timing, torch, rate = results["timing"], results["torch"], results["matrix_rate"]
    ours = {**timing["phases"], "between phases": timing["between"], "whole run": timing["total"]}
    flop = {**results["useful_flop"], "whole run": sum(results["useful_flop"].values())}
    theirs = torch["seconds"] if torch else {}
    lines = [f"{'':14}{'seconds':>9}{'useful GFLOP':>14}{'GFLOP/s':>9}{'of matrix rate':>16}"]
    lines[0] += f"{'PyTorch s':>11}{'factor':>8}" if torch else ""
    for name, seconds in ours.items():
        line = f"{name:14}{seconds:9.2f}"
        if name in flop:
            speed = flop[name] / seconds
            line += (
                f"{flop[name] / GIGA:14,.0f}{speed / GIGA:9.1f}{speed / rate['flop_per_s']:16.1%}"
            )
        if name in theirs:
            line += f"{theirs[name]:11.2f}{theirs[name] / seconds:8.2f}"
        lines.append(line)
    lines.append(f"{'compilation':14}{timing['compiling']:9.2f}   (in none of the above)")
    lines += ["", "float32 matrix products under XLA on the same devices, in between, GFLOP/s:"]
    for product, rates in results["matrix_rates"].items():
        low, middle, high = (f(rates) / GIGA for f in (min, statistics.median, max))
        used = "   <- the matrix rate" if product == rate["product"] else ""
        text = f"median {middle:.1f} of {len(rates)}, {low:.1f} to {high:.1f}"
        lines.append(f"  {product:20}{text}{used}")
    if torch:
        lines += ["", torch["what"]]
    memory = results["peak_memory"]
    lines += ["", f"peak memory {memory['bytes'] / 2**20:,.0f} MiB {memory['whose']}"]
    return "\n".join(lines)
