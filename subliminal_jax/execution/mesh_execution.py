"""`jit` over a mesh: members one after the other or together, each spread over all devices.

The member function does not change: rules shard its weights, the sharding of its inputs splits the
batch, and the compiler does the rest.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import numpy as np

from subliminal_jax.batch import Batch, Params
from subliminal_jax.execution import placement
from subliminal_jax.execution.mesh import (
    BATCH_AXES,
    ShardingRules,
    batch_sharding,
    gather,
    tree_shardings,
    whole,
)
from subliminal_jax.execution.protocol import MemberFn, SplitBatches, check_batch, over_members
from subliminal_jax.train import GradFn, Totals, accumulate


@dataclass(frozen=True, kw_only=True)
class OnMesh(SplitBatches):
    """`jit` over a mesh.

    Attributes:
        rules: how states and weights are sharded; without rules they are replicated.
    """

    rules: ShardingRules = ()

    @cached_property
    def parts(self) -> int:
        """Devices with different examples, times `accumulate`."""
        return math.prod(self._splits.values())

    @property
    def _splits(self) -> dict[str, int]:
        return {name: self.mesh.shape[name] for name in BATCH_AXES} | {
            "accumulate": self.accumulate
        }

    def share(self, tree: Any) -> Any:
        """Place a tree by the rules."""
        return jax.tree.map(placement.place, tree, self._shardings(tree))

    def spread(self, tree: Any, axis: int) -> Any:
        """Give each device its part of the examples."""
        sharding = batch_sharding(self.mesh, axis)
        for leaf in jax.tree.leaves(tree):
            check_batch(np.shape(leaf)[axis], self._splits)
        return jax.tree.map(lambda leaf: placement.place(leaf, sharding), tree)

    def gradient(self, gradient: GradFn) -> GradFn:
        """The gradient with gathered parameters, a part of the examples at a time."""
        return accumulate(self._gathering(gradient), self.accumulate)

    def _gathering(self, gradient: GradFn) -> GradFn:
        """The gradient with gathered parameters; each device keeps its part of it."""

        def gathered(params: Params, batch: Batch) -> tuple[Params, Totals]:
            grads, totals = gradient(gather(params, self.mesh, self.rules), batch)
            return jax.lax.with_sharding_constraint(grads, self._shardings(grads)), totals

        return gathered if self.rules else gradient

    def total(self, sums: Any) -> Any:
        """The sums themselves: the compiler adds them up over devices."""
        return sums

    def compile(self, fn: MemberFn, carry: Any, members: Any, shared: Any) -> Any:
        """One program for all devices; outputs are replicated."""

        def gathered(carry: Any, member: Any, shared: Any) -> tuple[Any, Any]:
            return fn(carry, gather(member, self.mesh, self.rules), shared)

        def run(carry: Any, members: Any, shared: Any) -> tuple[Any, Any]:
            shared = gather(shared, self.mesh, self.rules)
            return over_members(gathered, self.at_once)(carry, members, shared)

        places = self._shardings(carry), whole(self.mesh)
        jitted = jax.jit(run, donate_argnums=0, out_shardings=places)
        return jitted.lower(carry, members, shared).compile()

    def _shardings(self, tree: Any) -> Any:
        return tree_shardings(tree, self.mesh, self.rules)
