"""The protocol by which experiments, benchmarks and tests run pure functions on devices."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

import jax
import numpy as np
from jax.sharding import Mesh

from subliminal_jax import ensemble
from subliminal_jax.errors import InputError
from subliminal_jax.execution import placement
from subliminal_jax.train import GradFn, accumulate

MemberFn: TypeAlias = Callable[[Any, Any, Any], tuple[Any, Any]]
"""`(carry, member, shared) -> (carry, output)` of one member; `shared` is the same for all."""


@runtime_checkable
class Execution(Protocol):
    """A way to run member functions, which do not depend on it.

    `split`, `share` and `spread` place arrays. For abstract leaves they return abstract leaves with
    shape, dtype and sharding, so that a program can be compiled before its arrays exist.
    """

    @property
    def devices(self) -> int:
        """Number of devices that work on the members."""
        ...

    @property
    def parts(self) -> int:
        """Number of equal parts of a batch; must divide its number of examples."""
        ...

    def split(self, members: Any, axis: int | None = None) -> Any:
        """Place trees with a leading member axis `[M, ...]` where their members will run.

        Args:
            members: the trees.
            axis: the dimension that counts the examples of each member's own batch; None if the
                leaves hold no batch.

        Raises:
            InputError: members or examples do not split into equal parts.
        """
        ...

    def share(self, tree: Any) -> Any:
        """Place a tree that all members use."""
        ...

    def spread(self, tree: Any, axis: int) -> Any:
        """Place a tree that all members use; its dimension `axis` counts a batch's examples.

        Raises:
            InputError: the examples do not split into equal parts.
        """
        ...

    def make(self, make_members: Callable[..., Any], *arguments: Any) -> Any:
        """Compute members `[M, ...]` directly on their devices, placed as by `split`.

        No device ever holds more than its own part.
        """
        ...

    def gradient(self, gradient: GradFn) -> GradFn:
        """Return the gradient over the whole batch, from `gradient` over one device's examples."""
        ...

    def total(self, sums: Any) -> Any:
        """Return sums over the whole batch, from sums over one device's examples.

        For member functions that sum over examples without a gradient.
        """
        ...

    def compile(self, fn: MemberFn, carry: Any, members: Any, shared: Any) -> Any:
        """Compile `fn` over the members; the compiled program consumes the carry it is given.

        Args:
            fn: the function of one member.
            carry: as `split` or `make` places it.
            members: as `split` places it.
            shared: as `share` and `spread` place it.

        Returns:
            The compiled `(carry, members, shared) -> (carry, output)`.
        """
        ...

    def fetch(self, tree: Any) -> Any:
        """Copy carries or outputs to NumPy arrays `[M, ...]`, in member order, on every host.

        All hosts must call it together.
        """
        ...


class Placing(ABC):
    """Base of executions: places members by how a tree is shared and examples are spread."""

    @abstractmethod
    def share(self, tree: Any) -> Any:
        """As `Execution.share`."""

    @abstractmethod
    def spread(self, tree: Any, axis: int) -> Any:
        """As `Execution.spread`."""

    def split(self, members: Any, axis: int | None = None) -> Any:
        """Place the members as a tree that all share, or spread their own batches."""
        return self.share(members) if axis is None else self.spread(members, axis)

    def make(self, make_members: Callable[..., Any], *arguments: Any) -> Any:
        """Compute each member where `split` would place it."""
        forms = self.split(jax.eval_shape(make_members, *arguments))
        return placement.make(make_members, arguments, forms)


@dataclass(frozen=True)
class WholeBatches(Placing):
    """Base of executions whose devices each see all examples of a batch.

    Attributes:
        at_once: members mapped together on a device; None for all of its members.
        devices: devices that work on the members.
        parts: parts in which a device takes each batch, one after the other.
    """

    at_once: int | None = None
    devices: int = 1
    parts: int = 1

    def spread(self, tree: Any, axis: int) -> Any:
        """Place the tree as `share` does; its examples must split into `parts`."""
        for leaf in jax.tree.leaves(tree):
            check_batch(np.shape(leaf)[axis], {"accumulate": self.parts})
        return self.share(tree)

    def gradient(self, gradient: GradFn) -> GradFn:
        """The gradient of a part of the examples at a time."""
        return accumulate(gradient, self.parts)

    def total(self, sums: Any) -> Any:
        """The sums themselves: a device sees all examples."""
        return sums


@dataclass(frozen=True, kw_only=True)
class SplitBatches(Placing):
    """Base of executions whose devices each see a part of the examples of a batch.

    Attributes:
        mesh: the devices.
        at_once: members mapped together; None for all.
        accumulate: parts of a device's examples, computed one after the other.
    """

    mesh: Mesh
    at_once: int | None = None
    accumulate: int = 1

    @property
    def devices(self) -> int:
        """All devices work on every member."""
        return self.mesh.size

    def fetch(self, tree: Any) -> Any:
        """Copy the whole of every leaf to every host; all hosts must call it together."""
        return placement.fetch(tree)


def over_members(fn: MemberFn, at_once: int | None) -> Callable[..., Any]:
    """Map a function over all members, at most `at_once` together; all use the same `shared`."""

    def run(carry: Any, members: Any, shared: Any) -> tuple[Any, Any]:
        one = lambda carry, member: fn(carry, member, shared)
        return ensemble.over_members(one, at_once)(carry, members)

    return run


def check_batch(examples: int, split: Mapping[str, int]) -> None:
    """Refuse a batch that does not split into equal parts.

    Args:
        examples: number of examples in the batch.
        split: numbers of parts by name, such as `{"data": 4, "accumulate": 2}`.

    Raises:
        InputError: the product of the splits does not divide the examples.
    """
    parts = math.prod(split.values())
    if examples % parts:
        below = examples // parts * parts
        fitting = f"{below} or {below + parts}" if below else str(parts)
        named = " x ".join(f"{name}={size}" for name, size in split.items())
        raise InputError(
            f"batch: {examples} examples do not split into {parts} equal parts ({named}); "
            f"use {fitting}, or another mesh"
        )
