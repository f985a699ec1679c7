"""How a student's initialisation relates to its teacher's: the axis of the ablation.

All relations are points of one family, so that one mapped program initialises the students of all
of them: layer by layer, a mixture of the teacher's initialisation and another member's, plus noise,
with some weights drawn afresh.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from subliminal_jax.batch import Params, RandomKey
from subliminal_jax.config import Fraction, Scale
from subliminal_jax.errors import InputError
from subliminal_jax.keys import named_key


@runtime_checkable
class Relation(Protocol):
    """A way in which a student's initialisation relates to its teacher's.

    A relation is one frozen dataclass that inherits from this class and one line of `RELATIONS`.
    It overrides those of `shared`, `noise` and `redrawn` in which it differs from `Same`.
    """

    @property
    def kind(self) -> str:
        """Its name in results, tables and figures: a field with a default."""
        ...

    def shared(self, like: Params) -> dict[str, float]:
        """Return each layer's share of the teacher's initialisation; the rest is the other's."""
        return dict.fromkeys(like, 1.0)

    def noise(self) -> float:
        """Return the factor of the fresh draw that is added."""
        return 0.0

    def redrawn(self, like: Params, masks: Mapping[str, Params]) -> Params:
        """Return each weight's probability to be drawn afresh, shaped like the parameters."""
        return jax.tree.map(jnp.zeros_like, like)


@dataclass(frozen=True, kw_only=True)
class Same(Relation):
    """The student starts exactly where its teacher started."""

    kind: Literal["same"] = "same"


@dataclass(frozen=True, kw_only=True)
class Different(Relation):
    """The student starts from another member's initialisation, by a derangement."""

    kind: Literal["different"] = "different"

    def shared(self, like: Params) -> dict[str, float]:
        """Return 0 for every layer."""
        return dict.fromkeys(like, 0.0)


@dataclass(frozen=True, kw_only=True)
class Perturbed(Relation):
    """The teacher's initialisation plus `sigma` times a fresh draw of the initialisation.

    So `sigma` is in units of each weight's initial standard deviation, and about the relative
    distance.
    """

    sigma: Scale
    kind: Literal["perturbed"] = "perturbed"

    def noise(self) -> float:
        """Return `sigma`."""
        return self.sigma


@dataclass(frozen=True, kw_only=True)
class Interpolated(Relation):
    """The point t between the teacher's initialisation (t = 0) and another member's (t = 1)."""

    t: Fraction
    kind: Literal["interpolated"] = "interpolated"

    def shared(self, like: Params) -> dict[str, float]:
        """Return `1 - t` for every layer."""
        return dict.fromkeys(like, 1.0 - self.t)


@dataclass(frozen=True, kw_only=True)
class SharedLayers(Relation):
    """The named layers come from the teacher's initialisation, the rest from another member's."""

    layers: tuple[str, ...]
    kind: Literal["shared_layers"] = "shared_layers"

    def shared(self, like: Params) -> dict[str, float]:
        """Return 1 for the named layers and 0 for the rest.

        Raises:
            InputError: the network has no such layer.
        """
        if unknown := [layer for layer in self.layers if layer not in like]:
            raise InputError(
                f"shared_layers: the network has no layer {unknown[0]!r}; "
                f"its layers are {', '.join(like)}"
            )
        return {layer: float(layer in self.layers) for layer in like}


@dataclass(frozen=True, kw_only=True)
class Reinitialised(Relation):
    """The teacher's initialisation with some weights drawn afresh.

    Attributes:
        fraction: the probability that a weight is drawn afresh, weight by weight.
        mask: in place of a fraction, the name of a mask given to `mixture`, which is 1 for the
            weights that are drawn afresh.
    """

    fraction: Fraction | None = None
    mask: str | None = None
    kind: Literal["reinitialised"] = "reinitialised"

    def __post_init__(self) -> None:
        if (self.fraction is None) == (self.mask is None):
            raise InputError("reinitialised: give either a fraction or a mask")

    def redrawn(self, like: Params, masks: Mapping[str, Params]) -> Params:
        """Return the fraction for every weight, or the mask.

        Raises:
            InputError: no mask of that name was given.
        """
        if self.fraction is not None:
            return jax.tree.map(partial(jnp.full_like, fill_value=self.fraction), like)
        if self.mask is None or self.mask not in masks:
            raise InputError(f"reinitialised: no mask {self.mask!r} was given; add it to masks")
        return jax.tree.map(jnp.asarray, masks[self.mask])


