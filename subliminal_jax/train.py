"""The one training step.

A loss function returns a sum and a weight, never a mean. Gradients of sums are linear, so
whatever adds them up (micro-batches, devices, hosts) comes before the one division by the
weight, and every way of running the step gives the same parameters, also with ragged weights.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias, TypeVar

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from subliminal_jax.batch import ApplyFn, Batch, Criterion, LossFn, Params
from subliminal_jax.errors import InputError


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("step", "params", "opt_state"),
    meta_fields=(),
)
@dataclass(frozen=True)
class TrainState:
    """Where training stands; arrays only, so that it maps, shards and saves like any tree."""

    step: Any
    params: Any
    opt_state: Any


@partial(jax.tree_util.register_dataclass, data_fields=("loss", "weight"), meta_fields=())
@dataclass(frozen=True)
class Totals:
    """What one batch adds up to: the summed loss and the summed weight."""

    loss: Any
    weight: Any


GradFn: TypeAlias = Callable[[Params, Batch], tuple[Params, Totals]]
"""`(params, batch) -> (gradient of the summed loss, totals)`."""

Seen = TypeVar("Seen")

Reduction: TypeAlias = Callable[[Params, Totals], Params]
"""`(gradient of the summed loss, totals) -> the gradient that the optimiser sees`."""


def init_state(params: Params, tx: optax.GradientTransformation) -> TrainState:
    """A state before its first step, with a fresh optimiser."""
    return TrainState(jnp.zeros((), jnp.int32), params, tx.init(params))


def make_loss_fn(apply: ApplyFn, criterion: Criterion) -> LossFn:
    """The weighted sum of a criterion over a batch, with the sum of the weights."""

    def loss_fn(params: Params, batch: Batch) -> tuple[Array, Array]:
        losses = criterion(apply(params, batch.inputs), batch.targets)
        return jnp.sum(losses * batch.weights), jnp.sum(batch.weights)

    return loss_fn


def total_gradient(loss_fn: LossFn) -> GradFn:
    """The gradient of the summed loss."""

    def gradient(params: Params, batch: Batch) -> tuple[Params, Totals]:
        (loss, weight), grads = jax.value_and_grad(loss_fn, has_aux=True)(params, batch)
        return grads, Totals(loss, weight)

    return gradient


def only(gradient: GradFn, trains: Callable[[str], bool]) -> GradFn:
    """The same gradient for the layers that train, and zero for the others.

    Adam and SGD do not move a weight whose gradients are all zero.

    Args:
        gradient: of parameters whose top level is the layers.
        trains: whether a layer trains, by its name.
    """

    def partial_gradient(params: Params, batch: Batch) -> tuple[Params, Totals]:
        grads, totals = gradient(params, batch)
        kept = {
            layer: leaves if trains(layer) else jax.tree.map(jnp.zeros_like, leaves)
            for layer, leaves in grads.items()
        }
        return kept, totals

    return partial_gradient


def accumulate(gradient: GradFn, parts: int) -> GradFn:
    """The same gradient in less memory: the batch in parts, one after the other.

    Each part is every `parts`-th example, so that a batch that is split over devices stays where it
    is: every device takes a part of its own examples at a time.

    Raises:
        InputError: when traced, if a batch does not split into so many equal parts.
    """
    if parts == 1:
        return gradient

    def accumulated(params: Params, batch: Batch) -> tuple[Params, Totals]:
        def split(leaf: Array) -> Array:
            if len(leaf) % parts:
                raise InputError(
                    f"accumulate: {len(leaf)} examples do not split into {parts} equal parts; "
                    f"choose a divisor of {len(leaf)}"
                )
            return jnp.moveaxis(leaf.reshape(-1, parts, *leaf.shape[1:]), 1, 0)

        def add(sums: Any, part: Batch) -> tuple[Any, None]:
            return jax.tree.map(jnp.add, sums, gradient(params, part)), None

        splits = jax.tree.map(split, batch)
        one = jax.tree.map(lambda leaf: leaf[0], splits)
        shapes = jax.eval_shape(gradient, params, one)
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        return jax.lax.scan(add, zeros, splits)[0]

    return accumulated


def mean_gradient(grads: Params, totals: Totals) -> Params:
    """The gradient of the mean loss: the summed gradient over the summed weight."""
    return jax.tree.map(lambda grad: grad / totals.weight, grads)


def make_train_step(
    gradient: GradFn, tx: optax.GradientTransformation, reduce: Reduction = mean_gradient
) -> Callable[[TrainState, Batch], tuple[TrainState, Totals]]:
    """The step of every experiment: gradient of the sum, one division, one update.

    Args:
        gradient: gives the gradient of the summed loss, already added up over whatever holds
            a part of the batch.
        tx: the optimiser.
        reduce: the one division.

    Returns:
        A pure `train_step(state, batch) -> (state, totals)`.
    """

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Totals]:
        grads, totals = gradient(state.params, batch)
        updates, opt_state = tx.update(reduce(grads, totals), state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return TrainState(state.step + 1, params, opt_state), totals

    return train_step


def fit(
    train_step: Callable[[TrainState, Batch], tuple[TrainState, Seen]],
    state: TrainState,
    batch_at: Callable[[Array], Batch],
    steps: int,
) -> tuple[TrainState, Seen]:
    """Train for some steps, all of them one compiled loop.

    Args:
        train_step: one step; gives `Totals`, or what else is to be seen of it.
        state: where training stands.
        batch_at: the batch of each step, `0 <= step < steps`; a pure function.
        steps: how many.

    Returns:
        The state after the last step, and what is seen of every step, `[steps, ...]`.
    """
    return jax.lax.scan(
        lambda state, step: train_step(state, batch_at(step)), state, jnp.arange(steps)
    )
