"""Sums over scored rows of every network of a reference, by as few programs as possible."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Array

from subliminal_jax import ensemble
from subliminal_jax.execution.program import Program
from subliminal_jax.execution.protocol import Execution
from subliminal_jax.language.reference import Reference
from subliminal_jax.language.training.answers import zero_padded
from subliminal_jax.language.training.trainable import Network


def of_networks(
    reference: Reference,
    networks: Mapping[str, Network],
    rows: Any,
    summed: Callable[[Any, Any, Any], Array],
    execution: Execution,
) -> dict[str, np.ndarray]:
    """A function's sums over all rows, for every network.

    Networks that differ only in their adapters, and networks of equal shapes, share one program.
    All hosts must call it.

    Args:
        reference: reference of all networks.
        networks: networks by name.
        rows: arrays `[passes, rows, ...]`; zero-padded rows must add nothing.
        summed: `(parameters, adapter, rows) -> sums over the rows that a device holds`.
        execution: devices to compute on.
    """
    alike: dict[Any, dict[str, Network]] = {}
    for name, (params, adapter) in networks.items():
        adapted = params is reference.params and adapter is not None
        shapes = tuple(leaf.shape for leaf in jax.tree.leaves((adapter, params)))
        alike.setdefault((adapted, shapes), {})[name] = (params, adapter)
    sums = {}
    for (adapted, _), group in alike.items():
        sums |= _of_group(reference, group, rows, summed, execution, adapted)
    return {name: sums[name] for name in networks}


def _of_group(
    reference: Reference,
    networks: Mapping[str, Network],
    rows: Any,
    summed: Callable[[Any, Any, Any], Array],
    execution: Execution,
    adapted: bool,
) -> dict[str, np.ndarray]:
    """As `of_networks`, for networks of equal shapes; `adapted` if all are adapters."""

    def score(carry: None, member: Any, shared: Any) -> tuple[None, Array]:
        base, spread = shared
        params, adapter = (base, member) if adapted else member
        return None, execution.total(summed(params, adapter, spread))

    members = ensemble.stack(
        [adapter if adapted else (params, adapter) for params, adapter in networks.values()]
    )
    rows = jax.tree.map(lambda leaf: zero_padded(leaf, 1, execution.parts), rows)
    shared = execution.share(reference.params), execution.spread(rows, axis=1)
    _, sums = Program(score, execution)(None, execution.split(members), shared)
    return dict(zip(networks, execution.fetch(sums), strict=True))
