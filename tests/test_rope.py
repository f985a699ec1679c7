"""Rotary positions: frequencies by hand, and what a rotation keeps."""

import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from subliminal_jax.models.decoder.config import LayerKind, RopeScaling
from subliminal_jax.models.decoder.rope import frequencies, rotate, rotations

# Frequencies 1, 1/8, 1/64 and 1/512 of head dimension 8; the third turns `TURNS` times.
THETA, CONTEXT = 8.0**4, 1000
TURNS = CONTEXT / (2 * np.pi) / 64


def llama3(factor, low, high):
    return RopeScaling(
        kind="llama3", factor=factor, low=low * TURNS, high=high * TURNS, original_context=CONTEXT
    )


@pytest.mark.parametrize(
    ("scaling", "expected"),
    [
        (None, [1, 1 / 8, 1 / 64, 1 / 512]),
        (RopeScaling(kind="linear", factor=4.0), [1 / 4, 1 / 32, 1 / 256, 1 / 2048]),
        # 1 is a quarter of the way from 0.5 to 2.5: of 1/64 a quarter and three quarters of a
        # fifth. The faster ones are kept, the slower one is a fifth.
        (llama3(5.0, 0.5, 2.5), [1, 1 / 8, 0.4 / 64, 1 / 2560]),
        # 8 is half the way from 2 to 14: of 1/8 a half and half of a half.
        (llama3(2.0, 2.0, 14.0), [1, 0.75 / 8, 1 / 128, 1 / 1024]),
    ],
)
def test_frequencies(scaling, expected):
    kind = LayerKind(theta=THETA, scaling=scaling)
    assert_allclose(frequencies(kind, 8), expected, rtol=1e-6)


def test_a_rotation_keeps_lengths_and_sees_distances_alone():
    """The product of two heads turned to positions 3 and 5 is that at 13 and 15."""
    rng = np.random.default_rng(0)
    query, key = jnp.asarray(rng.normal(size=(2, 1, 1, 2, 6)), jnp.float32)

    def at(x, position):
        cos, sin = rotations((LayerKind(theta=10.0),), 6, jnp.array([[position]]))
        return np.asarray(rotate(x, cos[0], sin[0]))

    assert_allclose(
        np.linalg.norm(at(query, 7), axis=-1), np.linalg.norm(query, axis=-1), rtol=1e-6
    )
    near = np.sum(at(query, 5) * at(key, 3), axis=-1)
    assert_allclose(near, np.sum(at(query, 15) * at(key, 13), axis=-1), rtol=1e-5)
    assert np.abs(near - np.sum(at(query, 15) * at(key, 3), axis=-1)).max() > 0.1


def test_a_quarter_turn():
    """Dimension i turns with dimension i + d / 2, the former to the latter."""
    quarter = jnp.full((1, 1, 2), np.pi / 2)
    turned = rotate(jnp.arange(1.0, 5).reshape(1, 1, 1, 4), jnp.cos(quarter), jnp.sin(quarter))
    assert_allclose(turned.ravel(), [-3, -4, 1, 2], atol=1e-6)


def test_a_rotation_in_half_precision_is_rounded_once():
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(1, 9, 2, 6)), jnp.bfloat16)
    cos, sin = rotations((LayerKind(),), 6, jnp.arange(9)[None])
    expected = rotate(x.astype(jnp.float32), cos[0], sin[0]).astype(jnp.bfloat16)
    np.testing.assert_array_equal(rotate(x, cos[0], sin[0]), expected)
