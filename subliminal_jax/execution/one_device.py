"""`jit` on one device."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import SingleDeviceSharding

from subliminal_jax.execution import placement
from subliminal_jax.execution.protocol import MemberFn, check_batch, over_members
from subliminal_jax.train import GradFn, accumulate


@dataclass(frozen=True)
class OneDevice:
    """`jit` on one device.

    Attributes:
        at_once: members mapped together; None for all.
        devices: one.
        parts: parts of a batch, computed one after the other.
    """

    at_once: int | None = None
    devices: int = 1
    parts: int = 1

    def split(self, members: Any, axis: int | None = None) -> Any:
        """Put the members on the device."""
        return self.share(members) if axis is None else self.spread(members, axis)

    def share(self, tree: Any) -> Any:
        """Put the tree on the device."""
        return jax.tree.map(_put, tree)

    def spread(self, tree: Any, axis: int) -> Any:
        """Put the tree on the device, which sees all examples."""
        for leaf in jax.tree.leaves(tree):
            check_batch(np.shape(leaf)[axis], {"accumulate": self.parts})
        return self.share(tree)

    def make(self, make_members: Callable[..., Any], *arguments: Any) -> Any:
        """Compute the members on the device."""
        forms = self.split(jax.eval_shape(make_members, *arguments))
        return placement.make(make_members, arguments, forms)

    def gradient(self, gradient: GradFn) -> GradFn:
        """The gradient, a part of the examples at a time."""
        return accumulate(gradient, self.parts)

    def total(self, sums: Any) -> Any:
        """The sums themselves: the device sees all examples."""
        return sums

    def compile(self, fn: MemberFn, carry: Any, members: Any, shared: Any) -> Any:
        """One program for all members."""
        run = over_members(fn, self.at_once)
        return jax.jit(run, donate_argnums=0).lower(carry, members, shared).compile()

    def fetch(self, tree: Any) -> Any:
        """Copy to the host."""
        return jax.device_get(tree)


def _put(leaf: Any) -> Any:
    if isinstance(leaf, jax.ShapeDtypeStruct):
        device = SingleDeviceSharding(jax.local_devices()[0])
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device)
    return jnp.asarray(leaf)
