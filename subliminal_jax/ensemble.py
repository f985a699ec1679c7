"""Ensembles: many members at once.

An ensemble is `jax.vmap` of the one-member function. The number of members mapped at once affects
speed and rounding: a processor with small caches is fastest with one after the other, an
accelerator with all of them.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp


def over_members(fn: Callable[..., Any], at_once: int | None) -> Callable[..., Any]:
    """`jax.vmap` of `fn`, at most `at_once` members at a time.

    Args:
        fn: a function of one member; takes and returns trees.
        at_once: members mapped together; the rest follow in a compiled loop. None: all.

    Returns:
        The function of many members: every leaf gains a leading member axis.
    """
    if at_once is None:
        return jax.vmap(fn)
    return lambda *members: jax.lax.map(lambda member: fn(*member), members, batch_size=at_once)


def stack(trees: Sequence[Any]) -> Any:
    """One tree whose leaves are the given trees' leaves, stacked on a new leading axis."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def member(tree: Any, place: Any) -> Any:
    """The tree at a place of the axis that `stack` makes; with several places, their stack."""
    return jax.tree.map(lambda leaf: leaf[place], tree)
