"""The execution that a config asks for, and where weights lie that one host uses alone."""

import math
import os
from typing import Any, Literal, TypeAlias

import jax

from subliminal_jax.errors import InputError
from subliminal_jax.execution.mesh import (
    ShardingRules,
    line_of_devices,
    make_mesh,
    tree_shardings,
)
from subliminal_jax.execution.mesh_execution import OnMesh
from subliminal_jax.execution.one_device import OneDevice
from subliminal_jax.execution.pmap import DataParallel, MemberParallel
from subliminal_jax.execution.protocol import Execution

HowName: TypeAlias = Literal["jit", "pmap"]


def member_execution(
    how: HowName, members: int, devices: int | None = None, at_once: int | None = None
) -> Execution:
    """The execution of many small members, each of which fits on one device.

    Args:
        how: "jit" for one device, "pmap" to split the members over several.
        members: how many there are to run.
        devices: with "pmap", how many devices; None for all there are, at most one a member.
        at_once: members mapped together on a device; None for what suits the platform: one on
            a CPU, whose caches hold one member's training but not several, else all.

    Raises:
        InputError: more devices asked for than there are or than members, or there are none.
    """
    at_once = suited(at_once)
    if how == "jit":
        return OneDevice(at_once=at_once)
    here = jax.local_device_count()
    if devices is not None and devices > here:
        raise InputError(
            f"devices={devices}: this process has {here} {jax.default_backend()} device(s); ask "
            "for fewer, or on a CPU set XLA_FLAGS=--xla_force_host_platform_device_count="
            f"{devices} NPROC=32"
        )
    if devices is not None and devices > members:
        raise InputError(
            f"devices={devices}: {members} member(s) keep at most {members} device(s) busy; take "
            f"devices={members}, or for more members"
        )
    return MemberParallel(at_once=at_once, devices=devices or min(here, members))


def batch_execution(
    how: HowName,
    axes: tuple[int, int, int],
    rules: ShardingRules,
    at_once: int | None = None,
    accumulate: int = 1,
) -> Execution:
    """The execution of trainings whose batches, and maybe states, are split over all devices.

    Args:
        how: "jit" over a mesh, or on one device where all axes are 1 and there is one host; "pmap"
            to split every batch over the devices, each of which has the whole state.
        axes: sizes of the mesh: `data` copies of the state, `fsdp` parts of the state, `tensor`
            parts of each layer; the last two are 1 with "pmap".
        rules: where weights and states lie on the mesh.
        at_once: members mapped together; None for what suits the platform.
        accumulate: parts that a device takes its examples in, one after the other.

    Raises:
        InputError: the axes do not multiply to the number of devices, or ask pmap to split a
            state, or are all 1 although there are several hosts.
    """
    together = suited(at_once)
    if how == "pmap":
        if axes[1:] != (1, 1):
            raise InputError(
                "mesh: pmap splits batches alone; set fsdp and tensor to 1, or use jit"
            )
        make_mesh(*axes)  # which refuses another number of devices
        return DataParallel(mesh=line_of_devices(), at_once=together, accumulate=accumulate)
    if math.prod(axes) == jax.process_count() == 1:
        return OneDevice(at_once=together, parts=accumulate)
    return OnMesh(mesh=make_mesh(*axes), rules=rules, at_once=together, accumulate=accumulate)


def the_same_on_every_host() -> Execution:
    """One device, or one of each host, all of which do the same without asking each other."""
    if jax.process_count() == 1:
        return OneDevice()
    firsts = {device.process_index: device for device in reversed(jax.devices())}
    return OnMesh(mesh=make_mesh(devices=[firsts[host] for host in sorted(firsts)]))


def on_this_host(tree: Any, rules: ShardingRules, most: int) -> Any:
    """The shardings by which this host's devices hold a tree alone, without other hosts.

    Args:
        tree: the leaves, or abstract ones.
        rules: where leaves lie.
        most: at most so many parts of each layer; the tree itself is in as many as there are
            devices.
    """
    devices = jax.local_devices()
    tensor = math.gcd(len(devices), most)
    mesh = make_mesh(1, len(devices) // tensor, tensor, devices=devices)
    return tree_shardings(tree, mesh, rules)


def suited(at_once: int | None) -> int | None:
    """Members mapped together where None is what suits the platform; see `member_execution`."""
    return 1 if at_once is None and _platform() == "cpu" else at_once


def _platform() -> str:
    """What JAX runs on; the first question that needs a device."""
    try:
        return jax.default_backend()
    except (RuntimeError, AssertionError) as error:  # the latter where plugins find no device
        asked = os.environ.get("JAX_PLATFORMS", "")
        raise InputError(
            f"JAX finds no device (JAX_PLATFORMS={asked!r}); unset it, or set JAX_PLATFORMS=cpu"
        ) from error
