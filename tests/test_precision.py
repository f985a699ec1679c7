"""bfloat16 compute with float32 masters: as near to float32 as bfloat16 can be, and what is not."""

from dataclasses import replace
from functools import partial

import jax
import jax.extend.core
import jax.numpy as jnp
import numpy as np
import pytest
from torch_models import CASES, FIXTURES, left_padded, prompts

from subliminal_jax.data.tokens import TokenInputs, TokenTable
from subliminal_jax.language.training.answers import answer_loss, answer_table, select_batch
from subliminal_jax.models.decoder.config import Compute
from subliminal_jax.models.hub.weights import load

UNIT = 2.0**-9
"""The largest relative error of one rounding to bfloat16, which has 8 significant bits."""
PRECISE = ("exp", "log", "rsqrt", "cos", "sin", "reduce_max", "cumsum")
"""Of softmax, loss, norms and rotations; activations are made of others."""


def loss_of(config, batch, params):
    total, weight = answer_loss(config, params, None, batch)
    return total / weight


def case(name):
    """A model in both precisions, and a batch."""
    model = load(str(FIXTURES / name / "model"))
    tokens, mask = left_padded(prompts(name))
    rows = TokenTable(
        inputs=TokenInputs(tokens[:, :-1], mask[:, :-1].astype(np.int32)),
        targets=tokens[:, 1:],
        weights=(mask[:, :-1] & mask[:, 1:]).astype(np.float32),
    )
    count = len(tokens)
    batch = select_batch(answer_table(rows), jnp.arange(count), jnp.ones(count))
    half = replace(model.config, compute=Compute(dtype="bfloat16"))
    return model.params, *(partial(loss_of, config, batch) for config in (model.config, half))


def relative_error(got, expected) -> float:
    """Root mean square over all leaves, of the error against the expected."""
    squares = lambda tree: sum(float(jnp.sum(leaf**2)) for leaf in jax.tree.leaves(tree))
    return (squares(jax.tree.map(jnp.subtract, got, expected)) / squares(expected)) ** 0.5


@pytest.mark.parametrize("name", ["qwen2", "gemma2"])
def test_loss_and_gradient_are_those_of_float32(name):
    """As near as those of float32 are to themselves when each weight moves by one rounding.

    How an error grows on its way through the layers is the model's own matter, and the float32
    program tells it. In bfloat16 each product has its inputs and its result rounded, there and on
    the way back: six roundings, which are six times as much if they all point one way.
    """
    params, whole, half = case(name)
    in_float32 = jax.jit(jax.value_and_grad(whole))
    loss, grads = in_float32(params)
    rng = np.random.default_rng(0)
    moved = jax.tree.map(
        lambda leaf: leaf * (1 + UNIT * rng.uniform(-1, 1, leaf.shape).astype(np.float32)), params
    )
    one_rounding = relative_error(in_float32(moved)[1], grads)
    loss_half, grads_half = jax.jit(jax.value_and_grad(half))(params)
    assert {leaf.dtype.name for leaf in jax.tree.leaves((loss_half, grads_half))} == {"float32"}
    assert one_rounding / 6 < relative_error(grads_half, grads) < 6 * one_rounding
    assert 0 < abs(loss_half / loss - 1) < 6 * one_rounding


def is_program(value) -> bool:
    return isinstance(value, (jax.extend.core.Jaxpr, jax.extend.core.ClosedJaxpr))


def equations(jaxpr):
    """All of a program's operations, those of programs within it too."""
    for equation in jaxpr.eqns:
        yield equation
        for within in jax.tree.leaves(
            list(equation.params.values()),
            is_leaf=lambda leaf: isinstance(
                leaf, (jax.extend.core.Jaxpr, jax.extend.core.ClosedJaxpr)
            ),
        ):
            if isinstance(within, jax.extend.core.ClosedJaxpr):
                yield from equations(within.jaxpr)
            elif isinstance(within, jax.extend.core.Jaxpr):
                yield from equations(within)


@pytest.mark.parametrize("name", CASES)
def test_softmaxes_norms_rotations_and_losses_stay_float32(name):
    params, _, half = case(name)
    program = jax.make_jaxpr(jax.grad(half))(params)
    found = {}
    for equation in equations(program.jaxpr):
        for operand in equation.invars:
            found.setdefault(equation.primitive.name, set()).add(operand.aval.dtype.name)
    assert {"exp", "log", "rsqrt", "reduce_max"} <= found.keys()
    assert {"bfloat16"} <= found["dot_general"]
    for primitive in PRECISE:
        assert "bfloat16" not in found.get(primitive, ()), primitive
