"""Checks that a block of members fits into memory, before anything is allocated."""

import contextlib
import os
from pathlib import Path

import jax

from subliminal_jax.errors import InputError
from subliminal_jax.mnist.config import Lengths
from subliminal_jax.models import mlp

_FLOAT = 4
_CGROUP = Path("/sys/fs/cgroup/memory.max")


def needed_bytes(network: mlp.MlpConfig, schedule: Lengths, arms: int, members: int) -> int:
    """A lower bound on the peak memory of training a block, in bytes.

    It counts every member's reference, and its teacher and students with Adam's two moments; the
    teachers' logits on all noise images; and one member's batch with its activations. Gradients,
    copies and the compiler's temporaries come on top.

    Args:
        network: of teachers and students.
        schedule: for the batch size and the number of noise images.
        arms: students per member.
        members: members per block.
    """
    weights = members * (1 + 3 * (1 + arms)) * mlp.parameter_count(network)
    logits = members * schedule.noise_images * network.widths[-1]
    return _FLOAT * (weights + logits + schedule.batch * sum(network.widths))


def memory_bytes(devices: int) -> int | None:
    """Total memory of the devices in use, in bytes; None where unknown. CPU devices share one."""
    device = jax.local_devices()[0]
    if device.platform != "cpu":
        limit = (device.memory_stats() or {}).get("bytes_limit")
        return None if limit is None else limit * devices
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    with contextlib.suppress(OSError, ValueError):  # no cgroup, or its limit is "max"
        limits.append(int(_CGROUP.read_text()))
    return min(limits)


def check_memory(
    network: mlp.MlpConfig, schedule: Lengths, devices: int, *, arms: int, members: int
) -> None:
    """Refuse a block that cannot fit: the kernel kills a process out of memory without a message.

    Raises:
        InputError: a block needs more memory than there is; names the settings to reduce.
    """
    needed, there = needed_bytes(network, schedule, arms, members), memory_bytes(devices)
    if there is not None and needed > there:
        raise InputError(
            f"a block of {members} members needs at least {needed // 10**6:,} MB of memory, but "
            f"there are {there // 10**6:,} MB; reduce --block, --width, --batch or --noise-images"
        )
