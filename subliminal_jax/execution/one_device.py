"""`jit` on one device."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import SingleDeviceSharding

from subliminal_jax.execution.protocol import MemberFn, WholeBatches, over_members


@dataclass(frozen=True)
class OneDevice(WholeBatches):
    """`jit` on one device; the attributes are those of `WholeBatches`."""

    def share(self, tree: Any) -> Any:
        """Put the tree on the device."""
        return jax.tree.map(_put, tree)

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