@dataclass(frozen=True, kw_only=True)
class SharedOutputs(Relation):
    """Columns of the last layer from the teacher's initialisation, all other weights drawn afresh.

    Attributes:
        first: the first column that is the teacher's.
        end: the first column after those that are.
    """

    first: int
    end: int
    kind: Literal["shared_outputs"] = "shared_outputs"

    def redrawn(self, like: Params, masks: Mapping[str, Params]) -> Params:
        """Return 0 for the columns that are the teacher's and 1 for all other weights."""
        redrawn = jax.tree.map(jnp.ones_like, like)
        last = list(redrawn)[-1]
        outputs = lambda leaf: leaf.at[..., self.first : self.end].set(0.0)
        return {**redrawn, last: jax.tree.map(outputs, redrawn[last])}


RELATIONS: dict[str, type[Relation]] = {
    relation.kind: relation
    for relation in (
        Same,
        Different,
        Perturbed,
        Interpolated,
        Reinitialised,
        SharedLayers,
        SharedOutputs,
    )
}
"""Relations by their kind; an arm with any other is refused."""


@partial(
    jax.tree_util.register_dataclass, data_fields=("shared", "noise", "redrawn"), meta_fields=()
)
@dataclass(frozen=True, kw_only=True)
class Mixture:
    """A relation as arrays, with the same tree structure for every relation.

    Attributes:
        shared: per layer, the share of the teacher's initialisation; the rest is the other's.
        noise: factor of the fresh draw that is added.
        redrawn: per weight, the probability that it is drawn afresh; shaped like the parameters.
    """

    shared: Any
    noise: Any
    redrawn: Any


def mixture(relation: Relation, like: Params, masks: Mapping[str, Params] | None = None) -> Mixture:
    """Return a relation as arrays.

    Args:
        relation: how the student's initialisation relates to the teacher's.
        like: parameters `{layer: ...}`, for their layers and shapes.
        masks: the masks that `Reinitialised` may name, 1 where a weight is drawn afresh.

    Raises:
        InputError: the relation names a layer or a mask that does not exist.
    """
    return Mixture(
        shared=jax.tree.map(jnp.asarray, relation.shared(like)),
        noise=jnp.asarray(relation.noise()),
        redrawn=relation.redrawn(like, masks or {}),
    )


def blend(mix: Mixture, teacher: Params, other: Params, fresh: Params, key: RandomKey) -> Params:
    """A student's initialisation.

    Args:
        mix: the relation.
        teacher: the teacher's initialisation.
        other: the initialisation of the member that the student is paired with.
        fresh: a draw that no other member uses, for noise and for weights drawn afresh.
        key: decides which weights are drawn afresh.
    """
    leaves, tree = jax.tree.flatten(teacher)
    keys = jax.tree.unflatten(tree, [named_key(key, str(i)) for i in range(len(leaves))])

    def leaf(share: Array, redrawn: Array, key: RandomKey, *draws: Array) -> Array:
        own, others, new = draws
        mixed = share * own + (1 - share) * others + mix.noise * new
        return jnp.where(jax.random.uniform(key, own.shape) < redrawn, new, mixed)

    return {
        layer: jax.tree.map(
            partial(leaf, mix.shared[layer]),
            mix.redrawn[layer],
            keys[layer],
            teacher[layer],
            other[layer],
            fresh[layer],
        )
        for layer in teacher
    }


def relative_distance(student: Params, teacher: Params) -> Float[Array, ""]:
    """Euclidean distance of two initialisations in units of the teacher's norm.

    0 for the same initialisation, about sqrt(2) for an independent one.
    """
    difference = jax.tree.map(jnp.subtract, student, teacher)
    return jnp.sqrt(_squared_norm(difference) / _squared_norm(teacher))


def _squared_norm(tree: Params) -> Float[Array, ""]:
    return sum((jnp.sum(leaf**2) for leaf in jax.tree.leaves(tree)), start=jnp.zeros(()))
