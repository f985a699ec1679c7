"""Losses against values worked out by hand, and the properties every criterion must have."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from subliminal_jax.losses import cross_entropy, kl_divergence, squared_error

LOG2, LOG3 = np.log(2.0), np.log(3.0)
ALL = jnp.ones(3, bool)


def test_cross_entropy_by_hand():
    # softmax(0, log 3) = (1/4, 3/4)
    logits = jnp.array([[0.0, LOG3], [0.0, LOG3], [0.0, 0.0]])
    losses = cross_entropy(logits, jnp.array([0, 1, 1]))
    assert_allclose(losses, [np.log(4), np.log(4 / 3), LOG2], rtol=1e-6)


def test_kl_divergence_by_hand():
    # p = (1/2, 1/4, 1/4), q = (1/4, 1/4, 1/2): sum p log(p / q) = 1/2 log 2 + 0 - 1/4 log 2
    teacher = jnp.array([[LOG2, 0.0, 0.0]])
    student = jnp.array([[0.0, 0.0, LOG2]])
    assert_allclose(kl_divergence(student, teacher, ALL), [LOG2 / 4], rtol=1e-6)


def test_kl_divergence_is_of_the_teacher_from_the_student():
    # p = (1/2, 1/2), q = (1/4, 3/4): KL(p||q) = log 2 - log(3) / 2 and KL(q||p) = 3/4 log 3 - log 2
    teacher, student = jnp.array([[0.0, 0.0]]), jnp.array([[0.0, LOG3]])
    both = jnp.ones(2, bool)
    assert_allclose(kl_divergence(student, teacher, both), [LOG2 - LOG3 / 2], rtol=1e-5)
    assert_allclose(kl_divergence(teacher, student, both), [0.75 * LOG3 - LOG2], rtol=1e-5)


def test_temperature_divides_both_logits(key):
    student, teacher = jax.random.normal(key, (2, 4, 3))
    warm = kl_divergence(student, teacher, ALL, temperature=2.0)
    assert_allclose(warm, kl_divergence(student / 2, teacher / 2, ALL), rtol=1e-6)
    assert not np.allclose(warm, kl_divergence(student, teacher, ALL))


def test_squared_error_by_hand():
    student, teacher = jnp.array([[1.0, 2.0, 9.0]]), jnp.array([[0.0, 4.0, 0.0]])
    assert_allclose(squared_error(student, teacher, jnp.array([True, True, False])), [2.5])


@pytest.mark.parametrize("criterion", [kl_divergence, squared_error])
def test_excluded_logits_count_for_nothing(criterion, key):
    student, teacher = jax.random.normal(key, (2, 5, 7))
    chosen = jnp.array([0, 0, 1, 1, 0, 1, 0], bool)
    subset = criterion(student[:, chosen], teacher[:, chosen], jnp.ones(3, bool))
    assert_allclose(criterion(student, teacher, chosen), subset, rtol=1e-5)
    gradient = jax.grad(lambda s: criterion(s, teacher, chosen).sum())(student)
    assert np.all(np.asarray(gradient[:, ~chosen]) == 0)
    assert np.all(np.asarray(gradient[:, chosen]) != 0)
    assert np.all(np.isfinite(gradient))


def test_kl_divergence_of_equals_is_zero_with_zero_gradient(key):
    logits = 30 * jax.random.normal(key, (6, 3))
    assert np.all(np.asarray(kl_divergence(logits, logits, ALL)) == 0)
    gradient = jax.grad(lambda s: kl_divergence(s, logits, ALL).sum())(logits)
    assert_allclose(gradient, 0, atol=1e-6)


@pytest.mark.parametrize("criterion", [kl_divergence, squared_error])
def test_losses_are_per_example(criterion, key):
    student, teacher = jax.random.normal(key, (2, 5, 3))
    rows = [criterion(student[i : i + 1], teacher[i : i + 1], ALL)[0] for i in range(5)]
    assert_allclose(criterion(student, teacher, ALL), rows, rtol=1e-6)
    jitted = jax.jit(criterion)(student, teacher, ALL)
    assert_allclose(jitted, criterion(student, teacher, ALL), rtol=1e-5)
