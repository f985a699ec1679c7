"""The one step: hand-computed updates, sums before the one division, scan equal to a loop."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.testing import assert_allclose

from subliminal_jax.batch import Batch
from subliminal_jax.train import (
    Totals,
    TrainState,
    fit,
    init_state,
    make_loss_fn,
    make_train_step,
    mean_gradient,
    total_gradient,
)


def line(params, inputs):
    return params["slope"] * inputs


def half_square(predictions, targets):
    return 0.5 * (predictions - targets) ** 2


def batch(inputs, targets, weights):
    return Batch(inputs=jnp.array(inputs), targets=jnp.array(targets), weights=jnp.array(weights))


GRADIENT = total_gradient(make_loss_fn(line, half_square))


def test_a_loss_is_a_weighted_sum_and_a_weight():
    loss_fn = make_loss_fn(line, half_square)
    # predictions 2, 4, 6; residuals 1, 1, 6; weights 1, 3, 0
    total, weight = loss_fn({"slope": jnp.array(2.0)}, batch([1.0, 2, 3], [1.0, 3, 0], [1.0, 3, 0]))
    assert_allclose([total, weight], [0.5 * 1 + 3 * 0.5 * 1, 4.0])


def test_one_sgd_step_by_hand():
    step = make_train_step(GRADIENT, optax.sgd(0.1))
    state = init_state({"slope": jnp.array(2.0)}, optax.sgd(0.1))
    # d/ds sum w (s x - y)^2 / 2 = sum w x (s x - y) = 1*1*1 + 3*2*1 = 7; over the weight 4
    state, totals = step(state, batch([1.0, 2, 3], [1.0, 3, 0], [1.0, 3, 0]))
    assert_allclose(state.params["slope"], 2.0 - 0.1 * 7 / 4, rtol=1e-6)
    assert_allclose((totals.loss, totals.weight), (2.0, 4.0))
    assert int(state.step) == 1


def test_padding_changes_nothing():
    step = make_train_step(GRADIENT, optax.adam(0.1))
    state = init_state({"slope": jnp.array(2.0)}, optax.adam(0.1))
    short, _ = step(state, batch([1.0, 2], [1.0, 3], [1.0, 1]))
    padded, _ = step(state, batch([1.0, 2, 50], [1.0, 3, 7], [1.0, 1, 0]))
    chex.assert_trees_all_equal(short, padded)


def test_gradients_of_parts_add_up_before_the_division():
    whole = batch([1.0, 2, 3, 4], [1.0, 3, 0, 1], [1.0, 1, 1, 0])
    parts = [jax.tree.map(lambda leaf: leaf[i : i + 2], whole) for i in (0, 2)]  # noqa: B023
    params = {"slope": jnp.array(2.0)}
    (g1, t1), (g2, t2) = (GRADIENT(params, part) for part in parts)
    together = mean_gradient(
        jax.tree.map(jnp.add, g1, g2), Totals(t1.loss + t2.loss, t1.weight + t2.weight)
    )
    chex.assert_trees_all_close(together, mean_gradient(*GRADIENT(params, whole)), rtol=1e-6)
    # Had each part been divided by its own weight, the ragged second part would weigh double.
    means = [mean_gradient(*GRADIENT(params, part))["slope"] for part in parts]
    assert abs(np.mean(means) - together["slope"]) > 0.1


def test_the_reduction_is_the_callers():
    tx = optax.sgd(1.0)
    step = make_train_step(
        GRADIENT, tx, lambda grads, totals: jax.tree.map(lambda g: g / 100, grads)
    )
    state, _ = step(init_state({"slope": jnp.array(2.0)}, tx), batch([1.0], [1.0], [1.0]))
    assert_allclose(state.params["slope"], 1.99, rtol=1e-6)


def test_fit_equals_a_loop(key):
    tx = optax.adam(0.05)
    step = make_train_step(GRADIENT, tx)

    def batch_at(i):
        inputs = jax.random.normal(jax.random.fold_in(key, i), (4,))
        return Batch(inputs=inputs, targets=3 * inputs, weights=jnp.ones(4))

    state = init_state({"slope": jnp.array(0.0)}, tx)
    scanned, totals = jax.jit(lambda state: fit(step, state, batch_at, 5))(state)
    losses = []
    for i in range(5):
        state, one = jax.jit(step)(state, batch_at(i))
        losses.append(one.loss)
    assert_allclose(totals.loss, losses, rtol=1e-5)
    chex.assert_trees_all_close(scanned, state, rtol=1e-5)
    assert totals.weight.tolist() == [4.0] * 5
    assert int(scanned.step) == 5


def test_the_state_is_a_tree_of_arrays():
    state = init_state({"slope": jnp.array(0.0)}, optax.adam(0.05))
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(state))
    doubled = jax.vmap(lambda _: state)(jnp.arange(2))
    assert isinstance(doubled, TrainState)
    chex.assert_tree_shape_prefix(doubled, (2,))
