"""What a step eats, and the types the core speaks in.

Shape letters, the same everywhere: M members, A arms, B batch, N images, D inputs, K logits.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import jax
from jaxtyping import Array, Float, Key, PyTree

Params: TypeAlias = PyTree[Array]
RandomKey: TypeAlias = Key[Array, ""]
Scalar: TypeAlias = Float[Array, ""]


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("inputs", "targets", "weights"),
    meta_fields=(),
)
@dataclass(frozen=True, kw_only=True)
class Batch:
    """Examples for one step.

    Attributes:
        inputs: what the network sees, `[B, ...]`.
        targets: what it should say: labels, token ids or a teacher's logits, `[B, ...]`.
        weights: how much each example counts, `[B]`; 0 for padding.
    """

    inputs: Any
    targets: Any
    weights: Any


ApplyFn: TypeAlias = Callable[[Params, Any], Array]
"""`(params, inputs) -> predictions`."""

Criterion: TypeAlias = Callable[[Array, Any], Float[Array, " batch"]]
"""`(predictions, targets) -> losses`, one loss an example, unreduced."""

LossFn: TypeAlias = Callable[[Params, Batch], tuple[Scalar, Scalar]]
"""`(params, batch) -> (total, weight)`: the weighted sum of the losses, and the sum of weights."""
