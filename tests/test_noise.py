"""Noise images: fixed by key and number, and distributed as stated."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy import stats

from subliminal_jax.data.noise import noise_images


def test_an_image_depends_on_its_number_alone(key):
    together = noise_images(key, jnp.arange(10), 784)
    elsewhere = noise_images(key, jnp.array([7, 3, 3]), 784)
    assert_array_equal(elsewhere, together[jnp.array([7, 3, 3])])
    alone = jax.vmap(lambda i: noise_images(key, i[None], 784)[0])(jnp.array([7]))
    assert_array_equal(alone[0], together[7])


def test_keys_name_different_sets(key):
    one, two = (noise_images(k, jnp.arange(3), 64) for k in jax.random.split(key))
    assert np.mean(np.asarray(one == two)) < 0.03


def test_numbers_name_different_images(key):
    images = np.asarray(noise_images(key, jnp.arange(200), 64))
    assert len({image.tobytes() for image in images}) == 200
    correlation = np.corrcoef(images)
    assert np.abs(correlation - np.eye(200)).max() < 0.65  # sd 1/8 over 20,000 pairs


@pytest.mark.parametrize("bits", [8, 16])
def test_uniform_pixels_are_uniform(bits, key):
    pixels = np.asarray(noise_images(key, jnp.arange(300), 301, "uniform", bits), np.float64)
    assert pixels.shape == (300, 301)
    assert np.abs(pixels).max() < 1
    levels = np.unique((pixels + 1) * 2 ** (bits - 1) - 0.5)
    assert_array_equal(levels, np.round(levels))
    assert (len(levels) == 256) == (bits == 8)
    counts, _ = np.histogram(pixels, bins=32, range=(-1, 1))
    assert stats.chisquare(counts).pvalue > 1e-4
    neighbours = np.corrcoef(pixels[:, 0:-1].ravel(), pixels[:, 1:].ravel())[0, 1]
    assert abs(neighbours) < 0.015  # sd .0033


def test_gaussian_pixels_are_gaussian_with_the_uniform_variance(key):
    pixels = np.asarray(noise_images(key, jnp.arange(100), 784, "gaussian", 16)).ravel()
    assert stats.kstest(pixels, stats.norm(0, np.sqrt(1 / 3)).cdf).pvalue > 1e-4


def test_blurred_noise_keeps_its_variance_and_joins_neighbours(key):
    plain = noise_images(key, jnp.arange(400), 64)
    soft = np.asarray(noise_images(key, jnp.arange(400), 64, "blurred", blur=1.0))
    assert abs(soft.mean()) < 0.02
    assert soft.var() == pytest.approx(1 / 3, rel=0.05)
    square = soft.reshape(-1, 8, 8)
    neighbours = np.mean(square * np.roll(square, 1, axis=2)) / soft.var()
    assert neighbours == pytest.approx(np.exp(-1 / 4), abs=0.03)  # of two Gaussians one pixel apart
    far = np.mean(square * np.roll(square, 4, axis=1)) / soft.var()
    assert abs(far) < 0.08
    # by hand: every image is its own noise, convolved with the kernel on a torus
    apart = np.minimum(np.arange(8), 8 - np.arange(8))
    row = np.exp(-0.5 * apart**2)
    row /= np.linalg.norm(row)
    expected = sum(
        row[i] * row[j] * np.roll(np.asarray(plain[3]).reshape(8, 8), (i, j), axis=(0, 1))
        for i in range(8) for j in range(8)
    )  # fmt: skip
    np.testing.assert_allclose(square[3], expected, rtol=1e-4, atol=1e-5)
