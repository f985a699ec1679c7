"""Where the trainings of an experiment run, and where the weights of a given model lie."""

from functools import partial
from typing import Any

import jax

from subliminal_jax.execution.spread import BatchExecution, OnMesh, on_this_host, spread_execution
from subliminal_jax.models import decoder
from subliminal_jax.models.decoder_config import DecoderConfig
from subliminal_jax.models.sharding import DECODER_RULES
from subliminal_jax.pipeline.config import LmConfig


def execution_of(config: LmConfig) -> BatchExecution:
    """How all networks of an experiment are trained and measured.

    Raises:
        InputError: the mesh does not fit the devices.
    """
    mesh = config.mesh
    return spread_execution(
        *(mesh.data, mesh.fsdp, mesh.tensor, DECODER_RULES),
        at_once=config.at_once,
        accumulate=config.accumulate,
    )


def everywhere(execution: BatchExecution, model: DecoderConfig) -> Any:
    """Where parameters lie that an execution trains or measures; None: on one device."""
    return execution.shardings(shapes_of(model)) if isinstance(execution, OnMesh) else None


def here(model: DecoderConfig) -> Any:
    """Where parameters lie that this host samples from alone."""
    return on_this_host(shapes_of(model), DECODER_RULES, model.kv_heads)


def shapes_of(model: DecoderConfig) -> Any:
    """The form of a model's parameters."""
    return jax.eval_shape(partial(decoder.init, model), jax.random.key(0))
