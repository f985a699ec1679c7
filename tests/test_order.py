"""Epoch orders: every example once, fresh every epoch, padding of weight 0."""

import jax
import jax.numpy as jnp
import numpy as np
from numpy.testing import assert_array_equal

from subliminal_jax.data.epoch_order import epoch_order, steps_per_epoch


def test_every_example_once(key):
    order, weights = epoch_order(key, jnp.int32(0), 23, 5)
    assert order.shape == weights.shape == (5, 5)
    assert sorted(np.asarray(order)[np.asarray(weights) == 1]) == list(range(23))
    assert_array_equal(weights[-1], [1, 1, 1, 0, 0])
    assert np.all(np.asarray(weights[:-1]) == 1)


def test_an_order_is_a_function_of_key_and_epoch(key):
    once, again, later, elsewhere = (
        np.asarray(epoch_order(k, jnp.int32(epoch), 100, 10)[0])
        for k, epoch in [(key, 3), (key, 3), (key, 4), (jax.random.key(1), 3)]
    )
    assert_array_equal(once, again)
    assert np.mean(once == later) < 0.1
    assert np.mean(once == elsewhere) < 0.1


def test_steps_per_epoch_keeps_the_short_last_batch():
    assert steps_per_epoch(60_000, 1024) == 59
    assert steps_per_epoch(1024, 1024) == 1
