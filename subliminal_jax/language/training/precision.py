"""The precision of an experiment's products: as asked, or the faster one on this machine."""

from collections.abc import Mapping
from functools import partial

from subliminal_jax.config import Precision, PrecisionSetting
from subliminal_jax.language.settings import ReferenceConfig
from subliminal_jax.models.hub.model_files import find_model
from subliminal_jax.models.hub.weights import read_config
from subliminal_jax.models.product_rate import product_rates
from subliminal_jax.runs.precision import Decision, decided
from subliminal_jax.runs.shared_run import SharedRun

ROWS, WIDEST = 1024, 8192
"""Tokens, and most features, of the products that are timed to choose a precision."""


def chosen_precision(
    asked: PrecisionSetting, reference: ReferenceConfig, directory: SharedRun
) -> Decision:
    """Return the precision that was asked for, or the faster one for products of the reference.

    Args:
        asked: the precision, or `auto`.
        reference: settings of the model.
        directory: run directory, which records a choice.

    Raises:
        InputError: the recorded choice is damaged.
    """
    return decided(directory, asked, partial(_rates, reference))


def _rates(reference: ReferenceConfig) -> Mapping[Precision, float]:
    """Return the FLOP/s of products of a reference's MLP, by precision."""
    width, inner = reference.width, reference.mlp_width
    if reference.model is not None:
        _, config = read_config(find_model(reference.model))
        width, inner = config.width, config.mlp_width
    return product_rates(ROWS, min(width, WIDEST), min(inner, WIDEST))
