"""Makes executions from settings, and shardings of weights that one host uses alone."""

import math
from typing import Any

import jax

from subliminal_jax.entry import no_device
from subliminal_jax.errors import InputError
from subliminal_jax.execution.mesh import (
    ShardingRules,
    fewer_or_virtual,
    line_of_devices,
    make_mesh,
    tree_shardings,
)
from subliminal_jax.execution.mesh_execution import OnMesh
from subliminal_jax.execution.names import HowName, check_axes
from subliminal_jax.execution.one_device import OneDevice
from subliminal_jax.execution.pmap import DataParallel, MemberParallel
from subliminal_jax.execution.protocol import Execution


def member_execution(
    how: HowName, members: int, devices: int | None = None, at_once: int | None = None
) -> Execution:
    """Return an execution for many small members, each of which fits on one device.

    Args:
        how: "jit" for one device, "pmap" to split the members over several.
        members: number of members.
        devices: with "pmap", number of devices; None for all, but at most one per member.
        at_once: members mapped together on a device; None for the platform's default: one on
            a CPU, whose caches hold one member's training but not several, else all.

    Raises:
        InputError: `devices` exceeds the devices present or the members, or no device is found.
    """
    at_once = suited(at_once)
    if how == "jit":
        return OneDevice(at_once=at_once)
    here = jax.local_device_count()
    if devices is not None and devices > here:
        raise InputError(
            f"devices={devices}: this process has {here} {jax.default_backend()} device(s); "
            f"{fewer_or_virtual(devices)}"
        )
    if devices is not None and devices > members:
        raise InputError(
            f"devices={devices}: {members} member(s) keep at most {members} device(s) busy; set "
            f"devices={members}, or run more members"
        )
    return MemberParallel(at_once=at_once, devices=devices or min(here, members))


def batch_execution(
    how: HowName,
    axes: tuple[int, int, int],
    rules: ShardingRules,
    at_once: int | None = None,
    accumulate: int = 1,
) -> Execution:
    """Return an execution that splits the batches, and maybe the states, over all devices.

    Args:
        how: "jit" over a mesh, or on one device if all axes are 1 and there is one host; "pmap"
            to split every batch over the devices, with a copy of the state on each.
        axes: sizes of the mesh: `data` copies of the state, `fsdp` parts of the state, `tensor`
            parts of each layer; the last two must be 1 with "pmap".
        rules: how weights and states are sharded on the mesh.
        at_once: members mapped together; None for the platform's default.
        accumulate: parts of a device's examples, computed one after the other.

    Raises:
        InputError: the axes do not multiply to the number of all hosts' devices, or split a state
            with "pmap".
    """
    together = suited(at_once)
    check_axes(how, *axes[1:])
    if how == "pmap":
        make_mesh(*axes)  # raises if the axes do not fit the devices
        return DataParallel(mesh=line_of_devices(), at_once=together, accumulate=accumulate)
    if math.prod(axes) == jax.process_count() == 1:
        return OneDevice(at_once=together, parts=accumulate)
    return OnMesh(mesh=make_mesh(*axes), rules=rules, at_once=together, accumulate=accumulate)


def the_same_on_every_host() -> Execution:
    """Return an execution on one device of every host, all computing the same independently."""
    if jax.process_count() == 1:
        return OneDevice()
    firsts = {device.process_index: device for device in reversed(jax.devices())}
    return OnMesh(mesh=make_mesh(devices=[firsts[host] for host in sorted(firsts)]))


def on_this_host(tree: Any, rules: ShardingRules, most: int) -> Any:
    """Return shardings that split a tree over this host's devices alone.

    Args:
        tree: arrays, or abstract leaves.
        rules: how leaves are sharded.
        most: upper bound on `tensor`, the parts of each layer; `fsdp` is the remaining factor of
            the number of devices.
    """
    devices = jax.local_devices()
    tensor = math.gcd(len(devices), most)
    mesh = make_mesh(1, len(devices) // tensor, tensor, devices=devices)
    return tree_shardings(tree, mesh, rules)


def suited(at_once: int | None) -> int | None:
    """Return `at_once`, or the platform's default for None; see `member_execution`."""
    return 1 if at_once is None and _platform() == "cpu" else at_once


def _platform() -> str:
    """Return JAX's backend; the first call that needs a device."""
    try:
        return jax.default_backend()
    except (RuntimeError, AssertionError) as error:  # AssertionError: no plugin finds a device
        raise InputError(f"{no_device()}; unset it, or set it to cpu") from error
