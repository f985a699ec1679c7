"""The precision of an MNIST experiment, settled before its programs are built."""

from dataclasses import replace
from functools import partial
from typing import TypeVar

from subliminal_jax.data.images import ImageData
from subliminal_jax.mnist.config import MnistConfig, schedule
from subliminal_jax.models.product_rate import product_rates
from subliminal_jax.runs.precision import Decision, choose, decided
from subliminal_jax.runs.shared_run import SharedRun

MEMBERS = 4
"""Members whose products are timed together, at most."""

C = TypeVar("C", bound=MnistConfig)


def settled(config: C, data: ImageData, directory: SharedRun | None) -> tuple[C, Decision]:
    """Return the config with its precision, and the decision, whose facts belong to the results.

    Args:
        config: the experiment's.
        data: the images.
        directory: the run's, which keeps the choice; None for a benchmark without one.

    Raises:
        InputError: the recorded choice is damaged.
    """
    rows, pixels = schedule(config, data.name).batch, data.train_images.shape[1]
    measure = partial(product_rates, rows, pixels, config.width, min(config.members, MEMBERS))
    if directory is not None:
        decision = decided(directory, config.precision, measure)
    else:
        decision = choose(config.precision, measure)
    return replace(config, precision=decision.precision), decision
