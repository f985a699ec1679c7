"""Meshes of devices, and rules that shard the leaves of a tree on them by path.

A mesh always has three axes: `data` holds copies of the state, `fsdp` parts of it that are gathered
when needed, `tensor` parts that each compute their own piece of a layer. An axis of size 1 does
nothing, so no code asks which axes exist.
"""

import math
import os
import re
from collections.abc import Sequence
from typing import Any, TypeAlias

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec
from jax.tree_util import keystr, tree_map_with_path

from subliminal_jax.entry import one_line
from subliminal_jax.errors import InputError

AXES = ("data", "fsdp", "tensor")
BATCH_AXES = ("data", "fsdp")  # the axes that split the examples of a batch

AxisNames: TypeAlias = str | None
ShardingRules: TypeAlias = Sequence[tuple[str, tuple[AxisNames, ...]]]
"""`(pattern, axes)`: leaves whose path matches are split over these mesh axes.

The pattern is searched for in a path such as `opt_state/0/mu/hidden_0/kernel`; the first rule that
matches counts. Its axes apply to the leaf's last dimensions, so the same rule serves stacked layers
and stacked members. Leaves without a rule are replicated.
"""


def make_mesh(
    data: int | None = None,
    fsdp: int = 1,
    tensor: int = 1,
    *,
    devices: Sequence[jax.Device] | None = None,
) -> Mesh:
    """Return a mesh of all devices, in an order that suits their network.

    Args:
        data: copies of the state; None for as many as the devices allow.
        fsdp: parts of the state.
        tensor: parts of each layer.
        devices: the devices; None for those of all hosts.

    Raises:
        InputError: the axes do not multiply to the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    count, inner = len(devices), fsdp * tensor
    if data is None and count % inner == 0:
        data = count // inner
    if data is None or data * inner != count:
        asked = f"{'' if data is None else f'data={data} x '}fsdp={fsdp} x tensor={tensor}"
        raise InputError(
            f"mesh: {asked} does not fit {count} {devices[0].platform} device(s); "
            f"choose axes whose product is {count}, or run on other devices"
        )
    types = (AxisType.Auto,) * len(AXES)
    return jax.make_mesh((data, fsdp, tensor), AXES, types, devices=devices)


def described_devices(topology: str) -> Sequence[jax.Device]:
    """Return the devices of an absent TPU slice; programs can be compiled for them, not run.

    Args:
        topology: type and shape, such as `v5e:4x4` for 16 chips of a v5e.

    Raises:
        InputError: the slice is unknown, or libtpu, which compiles for it, is not installed.
    """
    # Otherwise libtpu asks a cloud's metadata server for the type of machine, and waits.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    try:
        return topologies.get_topology_desc(topology, platform="tpu").devices
    except RuntimeError as error:
        raise InputError(
            f"topology {topology!r}: cannot be compiled for ({one_line(str(error))[:200]}); give "
            "one such as v5e:4x4, and install the extra [tpu] or libtpu"
        ) from error


def line_of_devices(count: int | None = None, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Return a mesh of the first devices, or all, on a `data` axis alone, in pmap's order.

    Args:
        count: number of devices; None for all.
        devices: devices to choose from; None for those of all hosts.

    Raises:
        InputError: `count` exceeds the devices.
    """
    devices = jax.devices() if devices is None else devices
    count = len(devices) if count is None else count
    if count > len(devices):
        raise InputError(
            f"devices={count}: there are {len(devices)} {devices[0].platform} device(s); "
            f"{fewer_or_virtual(count)}"
        )
    return Mesh(np.array(devices[:count]), ("data",))


def fewer_or_virtual(devices: int) -> str:
    """Return what to do if there are not as many devices as were asked for."""
    # With fewer threads than virtual devices, collectives can deadlock; NPROC sets them.
    return (
        "set fewer, or on a CPU set XLA_FLAGS=--xla_force_host_platform_device_count="
        f"{devices} NPROC=32"
    )


def path_name(path: Any) -> str:
    """Return a leaf's path as text, such as `params/hidden_0/kernel`."""
    return keystr(path, simple=True, separator="/")


def _axes_of(path: str, rules: ShardingRules) -> tuple[AxisNames, ...]:
    return next((axes for pattern, axes in rules if re.search(pattern, path)), ())


def leaf_spec(
    path: str,
    shape: tuple[int, ...],
    mesh: Mesh | AbstractMesh,
    rules: ShardingRules,
) -> PartitionSpec:
    """Return the mesh axes over which each dimension of a leaf is split.

    A dimension that its axes do not divide (13 logits over 2 devices) stays whole, and so does
    a leaf with fewer dimensions than its rule.
    """
    axes = _axes_of(path, rules)
    if len(axes) > len(shape):
        return PartitionSpec()
    named = (None,) * (len(shape) - len(axes)) + axes
    return PartitionSpec(
        *(
            name if name is not None and size % mesh.shape[name] == 0 else None
            for name, size in zip(named, shape, strict=True)
        )
    )


def tree_shardings(tree: Any, mesh: Mesh, rules: ShardingRules) -> Any:
    """Return the sharding of every leaf, in a tree of the same structure."""

    def sharding(path: Any, leaf: Any) -> NamedSharding:
        return NamedSharding(mesh, leaf_spec(path_name(path), leaf.shape, mesh, rules))

    return tree_map_with_path(sharding, tree)


def bytes_of_each(tree: Any, data: int, fsdp: int, tensor: int, rules: ShardingRules) -> int:
    """Return the bytes of an abstract tree on each device of such a mesh, without any device."""
    mesh = AbstractMesh((data, fsdp, tensor), AXES)

    def held(path: Any, leaf: Any) -> int:
        spec = leaf_spec(path_name(path), leaf.shape, mesh, rules)
        parts = math.prod(mesh.shape[axis] for axis in spec if isinstance(axis, str))
        return leaf.size * leaf.dtype.itemsize // parts

    return sum(jax.tree.leaves(tree_map_with_path(held, tree)))


def gather(params: Any, mesh: Mesh, rules: ShardingRules) -> Any:
    """Return parameters gathered over `fsdp`, still split over `tensor`.

    Leaves of stacked layers are left to the compiler, which gathers one layer at a time.

    Without this, weights and batch would be multiplied while both are split over `fsdp`, and XLA's
    partitioner can choose wrongly: three matrix products on a (2, 2, 2) mesh come out wrong under
    jax 0.10.2 (`tests/test_equivalence.py`).
    """

    def collected(path: Any, leaf: Any) -> Any:
        name = path_name(path)
        axes = _axes_of(name, rules)
        if len(axes) < leaf.ndim:
            return leaf
        spec = leaf_spec(name, leaf.shape, mesh, rules)
        kept = PartitionSpec(*(None if axes == "fsdp" else axes for axes in spec))
        return jax.lax.with_sharding_constraint(leaf, NamedSharding(mesh, kept))

    return tree_map_with_path(collected, params)


def whole(mesh: Mesh) -> NamedSharding:
    """Return the sharding that replicates a leaf on every device."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh, axis: int) -> NamedSharding:
    """Return the sharding of leaves whose dimension `axis` counts the examples of a batch."""
    names = tuple(name for name in BATCH_AXES if name in mesh.axis_names)
    return NamedSharding(mesh, PartitionSpec(*(None,) * axis, names))
