"""The network: the paper's sizes and initialisation, and operations counted by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from subliminal_jax.models import mlp

PAPER = mlp.MlpConfig()


def test_the_papers_network():
    params = mlp.init(PAPER, jax.random.key(0))
    shapes = {name: layer["kernel"].shape for name, layer in params.items()}
    assert shapes == {"hidden_0": (784, 256), "hidden_1": (256, 256), "logits": (256, 13)}
    assert tuple(params) == PAPER.layers
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 270_093
    assert mlp.parameter_count(PAPER) == 270_093


def test_the_papers_initialisation():
    params = mlp.init(PAPER, jax.random.key(0))
    for layer, fan_in in zip(params.values(), (784, 256, 256), strict=True):
        kernel = np.asarray(layer["kernel"])
        assert_allclose(kernel.std(), fan_in**-0.5, rtol=0.05)
        # normal: a uniform or truncated law has no weight beyond 2.5 standard deviations
        assert_allclose(np.mean(np.abs(kernel) > 2 * fan_in**-0.5), 0.0455, atol=0.01)
        assert np.all(np.asarray(layer["bias"]) == 0)


def test_scales_of_the_initialisation():
    config = mlp.MlpConfig(weight_scale=2.0, bias_scale=0.5)
    params = mlp.init(config, jax.random.key(0))
    assert_allclose(params["hidden_0"]["kernel"].std(), 2 * 784**-0.5, rtol=0.05)
    assert_allclose(params["hidden_0"]["bias"].std(), 0.5, rtol=0.2)


def test_forward_by_hand():
    config = mlp.MlpConfig(inputs=2, hidden=(2,), classes=1, aux=1)
    params = {
        "hidden_0": {"kernel": jnp.array([[1.0, -1], [2, 1]]), "bias": jnp.array([0.5, 0.0])},
        "logits": {"kernel": jnp.array([[1.0, 2], [3, 4]]), "bias": jnp.array([0.0, -1.0])},
    }
    # hidden: (1 + 4 + .5, -1 + 2) = (5.5, 1); and for (1, -1): (-.5, -2) -> (0, 0)
    logits = mlp.apply(config, params, jnp.array([[1.0, 2.0], [1.0, -1.0]]))
    assert_allclose(logits, [[5.5 + 3, 11 + 4 - 1], [0, -1]])


def test_which_logits_are_chosen():
    assert mlp.chosen_logits(PAPER, "aux").tolist() == [False] * 10 + [True] * 3
    assert mlp.chosen_logits(PAPER, "all").tolist() == [True] * 13
    logits = jnp.arange(13.0)[None]
    assert mlp.class_logits(PAPER, logits).tolist() == [list(range(10))]


def test_operations_by_hand():
    # 784*256 + 256*256 + 256*13 = 269,568 weights; the last two layers hold 68,864
    assert mlp.forward_flop(PAPER) == 2 * 269_568
    assert mlp.training_flop(PAPER) == 4 * 269_568 + 2 * 68_864


@pytest.mark.parametrize("depth", [1, 3])
def test_depth(depth):
    config = mlp.MlpConfig(inputs=4, hidden=(5,) * depth, aux=2)
    params = mlp.init(config, jax.random.key(0))
    assert len(params) == depth + 1
    assert mlp.apply(config, params, jnp.ones((7, 4))).shape == (7, 12)
