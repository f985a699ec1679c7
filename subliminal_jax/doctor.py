"""Checks whether a machine is ready; every finding says what to do about it."""

import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp

from subliminal_jax.data.images import DATA_DIR_VARIABLE, load_images
from subliminal_jax.entry import no_device, one_line
from subliminal_jax.errors import InputError
from subliminal_jax.execution.cluster import cluster_of, joined
from subliminal_jax.report.tables import GIGA
from subliminal_jax.runs.environment import environment

HUB = "https://huggingface.co"
LEAST_DISK = 5 * GIGA
# Device file of a driver -> the package extra that lets JAX use it.
DRIVERS = {"/dev/nvidia0": "cuda13", "/dev/accel0": "tpu", "/dev/vfio/0": "tpu"}


class Finding(NamedTuple):
    """The result of one check.

    Attributes:
        what: what was checked.
        says: its state.
        advice: what to do; empty if all is well.
        serious: whether experiments would fail or go wrong.
    """

    what: str
    says: str
    advice: str = ""
    serious: bool = False


def examine(say: Callable[[str], None] = print, all_hosts: bool = False) -> bool:
    """Check everything and report it line by line.

    Args:
        say: prints a line.
        all_hosts: join other hosts even if the environment names none.

    Returns:
        Whether nothing serious was found.
    """
    well = True
    with joined(cluster_of(os.environ, asked=all_hosts)):
        for look in (versions, devices, arithmetic, threads, disk, data, hub):
            for finding in look():
                mark = "PROBLEM" if finding.serious else "note" if finding.advice else "ok"
                say(f"{mark:8}{finding.what:11}{one_line(finding.says)}")
                if finding.advice:
                    say(f"{'':19}-> {finding.advice}")
                well &= not finding.serious
    return well


def versions() -> Iterator[Finding]:
    """Python and the packages."""
    versions = environment()
    packages = " ".join(f"{name} {version}" for name, version in versions["packages"].items())
    yield Finding("versions", f"Python {versions['python']}, {packages}, git {versions['git']}")


def devices(exists: Callable[[str], bool] = os.path.exists) -> Iterator[Finding]:
    """Platform, processes, devices and their memory; an accelerator that JAX does not use."""
    platform = _platform()
    if platform is None:
        yield Finding(
            "devices",
            no_device(),
            "unset JAX_PLATFORMS, or set it to cpu",
            serious=True,
        )
    else:
        yield Finding(
            "devices",
            f"{platform}: {jax.device_count()} in {jax.process_count()} process(es), "
            f"{jax.local_device_count()} here: {jax.local_devices()[0].device_kind}",
        )
    for path, extra in DRIVERS.items():
        if platform in (None, "cpu") and exists(path):
            yield Finding(
                "devices",
                f"{path} exists, but JAX does not use it",
                f"pip install -e '.[{extra}]', unset JAX_PLATFORMS, and check that no other "
                f"process holds the device (fuser {path})",
                serious=True,
            )
    for device in jax.local_devices() if platform else ():
        memory = device.memory_stats() or {}
        if "bytes_limit" in memory:
            free = memory["bytes_limit"] - memory.get("bytes_in_use", 0)
            yield Finding("memory", f"{device}: {free / GIGA:.1f} GB free")
    if platform in (None, "cpu"):
        pages = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        yield Finding("memory", f"{pages / GIGA:.1f} GB, shared by all devices")


def _platform() -> str | None:
    """The platform that JAX runs on; None if it finds no device."""
    try:
        return jax.default_backend()
    except (RuntimeError, AssertionError):  # AssertionError if plugins find no device
        return None


def arithmetic() -> Iterator[Finding]:
    """A matrix product on each device."""
    if _platform() is None:
        return
    well = True
    for device in jax.local_devices():
        try:
            ones = jax.device_put(jnp.ones((8, 8)), device)
            value = float((ones @ ones).sum())
        except RuntimeError as error:
            yield Finding(
                "arithmetic",
                f"{device}: {error}",
                "another process may hold the device; look with nvidia-smi or fuser /dev/accel0",
                serious=True,
            )
            well = False
            continue
        if value != 512:
            well = False
            yield Finding(
                "arithmetic",
                f"{device}: computed {value}, not 512",
                "do not use this device",
                serious=True,
            )
    if well:
        yield Finding("arithmetic", "every device multiplies matrices correctly")


def threads(variables: Mapping[str, str] = os.environ) -> Iterator[Finding]:
    """Virtual CPU devices deadlock in collectives if there are too few threads."""
    virtual = jax.local_device_count() if _platform() == "cpu" else 1
    count = variables.get("NPROC", "")
    if virtual > 1 and (not count.isdecimal() or int(count) < 16):
        yield Finding(
            "threads",
            f"{virtual} virtual devices, and NPROC is {count or 'not set'}",
            "set NPROC=32 before Python starts, or collectives can deadlock",
            serious=True,
        )


def disk(path: Path | None = None) -> Iterator[Finding]:
    """Free space for run directories."""
    where = path or Path.cwd()
    free = shutil.disk_usage(where).free
    few = free < LEAST_DISK
    advice = "free some space, or run elsewhere with --out" if few else ""
    yield Finding("disk", f"{where}: {free / GIGA:.1f} GB free", advice)


def data() -> Iterator[Finding]:
    """Where MNIST comes from, if it is available."""
    try:
        images = load_images("mnist" if os.environ.get(DATA_DIR_VARIABLE) else "auto", None)
    except InputError as error:
        yield Finding("data", str(error), f"correct or unset {DATA_DIR_VARIABLE}", serious=True)
        return
    if images.name == "mnist":
        yield Finding("data", f"MNIST ({images.reason})")
    else:
        yield Finding(
            "data",
            f"no MNIST ({images.reason}); experiments fall back to 8x8 digits",
            f"set {DATA_DIR_VARIABLE} to a directory with its four files",
        )


def hub(variables: Mapping[str, str] = os.environ, address: str = HUB) -> Iterator[Finding]:
    """Whether models can be downloaded."""
    if variables.get("HF_HUB_OFFLINE", "0") not in ("", "0"):
        yield Finding("hub", "HF_HUB_OFFLINE is set: models come from the local cache only")
        return
    try:
        request = urllib.request.Request(address, method="HEAD")
        with urllib.request.urlopen(request, timeout=5):
            yield Finding("hub", f"{address} answers")
    except (urllib.error.URLError, OSError, ValueError) as error:
        yield Finding(
            "hub",
            f"{address} does not answer ({error})",
            "give models as local directories, and set HF_HUB_OFFLINE=1",
        )
