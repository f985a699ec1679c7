"""The peak memory of a run."""

import resource
import sys
from typing import Any

import jax


def peak_memory(devices: int) -> tuple[int, str]:
    """Return the peak memory so far in bytes, and what it is the peak of.

    On an accelerator, of the fullest device; on a CPU, the largest resident set of the process.
    """
    peaks: list[int] = []
    for device in jax.local_devices()[:devices]:
        statistics_of: dict[str, Any] = device.memory_stats() or {}
        peaks.append(statistics_of.get("peak_bytes_in_use", 0))
    if max(peaks):
        return max(peaks), "on the fullest device"
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit, "resident in the process"
