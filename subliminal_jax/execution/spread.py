"""Members one after the other or together, each of them spread over all devices of all hosts.

A member function stays what it is: where its weights lie follows from rules, how a batch is split
from where its inputs lie, and the compiler does the rest.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding

from subliminal_jax.execution.members import (
    MemberExecution,
    MemberFn,
    OneDevice,
    over_members,
    suited,
)
from subliminal_jax.execution.mesh import (
    BATCH_AXES,
    ShardingRules,
    batch_sharding,
    gather,
    make_mesh,
    tree_shardings,
    whole,
)
from subliminal_jax.execution.steps import fetch, gathering
from subliminal_jax.train import GradFn, accumulate


@runtime_checkable
class BatchExecution(MemberExecution, Protocol):
    """A way to run member functions whose batches may be split."""

    @property
    def parts(self) -> int:
        """Equal parts that a batch is taken in; its examples are to be a multiple of them."""
        ...

    def spread(self, tree: Any, axis: int) -> Any:
        """Place leaves whose dimension number `axis` counts the examples of a batch."""
        ...

    def gradient(self, gradient: GradFn) -> GradFn:
        """The same gradient of a whole batch, as it is computed here."""
        ...


@dataclass(frozen=True, kw_only=True)
class OnMesh:
    """`jit` over a mesh.

    Attributes:
        mesh: the devices.
        rules: where the leaves of states and weights lie; none: every device has all of them.
        at_once: members mapped together; None for all.
        accumulate: parts that a device takes its examples in, one after the other.
    """

    mesh: Mesh
    rules: ShardingRules = ()
    at_once: int | None = None
    accumulate: int = 1

    @property
    def devices(self) -> int:
        """All devices share every member."""
        return self.mesh.size

    @cached_property
    def parts(self) -> int:
        """Devices with examples of their own, times what each splits them into."""
        return self.accumulate * math.prod(self.mesh.shape[name] for name in BATCH_AXES)

    def split(self, members: Any) -> Any:
        """Place members by the rules, none of which is of the member axis."""
        return jax.tree.map(_place, members, self.shardings(members))

    def share(self, tree: Any) -> Any:
        """Place a tree by the rules."""
        return jax.tree.map(_place, tree, self.shardings(tree))

    def spread(self, tree: Any, axis: int) -> Any:
        """Give each device its part of the examples."""
        sharding = batch_sharding(self.mesh, axis)
        return jax.tree.map(lambda leaf: _place(leaf, sharding), tree)

    def gradient(self, gradient: GradFn) -> GradFn:
        """By parameters that are collected for it, a part of the examples at a time."""
        return accumulate(gathering(gradient, self.mesh, self.rules), self.accumulate)

    def compile(self, fn: MemberFn, carry: Any, members: Any, shared: Any) -> Any:
        """One program of all devices; what it gives beside the carry is whole on each of them."""

        def collected(carry: Any, member: Any, shared: Any) -> tuple[Any, Any]:
            return fn(carry, gather(member, self.mesh, self.rules), shared)

        def run(carry: Any, members: Any, shared: Any) -> tuple[Any, Any]:
            shared = gather(shared, self.mesh, self.rules)
            return over_members(collected, self.at_once)(carry, members, shared)

        places = self.shardings(carry), whole(self.mesh)
        jitted = jax.jit(run, donate_argnums=0, out_shardings=places)
        return jitted.lower(carry, members, shared).compile()

    def fetch(self, tree: Any) -> Any:
        """Copy the whole of every leaf to every host; all hosts must call it together."""
        return fetch(tree)

    def shardings(self, tree: Any) -> Any:
        """Where each leaf lies; the leaves may be abstract."""
        return tree_shardings(tree, self.mesh, self.rules)


def spread_execution(
    data: int,
    fsdp: int,
    tensor: int,
    rules: ShardingRules,
    at_once: int | None = None,
    accumulate: int = 1,
) -> BatchExecution:
    """The execution over a mesh of all devices; of one device, where all axes are 1.

    Args:
        data: copies of the state.
        fsdp: parts of the state.
        tensor: parts of each layer.
        rules: where weights and states lie.
        at_once: members mapped together; None for what suits the platform.
        accumulate: parts that a device takes its examples in, one after the other.

    Raises:
        InputError: the axes do not multiply to the number of devices, or are all 1 although there
            are several hosts.
    """
    together = suited(at_once)
    if data * fsdp * tensor == jax.process_count() == 1:
        return OneDevice(at_once=together, parts=accumulate)
    mesh = make_mesh(data, fsdp, tensor)
    return OnMesh(mesh=mesh, rules=rules, at_once=together, accumulate=accumulate)


def the_same_on_every_host() -> BatchExecution:
    """One device, or one of each host, all of which do the same without asking each other."""
    if jax.process_count() == 1:
        return OneDevice()
    firsts = {device.process_index: device for device in reversed(jax.devices())}
    return OnMesh(mesh=make_mesh(devices=[firsts[host] for host in sorted(firsts)]))


def on_this_host(tree: Any, rules: ShardingRules, most: int) -> Any:
    """Where each leaf lies if this host's devices hold it all, for what no other host runs too.

    Args:
        tree: the leaves, or abstract ones.
        rules: where leaves lie.
        most: at most so many parts of each layer; the model itself is in as many as there are
            devices.
    """
    devices = jax.local_devices()
    tensor = math.gcd(len(devices), most)
    mesh = make_mesh(1, len(devices) // tensor, tensor, devices=devices)
    return tree_shardings(tree, mesh, rules)


def _place(leaf: Any, sharding: NamedSharding) -> jax.Array:
    """A leaf that every host has, or that is spread already, where it belongs."""
    if sharding.is_fully_addressable or not getattr(leaf, "is_fully_addressable", True):
        return jax.device_put(leaf, sharding)
    whole_leaf = np.asarray(leaf)
    return jax.make_array_from_callback(whole_leaf.shape, sharding, lambda index: whole_leaf[index])
