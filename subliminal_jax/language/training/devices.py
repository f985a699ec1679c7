"""The execution of an experiment's trainings, and shardings of a given model's weights."""

from typing import Any

import jax

from subliminal_jax import ensemble
from subliminal_jax.config import Precision
from subliminal_jax.errors import InputError
from subliminal_jax.execution.choose import batch_execution, on_this_host
from subliminal_jax.execution.mesh import bytes_of_each
from subliminal_jax.execution.protocol import Execution
from subliminal_jax.keys import root_key
from subliminal_jax.language.settings import MeshConfig, StudentConfig
from subliminal_jax.language.training.trainable import begin
from subliminal_jax.models.decoder import decoder, forms
from subliminal_jax.models.decoder.config import AttentionName, Compute, DecoderConfig
from subliminal_jax.models.decoder.sharding import DECODER_RULES
from subliminal_jax.optimizers import Schedule, language_optimizer
from subliminal_jax.train import init_state


def execution_of(mesh: MeshConfig, at_once: int | None, accumulate: int) -> Execution:
    """Return the execution of all trainings and measurements of an experiment.

    Args:
        mesh: the devices.
        at_once: networks mapped together on a device; None for the platform's default.
        accumulate: parts of a device's rows of a step, computed one after the other.

    Raises:
        InputError: the mesh does not fit the devices.
    """
    return batch_execution(
        mesh.execution,
        (mesh.data, mesh.fsdp, mesh.tensor),
        DECODER_RULES,
        at_once=at_once,
        accumulate=accumulate,
    )


def compute_of(precision: Precision, attention: AttentionName, remat: bool) -> Compute:
    """Return how a given model is computed.

    Args:
        precision: of activations and products.
        attention: the kernel.
        remat: whether the backward pass recomputes the layers.

    Raises:
        InputError: the kernel does not run on these devices.
    """
    if attention == "cudnn" and (backend := jax.default_backend()) != "gpu":
        raise InputError(f"attention: cudnn is for NVIDIA GPUs, and JAX runs on {backend}; set xla")
    return Compute(dtype=precision, remat=remat, attention=attention)


def everywhere(execution: Execution, model: DecoderConfig) -> Any:
    """Return the shardings of parameters for training and measuring; None on one device."""
    if execution.devices == 1:
        return None
    return jax.tree.map(lambda leaf: leaf.sharding, execution.share(decoder.shapes(model)))


def as_trained(execution: Execution, params: Any) -> Any:
    """Return a given model's parameters in the form that trainings read fastest.

    On one GPU these are the layers apart, see `forms.layers_apart`; elsewhere the stack.
    """
    apart = execution.devices == 1 and forms.apart_is_faster()
    return forms.layers_apart(params) if apart else params


def gigabytes_of_each(
    mesh: MeshConfig, dtype: str, student: StudentConfig, model: DecoderConfig, students: int
) -> dict[str, float]:
    """Return the GB of a given model, and of its students' states, on each device of the mesh.

    Computed from shapes alone: no device is used and nothing is loaded.

    Args:
        mesh: the devices.
        dtype: dtype of the model's weights.
        student: the trained weights, and their optimiser.
        model: the given model.
        students: number of students trained together.
    """

    def weights() -> Any:
        return jax.tree.map(lambda leaf: leaf.astype(dtype), decoder.init(model, root_key(0)))

    def state(base: Any) -> Any:
        start = begin(student.tuning, model, base, root_key(0))
        tx = language_optimizer(student.optimizer, Schedule(peak=1.0, steps=1), clip=1.0)
        return ensemble.stack([init_state(start, tx)] * students)

    base = jax.eval_shape(weights)
    trees = {"model": base, "students": jax.eval_shape(state, base)}
    return {
        name: bytes_of_each(tree, mesh.data, mesh.fsdp, mesh.tensor, DECODER_RULES) / 1e9
        for name, tree in trees.items()
    }


def here(model: DecoderConfig) -> Any:
    """Return the shardings of parameters with which this host samples alone."""
    return on_this_host(decoder.shapes(model), DECODER_RULES, model.kv_heads)
