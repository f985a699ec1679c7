"""How a pure function of one member is run over many: on one device, or over all of them.

A program is compiled ahead of time, so that compiling and running are timed apart.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from subliminal_jax import ensemble
from subliminal_jax.errors import InputError
from subliminal_jax.train import GradFn, accumulate

HowName: TypeAlias = Literal["jit", "pmap"]
MemberFn: TypeAlias = Callable[[Any, Any, Any], tuple[Any, Any]]
"""`(carry, member, shared) -> (carry, output)` of one member; `shared` is the same for all."""


@runtime_checkable
class MemberExecution(Protocol):
    """A way to run member functions; the functions know nothing of it."""

    @property
    def devices(self) -> int:
        """How many devices share the members."""
        ...

    def split(self, members: Any) -> Any:
        """Place trees with a leading member axis `[M, ...]` where their members will run."""
        ...

    def share(self, tree: Any) -> Any:
        """Place what all members share, once."""
        ...

    def compile(self, fn: MemberFn, carry: Any, members: Any, shared: Any) -> Callable[..., Any]:
        """Compile `fn` over the members; the compiled program consumes the carry it is given."""
        ...

    def fetch(self, tree: Any) -> Any:
        """Bring outputs back as NumPy arrays `[M, ...]`, in member order."""
        ...


@dataclass(frozen=True)
class OneDevice:
    """`jit` on one device.

    Attributes:
        at_once: members mapped together; None for all.
        parts: that a batch is taken in, one after the other.
    """

    at_once: int | None = None
    devices: int = 1
    parts: int = 1

    def split(self, members: Any) -> Any:
        """Put the members on the device."""
        return jax.tree.map(jnp.asarray, members)

    def share(self, tree: Any) -> Any:
        """Put the tree on the device."""
        return jax.tree.map(jnp.asarray, tree)

    def spread(self, tree: Any, axis: int) -> Any:
        """Put the tree on the device, which sees all examples."""
        return self.share(tree)

    def gradient(self, gradient: GradFn) -> GradFn:
        """A part of the examples at a time."""
        return accumulate(gradient, self.parts)

    def compile(self, fn: MemberFn, carry: Any, members: Any, shared: Any) -> Callable[..., Any]:
        """One program for all members."""
        run = over_members(fn, self.at_once)
        return jax.jit(run, donate_argnums=0).lower(carry, members, shared).compile()

    def fetch(self, tree: Any) -> Any:
        """Copy to the host."""
        return jax.device_get(tree)


@dataclass(frozen=True)
class MemberParallel:
    """`pmap` with the member axis split evenly across devices.

    Attributes:
        at_once: members mapped together on each device; None for all of its members.
        devices: how many of the local devices to use.
    """

    at_once: int | None = None
    devices: int = field(default_factory=jax.local_device_count)

    def split(self, members: Any) -> Any:
        """Give each device its equal part: `[M, ...]` becomes `[devices, M / devices, ...]`."""
        return jax.tree.map(self._split_leaf, members)

    def _split_leaf(self, leaf: Any) -> jax.Array:
        leaf = jnp.asarray(leaf)
        parts = leaf.reshape(self.devices, -1, *leaf.shape[1:])
        return jax.pmap(lambda part: part, devices=self._devices())(parts)

    def share(self, tree: Any) -> Any:
        """Copy the tree to every device, once."""
        copy = jax.pmap(
            lambda _, tree: tree, in_axes=(0, None), out_axes=None, devices=self._devices()
        )
        return copy(np.zeros(self.devices), tree)

    def compile(self, fn: MemberFn, carry: Any, members: Any, shared: Any) -> Callable[..., Any]:
        """One program that every device runs on its own members."""
        run = jax.pmap(
            over_members(fn, self.at_once),
            in_axes=(0, 0, None),
            donate_argnums=0,
            devices=self._devices(),
        )
        return run.lower(carry, members, shared).compile()

    def fetch(self, tree: Any) -> Any:
        """Copy to the host and join the devices' parts."""
        return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), jax.device_get(tree))

    def _devices(self) -> list[jax.Device]:
        return jax.local_devices()[: self.devices]


def over_members(fn: MemberFn, at_once: int | None) -> Callable[..., Any]:
    """The function of all members, at most `at_once` of them together; all share one `shared`."""

    def run(carry: Any, members: Any, shared: Any) -> tuple[Any, Any]:
        one = lambda carry, member: fn(carry, member, shared)  # noqa: E731
        return ensemble.over_members(one, at_once)(carry, members)

    return run


def member_execution(
    how: HowName, members: int, devices: int | None = None, at_once: int | None = None
) -> MemberExecution:
    """The execution that a config asks for.

    Args:
        how: "jit" for one device, "pmap" for several.
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


class Program:
    """A member function that is compiled at its first call and timed ever after.

    Attributes:
        compile_seconds: time spent tracing and compiling.
        seconds: time spent running, to the arrival of its outputs.
    """

    def __init__(self, fn: MemberFn, execution: MemberExecution):
        self._fn, self._execution = fn, execution
        self._compiled: Callable[..., Any] | None = None
        self.compile_seconds = 0.0
        self.seconds = 0.0

    def __call__(self, carry: Any, members: Any, shared: Any) -> tuple[Any, Any]:
        """Run over all members; the carry is consumed."""
        if self._compiled is None:
            start = time.perf_counter()
            self._compiled = self._execution.compile(self._fn, carry, members, shared)
            self.compile_seconds = time.perf_counter() - start
        start = time.perf_counter()
        result = jax.block_until_ready(self._compiled(carry, members, shared))
        self.seconds += time.perf_counter() - start
        return result
