"""Where the trainings of an experiment run, and where the weights of a given model lie."""

from typing import Any

import jax

from subliminal_jax import ensemble
from subliminal_jax.errors import InputError
from subliminal_jax.execution.choose import batch_execution, on_this_host
from subliminal_jax.execution.mesh import bytes_of_each
from subliminal_jax.execution.protocol import Execution
from subliminal_jax.keys import root_key
from subliminal_jax.language.config import LmConfig
from subliminal_jax.language.training.trainable import begin
from subliminal_jax.models.decoder import decoder
from subliminal_jax.models.decoder.config import Compute, DecoderConfig
from subliminal_jax.models.decoder.sharding import DECODER_RULES
from subliminal_jax.optimizers import Schedule, language_optimizer
from subliminal_jax.train import init_state


def execution_of(config: LmConfig) -> Execution:
    """The execution of all trainings and measurements of an experiment; built once, and passed.

    Raises:
        InputError: the mesh does not fit the devices.
    """
    mesh = config.mesh
    return batch_execution(
        mesh.execution,
        (mesh.data, mesh.fsdp, mesh.tensor),
        DECODER_RULES,
        at_once=config.at_once,
        accumulate=config.accumulate,
    )


def compute_of(config: LmConfig) -> Compute:
    """How a given model is computed.

    Raises:
        InputError: its attention is to run on a kernel that is not here.
    """
    if config.attention == "cudnn" and (found := jax.default_backend()) != "gpu":
        raise InputError(f"attention: cudnn is for NVIDIA GPUs, and JAX runs on {found}; take xla")
    return Compute(dtype=config.reference.dtype, remat=config.remat, attention=config.attention)


def everywhere(execution: Execution, model: DecoderConfig) -> Any:
    """The shardings of parameters that an execution trains or measures; None on one device."""
    if execution.devices == 1:
        return None
    return jax.tree.map(lambda leaf: leaf.sharding, execution.share(shapes_of(model)))


def gigabytes_of_each(config: LmConfig, model: DecoderConfig, students: int) -> dict[str, float]:
    """What each device of the mesh holds of a given model, and of what is trained beside it.

    Known from shapes alone: no device is asked and nothing is loaded.
    """

    def weights() -> Any:
        dtype = config.reference.dtype
        return jax.tree.map(lambda leaf: leaf.astype(dtype), decoder.init(model, root_key(0)))

    def state(base: Any) -> Any:
        start = begin(config.student.tuning, model, base, root_key(0))
        tx = language_optimizer(config.student.optimizer, Schedule(peak=1.0, steps=1), clip=1.0)
        return ensemble.stack([init_state(start, tx)] * students)

    mesh = config.mesh
    base = jax.eval_shape(weights)
    trees = {"model": base, "students": jax.eval_shape(state, base)}
    return {
        name: bytes_of_each(tree, mesh.data, mesh.fsdp, mesh.tensor, DECODER_RULES) / 1e9
        for name, tree in trees.items()
    }


def here(model: DecoderConfig) -> Any:
    """Where parameters lie that this host samples from alone."""
    return on_this_host(shapes_of(model), DECODER_RULES, model.kv_heads)


def shapes_of(model: DecoderConfig) -> Any:
    """The form of a model's parameters."""
    return jax.eval_shape(lambda: decoder.init(model, root_key(0)))
