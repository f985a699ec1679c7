"""Names of the ways to run, as settings give them; importing this loads no JAX."""

from typing import Literal, TypeAlias

from subliminal_jax.errors import InputError

HowName: TypeAlias = Literal["jit", "pmap"]
"""One compiled program by the compiler's own rules, or one that every device runs for itself."""


def check_devices(how: HowName, devices: int | None) -> None:
    """Refuse a number of devices where one device runs everything.

    Raises:
        InputError: devices are given with `jit`.
    """
    if devices is not None and how == "jit":
        raise InputError(
            "devices: --execution jit runs on one device; add --execution pmap, or drop --devices"
        )


def check_axes(how: HowName, fsdp: int, tensor: int) -> None:
    """Refuse a mesh that shards the state where every device holds all of it.

    Raises:
        InputError: `fsdp` or `tensor` is above 1 with `pmap`.
    """
    if how == "pmap" and (fsdp, tensor) != (1, 1):
        raise InputError("mesh: pmap splits only batches; set fsdp and tensor to 1, or use jit")
