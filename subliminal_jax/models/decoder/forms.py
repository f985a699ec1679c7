"""Forms of a decoder's parameters: layers in a stack or apart, and those that are read fastest.

Shape letters: v vocabulary, e width.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from subliminal_jax.batch import Params
from subliminal_jax.models.decoder.config import DecoderConfig
from subliminal_jax.models.decoder.layers import GATE_UP, QUERY_KEY_VALUE

UNEMBEDDING_COLUMNS = "unembedding_columns"
"""Where parameters may hold the transpose of the unembedding; see `for_bfloat16_decoding`."""


def unembedding(config: DecoderConfig, params: Params) -> Float[Array, "v e"]:
    """The unembedding matrix, one row per vocabulary token."""
    return params["embedding" if config.tied else "unembedding"]


@jax.jit
def layers_apart(params: Params) -> Params:
    """The parameters with a tuple of the layers' trees in place of the stack; a copy of the layers.

    All functions here take either form. Out of a stack, a GPU copies a layer's weights before it
    multiplies with them, and into stacks what the backward pass needs. Programs of layers that are
    apart grow with their number.
    """
    if isinstance(params["layers"], tuple):
        return params
    count = jax.tree.leaves(params["layers"])[0].shape[0]
    own = lambda index: jax.tree.map(lambda leaf: leaf[index], params["layers"])
    return {**params, "layers": tuple(own(index) for index in range(count))}


@jax.jit
def stacked(params: Params) -> Params:
    """The parameters with their layers in a stack again, as `init` gives them."""
    layers = params["layers"]
    if not isinstance(layers, tuple):
        return params
    return {**params, "layers": jax.tree.map(lambda *each: jnp.stack(each), *layers)}


@jax.jit
def for_decoding(params: Params) -> Params:
    """The layers apart, and in each the kernels side by side that multiply the same input.

    A product of a few rows takes as long as its kernel takes to be read; one large kernel is read
    faster than three.
    """
    layers = layers_apart(params)["layers"]
    return {**params, "layers": tuple(_side_by_side(layer) for layer in layers)}


@partial(jax.jit, static_argnames="config")
def for_bfloat16_decoding(config: DecoderConfig, params: Params) -> Params:
    """The layers apart, all matrices in bfloat16, and the unembedding's transpose beside it.

    For a CPU, where slices of bfloat16 are converted to float32 and back, and a transpose is
    copied for each product. What has this form is not copied.
    """
    params = layers_apart(params)
    halve = lambda leaf: leaf.astype(jnp.bfloat16) if leaf.ndim > 1 else leaf
    columns = unembedding(config, params).T
    return jax.tree.map(halve, {**params, UNEMBEDDING_COLUMNS: columns})


def apart_is_faster() -> bool:
    """Whether layers that are apart are trained faster here than a stack of them."""
    return jax.default_backend() == "gpu"


def slices_convert_stacks(config: DecoderConfig) -> bool:
    """Whether a slice of a stack converts all of it here, as on a CPU in bfloat16."""
    return jax.default_backend() == "cpu" and config.compute.dtype == "bfloat16"


def _side_by_side(layer: Params) -> Params:
    joined = {part: dict(projections) for part, projections in layer.items()}
    for part, together, names in (
        ("attention", QUERY_KEY_VALUE, ("query", "key", "value")),
        ("mlp", GATE_UP, ("gate", "up")),
    ):
        if names[0] in layer[part]:
            each = [joined[part].pop(name) for name in names]
            side_by_side = lambda *leaves: jnp.concatenate(leaves, axis=-1)
            joined[part][together] = jax.tree.map(side_by_side, *each)
    return joined
