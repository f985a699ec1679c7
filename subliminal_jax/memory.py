"""How much memory a run needed at its peak."""

import resource
import sys
from typing import Any

import jax


def peak_memory(devices: int) -> tuple[int, str]:
    """The most memory in use at once so far, in bytes, and whose it is.

    On an accelerator the fullest device's; on a CPU the process's largest resident set.
    """
    peaks: list[int] = []
    for device in jax.local_devices()[:devices]:
        statistics_of: dict[str, Any] = device.memory_stats() or {}
        peaks.append(statistics_of.get("peak_bytes_in_use", 0))
    if max(peaks):
        return max(peaks), "on the fullest device"
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit, "resident in the process"
