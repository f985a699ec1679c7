"""How one training runs whose batch, and maybe whose state, is spread over devices and hosts.

The step itself is a pure function that knows nothing of it. Where a device sees a part of the batch
alone, the sums over the batch are added up *after* the gradient: an all-reduce inside the
differentiated function gives wrong gradients under pmap, by a factor that Adam hides.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, TypeAlias

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh
from jaxtyping import Int

from subliminal_jax.batch import Batch, Params
from subliminal_jax.errors import InputError
from subliminal_jax.execution.mesh import (
    BATCH_AXES,
    ShardingRules,
    batch_sharding,
    gather,
    tree_shardings,
    whole,
)
from subliminal_jax.train import GradFn, Totals, accumulate

Step: TypeAlias = Callable[[Any, Batch], tuple[Any, Any]]
"""`(state, batch) -> (state, totals)`."""
MakeStep: TypeAlias = Callable[[GradFn], Step]
"""Makes the step from the gradient over the whole batch, as `partial(make_train_step, tx=tx)`."""


@dataclass(frozen=True, kw_only=True)
class Sharded:
    """`jit` over a mesh: the compiler splits the step and adds up what has to be.

    Attributes:
        batch: examples in the global batch of a step.
        mesh: the devices.
        rules: where the leaves of the state lie; none: every device has all of them.
        axis: which dimension of a chunk's leaves counts the examples: 1 in `[steps, B, ...]`, 2
            where every member has a batch of its own, `[steps, M, B, ...]`.
        accumulate: parts that a device takes its examples in, one after the other.
    """

    batch: int
    mesh: Mesh
    rules: ShardingRules = ()
    axis: int = 1
    accumulate: int = 1

    def __post_init__(self) -> None:
        split = {name: self.mesh.shape.get(name, 1) for name in BATCH_AXES}
        split["accumulate"] = self.accumulate
        parts = math.prod(split.values())
        if self.batch % parts:
            below = self.batch // parts * parts
            fitting = f"{below} or {below + parts}" if below else str(parts)
            named = " x ".join(f"{name}={size}" for name, size in split.items())
            raise InputError(
                f"batch: {self.batch} examples do not split into {parts} equal parts ({named}); "
                f"take {fitting}, or another mesh"
            )

    @cached_property
    def rows(self) -> Int[np.ndarray, " rows"]:
        """Which examples of every global batch this process has to bring, in this order."""
        everywhere = batch_sharding(self.mesh, 0)
        parts = everywhere.addressable_devices_indices_map((self.batch,)).values()
        return np.unique(np.concatenate([np.arange(self.batch)[part] for part in parts]))

    def feed(self, chunk: Batch) -> Batch:
        """Spread a chunk of batches over the devices.

        Args:
            chunk: NumPy leaves `[steps, rows, ...]` with the examples `rows` of each batch.
        """
        sharding = batch_sharding(self.mesh, self.axis)
        return jax.tree.map(
            lambda leaf: _place(leaf, sharding, self.axis, self.rows, self.batch), chunk
        )

    def abstract(self, chunk: Batch) -> Batch:
        """What `feed` would give of a chunk with any number of rows: its form, but no numbers."""
        sharding = batch_sharding(self.mesh, self.axis)

        def form(leaf: Any) -> jax.ShapeDtypeStruct:
            shape = (*leaf.shape[: self.axis], self.batch, *leaf.shape[self.axis + 1 :])
            return jax.ShapeDtypeStruct(shape, leaf.dtype, sharding=sharding)

        return jax.tree.map(form, chunk)

    def like(self, make_state: Callable[..., Any], *arguments: Any) -> Any:
        """The state that `init` would make: shapes, types and places, but no numbers."""
        shapes = jax.eval_shape(make_state, *arguments)
        return jax.tree.map(
            lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
            *(shapes, self._shardings(shapes)),
        )

    def init(self, make_state: Callable[..., Any], *arguments: Any) -> Any:
        """Make a state in its place; no device ever holds more than its own part."""
        shardings = self._shardings(jax.eval_shape(make_state, *arguments))
        return jax.jit(make_state, out_shardings=shardings)(*arguments)

    def compile(
        self, gradient: GradFn, make_step: MakeStep, state: Any, chunk: Batch
    ) -> jax.stages.Compiled:
        """Compile `(state, chunk) -> (state, totals of every step)`, which consumes the state.

        Args:
            gradient: gives the gradient of the summed loss.
            make_step: makes the step from it.
            state: a state, or its `like`.
            chunk: what `feed` gives; its steps follow one another in one compiled loop.
        """
        whole_gradient = accumulate(gathering(gradient, self.mesh, self.rules), self.accumulate)
        run = partial(jax.lax.scan, make_step(whole_gradient))
        places = (self._shardings(state), whole(self.mesh))
        return jax.jit(run, out_shardings=places, donate_argnums=0).lower(state, chunk).compile()

    def _shardings(self, tree: Any) -> Any:
        return tree_shardings(tree, self.mesh, self.rules)


class DataParallel(Sharded):
    """`pmap`: every device has the whole state and a part of the batch."""

    def feed(self, chunk: Batch) -> Batch:
        """As `Sharded.feed`; the leaves become `[steps, devices, B / devices, ...]`."""
        sharding, axis = batch_sharding(self.mesh, self.axis), self.axis
        each = self.batch // self.mesh.size
        devices = self.rows[::each] // each

        def place(leaf: Any) -> jax.Array:
            parts = leaf.reshape(*leaf.shape[:axis], -1, each, *leaf.shape[axis + 1 :])
            return _place(parts, sharding, axis, devices, self.mesh.size)

        return jax.tree.map(place, chunk)

    def compile(
        self, gradient: GradFn, make_step: MakeStep, state: Any, chunk: Batch
    ) -> jax.stages.Compiled:
        """As `Sharded.compile`."""
        (axis_name,) = self.mesh.axis_names
        whole_gradient = _all_reduce(accumulate(gradient, self.accumulate), axis_name)
        run = jax.pmap(
            partial(jax.lax.scan, make_step(whole_gradient)),
            axis_name=axis_name,
            in_axes=(None, self.axis),
            out_axes=(None, None),
            donate_argnums=0,
            devices=list(self.mesh.devices.flat),
        )
        return run.lower(state, chunk).compile()


def gathering(gradient: GradFn, mesh: Mesh, rules: ShardingRules) -> GradFn:
    """The gradient by parameters that are collected for it; each device keeps its part."""

    def spread(params: Params, batch: Batch) -> tuple[Params, Totals]:
        grads, totals = gradient(gather(params, mesh, rules), batch)
        places = tree_shardings(grads, mesh, rules)
        return jax.lax.with_sharding_constraint(grads, places), totals

    return spread if rules else gradient


def _place(
    leaf: np.ndarray,
    sharding: jax.sharding.Sharding,
    axis: int,
    here: Int[np.ndarray, " here"],
    everywhere: int,
) -> jax.Array:
    """A global array, of which this process holds the positions `here` along one dimension."""
    shape = (*leaf.shape[:axis], everywhere, *leaf.shape[axis + 1 :])

    def part(index: tuple[slice, ...] | None) -> np.ndarray:
        wanted = np.arange(everywhere)[slice(None) if index is None else index[axis]]
        return np.take(leaf, np.searchsorted(here, wanted), axis=axis)

    return jax.make_array_from_callback(shape, sharding, part)


def _all_reduce(gradient: GradFn, axis_name: str) -> GradFn:
    """The gradient over all devices' examples, from one over a device's own."""

    def summed(params: Params, batch: Batch) -> tuple[Params, Totals]:
        return jax.lax.psum(gradient(params, batch), axis_name)

    return summed


def fetch(tree: Any) -> Any:
    """The whole of every leaf as NumPy arrays, on every host; all hosts must call it together."""

    def whole_leaf(leaf: Any) -> np.ndarray:
        if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable:
            return np.asarray(leaf)
        if leaf.is_fully_replicated:
            return np.asarray(leaf.addressable_data(0))
        return np.asarray(multihost_utils.process_allgather(leaf, tiled=True))

    return jax.tree.map(whole_leaf, tree)
