"""Measures the theorem on many random cases: one compiled program per network maps its cases."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jaxtyping import Float, Int

from subliminal_jax.data.images import ImageData
from subliminal_jax.execution.one_device import OneDevice
from subliminal_jax.execution.program import Program
from subliminal_jax.models import mlp
from subliminal_jax.theory import beyond, theorem
from subliminal_jax.theory import cases as draws
from subliminal_jax.theory.config import TheoremConfig, network_parts
from subliminal_jax.theory.theorem import Start

# From just above rounding error to far outside the first-order regime; two per decade.
EPS = 10.0 ** np.arange(-6.0, 1.01, 0.5)
STEPS = 10.0 ** np.arange(-2.0, 4.01, 0.5)
NEARNESS = 10.0 ** np.arange(-2.0, 3.01, 0.5)
"""Perturbations of the student's initialisation, in units of the teacher's small step."""
DEGENERATE_DRAWS = 60

Digits = tuple[Float[np.ndarray, "n d"], Int[np.ndarray, " n"]]


class NetworkCases(NamedTuple):
    """The measured cases of one network.

    Attributes:
        network: its name in the config.
        numbers: the cases' numbers, `[n]`.
        measured: the measurements, leaves `[n, ...]`.
    """

    network: str
    numbers: Int[np.ndarray, " n"]
    measured: theorem.Measured


class Evidence(NamedTuple):
    """All measurements.

    Attributes:
        families: the cases of the theorem, by network.
        degenerate: for each of `draws.DEGENERATE`, cases in which nothing can be transmitted.
        moved: by optimiser and number of steps, leaves `[n, 2, 2]`; see `beyond.follow`.
        compile_seconds: time spent compiling.
    """

    families: list[NetworkCases]
    degenerate: dict[str, theorem.Measured]
    moved: dict[tuple[str, int], beyond.Moved]
    compile_seconds: float


def scaled_digits(data: ImageData) -> Digits:
    """Return the training images scaled to [-1, 1] in float64, and their labels."""
    return data.train_images / (data.white / 2) - 1.0, data.train_labels


def gather(
    config: TheoremConfig, digits: Digits, progress: Callable[[], None] = lambda: None
) -> Evidence:
    """Measure all cases in float64.

    Args:
        config: number and kinds of the cases.
        digits: images and labels.
        progress: called `parts(config)` times, after each part.
    """
    runner = _Runner(config, digits, progress)
    with jax.enable_x64(True):
        families = [runner.family(place) for place in range(len(config.networks))]
        degenerate = {case: runner.degenerate(case) for case in draws.DEGENERATE}
        rates = {"SGD": optax.sgd(config.sgd_rate), "Adam": optax.adam(config.adam_rate)}
        moved = {
            (name, steps): runner.followed(tx, steps)
            for name, tx in rates.items()
            for steps in config.steps
        }
    compiling = sum(program.compile_seconds for program in runner.programs.values())
    return Evidence(families, degenerate, moved, compiling)


def parts(config: TheoremConfig) -> int:
    """Return the number of times that `gather` calls `progress`."""
    return len(config.networks) + len(draws.DEGENERATE) + 2 * len(config.steps)


class _Runner:
    """Draws cases on the host and runs one compiled program over them."""

    def __init__(self, config: TheoremConfig, digits: Digits, progress: Callable[[], None]):
        self.config, self.digits, self.progress = config, digits, progress
        self.programs: dict[Any, Program] = {}
        # Families start at multiples of `CASES`, so that each runs through all combinations.
        self.each = -(-config.draws // len(config.networks))
        self.stride = draws.CASES * -(-max(self.each, DEGENERATE_DRAWS) // draws.CASES)

    def family(self, place: int) -> NetworkCases:
        built = self._network(place)
        numbers = place * self.stride + np.arange(self.each)
        measured = self._measure(built, self._draw(built, numbers))
        return NetworkCases(self.config.networks[place], numbers, measured)

    def degenerate(self, case: str) -> theorem.Measured:
        built = self._network(0)
        if case == "linear network":
            built = replace(built, hidden=())
        starts = self._draw(built, np.arange(DEGENERATE_DRAWS))
        return self._measure(built, [draws.degenerate(built, start, case) for start in starts])

    def followed(self, tx: optax.GradientTransformation, steps: int) -> beyond.Moved:
        built = self._network(0)
        numbers = len(self.config.networks) * self.stride + np.arange(self.config.beyond_draws)
        random = np.random.Generator(np.random.Philox(key=[self.config.seed, steps]))
        uniforms = random.uniform(size=(len(numbers), steps, self.config.batch))
        return self._run(
            (tx, steps),
            partial(beyond.follow, built, tx, steps),
            self._draw(built, numbers),
            uniforms,
        )

    def _network(self, place: int) -> mlp.MlpConfig:
        activation, hidden = network_parts(self.config.networks[place])
        inputs = self.digits[0].shape[1]
        return mlp.MlpConfig(
            inputs=inputs, hidden=hidden, aux=self.config.aux, activation=activation
        )

    def _draw(self, network: mlp.MlpConfig, numbers: Int[np.ndarray, " n"]) -> list[Start]:
        config = self.config
        return [
            draws.draw(network, config.seed, int(number), self.digits, config.batch)
            for number in numbers
        ]

    def _measure(self, network: mlp.MlpConfig, starts: list[Start]) -> theorem.Measured:
        small = self.config.small
        grids = theorem.Grids(eps=EPS, steps=STEPS, sigmas=NEARNESS * small, small=small)
        measure = partial(
            theorem.measure,
            partial(mlp.apply, network),
            partial(draws.trait_loss, network),
            grids=grids,
        )
        return self._run((network, len(starts)), measure, starts)

    def _run(self, which: Any, fn: Callable[..., Any], starts: list[Start], *more: Any) -> Any:
        """Map a function of one case over all cases; compiled once for each `which`."""
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *starts)
        execution = OneDevice()
        if which not in self.programs:
            run = lambda carry, member, shared: (None, fn(*member))
            self.programs[which] = Program(run, execution)
        _, outcome = self.programs[which](None, execution.split((stacked, *more)), None)
        self.progress()
        return execution.fetch(outcome)
