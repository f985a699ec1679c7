"""Random cases of the theorem: everything that it quantifies over is drawn or enumerated."""

import functools
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, PyTree

from subliminal_jax.batch import Params, Scalar
from subliminal_jax.keys import root_key
from subliminal_jax.losses import cross_entropy
from subliminal_jax.models import mlp
from subliminal_jax.theory.theorem import Imitation, Start, dot

Tree: TypeAlias = PyTree[np.ndarray]

INPUTS = ("digits", "noise", "constant image", "single point")
TRAITS = ("digits", "random quadratic", "weight norm")
IMITATIONS = (
    *("squared error, all", "squared error, auxiliary", "weighted squared error"),
    *("cross-entropy, all", "cross-entropy, auxiliary"),
)
CASES = len(INPUTS) * len(TRAITS) * len(IMITATIONS)
DEGENERATE = ("linear network", "disjoint heads", "equal shift of all logits")


class TeacherLoss(NamedTuple):
    """A teacher's loss: an index into `TRAITS`, and the data of every kind.

    Attributes:
        kind: index into `TRAITS`.
        images: digits, `[B, D]`.
        labels: their labels, `[B]`.
        linear: the random quadratic's gradient at 0, a tree like the parameters.
        diagonal: the diagonal part of its Hessian, of either sign.
        vector: u in the rank-one part `u u^T` of its Hessian.
    """

    kind: Any
    images: Any
    labels: Any
    linear: Any
    diagonal: Any
    vector: Any


def kinds_of(number: int) -> tuple[int, int, int]:
    """Indices into `INPUTS`, `TRAITS` and `IMITATIONS`; all combinations in turn."""
    inputs, rest = number % len(INPUTS), number // len(INPUTS)
    return inputs, rest % len(TRAITS), rest // len(TRAITS) % len(IMITATIONS)


def trait_loss(network: mlp.MlpConfig, params: Params, trait: TeacherLoss) -> Scalar:
    """The teacher's loss: cross-entropy on digits, a random quadratic, or half the squared norm.

    The quadratic is `c . p + (p . h p + (u . p)^2) / 2`, with c, h and u standard normal.
    """
    logits = mlp.class_logits(network, mlp.apply(network, params, trait.images))
    scaled = jax.tree.map(jnp.multiply, trait.diagonal, params)
    quadratic = dot(trait.linear, params) + dot(scaled, params) / 2 + dot(trait.vector, params) ** 2
    losses = (jnp.mean(cross_entropy(logits, trait.labels)), quadratic, dot(params, params) / 2)
    return jnp.stack(losses)[trait.kind]


def draw(
    network: mlp.MlpConfig,
    seed: int,
    number: int,
    digits: tuple[Float[np.ndarray, "n d"], Int[np.ndarray, " n"]],
    batch: int,
) -> Start:
    """One case: a pure function of seed and number, in NumPy and float64.

    Initial weights have a standard deviation between 1/2 and 2 times `1 / sqrt(fan_in)`, initial
    biases one between 0 and 1.

    Args:
        network: for the shapes; the scales are drawn.
        seed: common to all cases.
        number: of the case.
        digits: images and labels to draw from.
        batch: number of images that the student sees, and of digits in the teacher's loss.
    """
    random = np.random.Generator(np.random.Philox(key=[seed, number]))
    inputs_kind, trait_kind, imitation_kind = kinds_of(number)
    factors = {"kernel": 2.0 ** random.uniform(-1, 1), "bias": random.uniform()}

    def normal() -> Tree:
        return jax.tree.map(lambda leaf: random.standard_normal(leaf.shape), _shapes(network))

    def initialisation() -> Tree:
        fan_in = {"kernel": lambda leaf: len(leaf), "bias": lambda _: 1}
        return {
            layer: {
                name: leaf * factors[name] / fan_in[name](leaf) ** 0.5
                for name, leaf in leaves.items()
            }
            for layer, leaves in normal().items()
        }

    seen, taught = random.integers(len(digits[1]), size=(2, batch))
    noise = random.uniform(-1, 1, (batch, network.inputs))
    inputs = {
        "digits": digits[0][seen],
        "noise": noise,
        "constant image": np.broadcast_to(noise[0, 0], noise.shape),
        "single point": np.broadcast_to(noise[0], noise.shape),
    }
    return Start(
        reference=initialisation(),
        other=initialisation(),
        nearby=initialisation(),
        inputs=inputs[INPUTS[inputs_kind]],
        imitation=_imitation(random, IMITATIONS[imitation_kind], network),
        trait=TeacherLoss(
            kind=np.int32(trait_kind),
            images=digits[0][taught],
            labels=digits[1][taught],
            linear=normal(),
            diagonal=normal(),
            vector=normal(),
        ),
    )


def degenerate(network: mlp.MlpConfig, start: Start, case: str) -> Start:
    """Change a case so that the theorem's A is 0: the student cannot move the teacher's loss.

    Args:
        network: of the case; without hidden layers for "linear network".
        start: the case to be changed.
        case: one of `DEGENERATE`. "linear network": auxiliary and class logits share no weights.
            "disjoint heads": the teacher's loss depends on the class columns only, the student's
            on the auxiliary columns only. "equal shift of all logits": the teacher's loss is the
            sum of the logits' biases, and a softmax is invariant to equal shifts.
    """
    auxiliary, trait = _auxiliary(network), start.trait
    zeros = jax.tree.map(np.zeros_like, trait.linear)
    linear = {**zeros, "logits": dict(zeros["logits"])}
    imitation = start.imitation._replace(weights=auxiliary)
    if case == "linear network":
        return start._replace(trait=trait._replace(kind=np.int32(0)), imitation=imitation)
    if case == "disjoint heads":
        classes = lambda leaf: leaf * (1 - auxiliary)
        linear["logits"] = jax.tree.map(classes, trait.linear["logits"])
    else:
        linear["logits"]["bias"] = np.ones_like(auxiliary)
        imitation = Imitation(softmax=np.bool_(True), weights=np.ones_like(auxiliary))
    only_linear = TeacherLoss(np.int32(1), trait.images, trait.labels, linear, zeros, zeros)
    return start._replace(trait=only_linear, imitation=imitation)


def _imitation(random: np.random.Generator, kind: str, network: mlp.MlpConfig) -> Imitation:
    weights = np.ones(network.widths[-1])
    if kind.endswith("auxiliary"):
        weights = _auxiliary(network)
    elif kind.startswith("weighted"):
        weights = np.maximum(random.uniform(-1, 1, weights.shape), 0)  # about half are 0
        weights[random.integers(len(weights))] = 1
    return Imitation(softmax=np.bool_(kind.startswith("cross-entropy")), weights=weights)


def _auxiliary(network: mlp.MlpConfig) -> Float[np.ndarray, " k"]:
    return np.repeat([0.0, 1.0], [network.classes, network.aux])


@functools.cache
def _shapes(network: mlp.MlpConfig) -> PyTree[jax.ShapeDtypeStruct]:
    return jax.eval_shape(lambda key: mlp.init(network, key), root_key(0))
