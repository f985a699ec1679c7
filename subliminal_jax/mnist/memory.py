"""Whether a block of members fits into memory, reckoned before anything is made."""

import contextlib
import os
from pathlib import Path

import jax

from subliminal_jax.errors import InputError
from subliminal_jax.mnist.config import Schedule
from subliminal_jax.models import mlp

_FLOAT = 4
_CGROUP = Path("/sys/fs/cgroup/memory.max")


def needed_bytes(network: mlp.MlpConfig, schedule: Schedule, arms: int, members: int) -> int:
    """A lower bound on the bytes that a block's training holds at once.

    Counted are the reference and, with Adam's two moments, the teacher and every arm's student
    of every member; the teachers' logits on all noise images; and one member's batch with its
    activations. Gradients, copies and what the compiler adds come on top.

    Args:
        network: the network of all of them.
        schedule: for the batch and the noise images.
        arms: students of each member.
        members: members in a block.
    """
    weights = members * (1 + 3 * (1 + arms)) * mlp.parameter_count(network)
    logits = members * schedule.noise_images * network.widths[-1]
    return _FLOAT * (weights + logits + schedule.batch * sum(network.widths))


def memory_bytes(devices: int) -> int | None:
    """Bytes of memory on the devices in use, the CPU's shared by all; None where unknown."""
    device = jax.local_devices()[0]
    if device.platform != "cpu":
        limit = (device.memory_stats() or {}).get("bytes_limit")
        return None if limit is None else limit * devices
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    with contextlib.suppress(OSError, ValueError):  # no such control group, or it says "max"
        limits.append(int(_CGROUP.read_text()))
    return min(limits)


def check_memory(
    network: mlp.MlpConfig, schedule: Schedule, devices: int, *, arms: int, members: int
) -> None:
    """Refuse what cannot fit: a process that the kernel kills for its memory says nothing.

    Raises:
        InputError: a block needs more than there is; names the settings.
    """
    needed, there = needed_bytes(network, schedule, arms, members), memory_bytes(devices)
    if there is not None and needed > there:
        raise InputError(
            f"a block of {members} members needs at least {needed // 10**6:,} MB of memory and "
            f"there are {there // 10**6:,} MB; reduce --block, --width, --batch or --noise-images"
        )
