"""`pmap` in two ways: members split over devices, or every batch split over devices.

If each device sees only its part of a batch, the all-reduce comes *after* the gradient: inside the
differentiated function it makes gradients under pmap wrong, by a factor that Adam hides.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding

from subliminal_jax.batch import Batch, Params
from subliminal_jax.errors import InputError
from subliminal_jax.execution import placement
from subliminal_jax.execution.mesh import batch_sharding, line_of_devices, whole
from subliminal_jax.execution.protocol import (
    MemberFn,
    SplitBatches,
    WholeBatches,
    check_batch,
    over_members,
)
from subliminal_jax.train import GradFn, Totals, accumulate


@dataclass(frozen=True)
class MemberParallel(WholeBatches):
    """`pmap` with the member axis split evenly over this process's devices.

    The attributes are those of `WholeBatches`; by default all local devices are used.
    """

    devices: int = field(default_factory=jax.local_device_count)

    def split(self, members: Any, axis: int | None = None) -> Any:
        """Give each device its equal part: `[M, ...]` becomes `[devices, M / devices, ...]`."""
        sharding = batch_sharding(self._line, 0)

        def split_leaf(leaf: Any) -> Any:
            shape = np.shape(leaf)
            if shape[0] % self.devices:
                raise InputError(
                    f"members: {shape[0]} do not split evenly over {self.devices} devices"
                )
            if axis is not None:
                check_batch(shape[axis], {"accumulate": self.parts})
            return placement.place(placement.cut(leaf, 0, self.devices), sharding)

        return jax.tree.map(split_leaf, members)

    def share(self, tree: Any) -> Any:
        """Copy the tree to every device."""
        return jax.tree.map(lambda leaf: placement.place(leaf, whole(self._line)), tree)

    def compile(self, fn: MemberFn, carry: Any, members: Any, shared: Any) -> Any:
        """One program that every device runs on its own members."""
        run = jax.pmap(
            over_members(fn, self.at_once),
            in_axes=(0, 0, None),
            donate_argnums=0,
            devices=list(self._line.devices.flat),
        )
        return run.lower(carry, members, shared).compile()

    def fetch(self, tree: Any) -> Any:
        """Copy to the host and join the devices' parts."""
        return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), jax.device_get(tree))

    @cached_property
    def _line(self) -> Mesh:
        return line_of_devices(self.devices, jax.local_devices())


@dataclass(frozen=True, kw_only=True)
class DataParallel(SplitBatches):
    """`pmap` with every batch split evenly over devices, and all members whole on each.

    The attributes are those of `SplitBatches`; the mesh is a line of devices.
    """

    @property
    def parts(self) -> int:
        """Devices, times `accumulate`."""
        return self.accumulate * self.mesh.size

    def share(self, tree: Any) -> Any:
        """Copy the tree to every device."""
        return jax.tree.map(lambda leaf: placement.place(leaf, whole(self.mesh)), tree)

    def spread(self, tree: Any, axis: int) -> Any:
        """Give each device its examples: `[..., B, ...]` to `[..., devices, B / devices, ...]`."""
        sharding = batch_sharding(self.mesh, axis)

        def spread_leaf(leaf: Any) -> Any:
            split = {"data": self.mesh.size, "accumulate": self.accumulate}
            check_batch(np.shape(leaf)[axis], split)
            return placement.place(placement.cut(leaf, axis, self.mesh.size), sharding)

        return jax.tree.map(spread_leaf, tree)

    def gradient(self, gradient: GradFn) -> GradFn:
        """The sum of the devices' gradients, each over its own examples, a part at a time."""
        own = accumulate(gradient, self.accumulate)

        def summed(params: Params, batch: Batch) -> tuple[Params, Totals]:
            return self.total(own(params, batch))

        return summed

    def total(self, sums: Any) -> Any:
        """The sum of the devices' sums."""
        return jax.lax.psum(sums, self._axis)

    def compile(self, fn: MemberFn, carry: Any, members: Any, shared: Any) -> Any:
        """One program that every device runs on its own examples; at least one leaf is spread.

        Carry and output are equal on every device if `fn` passes every sum over examples through
        `gradient` or `total`.
        """
        axes = [jax.tree.map(self._mapped, tree) for tree in (members, shared)]
        run = jax.pmap(
            over_members(fn, self.at_once),
            axis_name=self._axis,
            in_axes=(None, *axes),
            out_axes=(None, None),
            donate_argnums=0,
            devices=list(self.mesh.devices.flat),
        )
        return run.lower(carry, members, shared).compile()

    @property
    def _axis(self) -> str:
        (name,) = self.mesh.axis_names
        return str(name)

    def _mapped(self, leaf: Any) -> int | None:
        """The dimension of a placed leaf that counts devices; None if each has the whole leaf."""
        sharding = getattr(leaf, "sharding", None)
        if not isinstance(sharding, NamedSharding):
            return None
        return next(
            (at for at, names in enumerate(sharding.spec) if names in (self._axis, (self._axis,))),
            None,
        )
