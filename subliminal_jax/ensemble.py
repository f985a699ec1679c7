"""Ensembles: many members at once.

An ensemble is `jax.vmap` of the one-member function. The number of members mapped at once affects
speed and rounding: a processor with small caches is fastest with one after the other, an
accelerator with all of them.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

Carrying: TypeAlias = Callable[[Any, Any], tuple[Any, Any]]
"""`(carry, member) -> (carry, output)`, of trees."""


def over_members(fn: Carrying, at_once: int | None) -> Carrying:
    """`jax.vmap` of `fn`, at most `at_once` members at a time.

    A loop replaces the carries a part at a time: there is never a second copy of all.

    Args:
        fn: the function of one member. One that makes a carry is given None.
        at_once: members mapped together; the rest follow in a compiled loop. None: all.

    Returns:
        The function of many members: every leaf gains a leading member axis.
    """
    together = jax.vmap(fn)
    if at_once is None:
        return together

    def run(carries: Any, members: Any) -> tuple[Any, Any]:
        if carries is None:
            return jax.lax.map(lambda member: fn(None, member), members, batch_size=at_once)
        count = jax.tree.leaves((carries, members))[0].shape[0]
        most = min(at_once, count)

        def some(carries: Any, start: Any, size: int = most) -> tuple[Any, Any]:
            take = lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, start, size)
            put = lambda old, new: jax.lax.dynamic_update_slice_in_dim(old, new, start, 0)
            changed, outputs = together(*jax.tree.map(take, (carries, members)))
            return jax.tree.map(put, carries, changed), outputs

        whole, rest = divmod(count, most)
        carries, outputs = jax.lax.scan(some, carries, most * jnp.arange(whole))
        outputs = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), outputs)
        if rest:
            carries, last = some(carries, whole * most, rest)
            outputs = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), outputs, last)
        return carries, outputs

    return run


def stack(trees: Sequence[Any]) -> Any:
    """One tree whose leaves are the given trees' leaves, stacked on a new leading axis."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def member(tree: Any, place: Any) -> Any:
    """The tree at a place of the axis that `stack` makes; with several places, their stack."""
    return jax.tree.map(lambda leaf: leaf[place], tree)
