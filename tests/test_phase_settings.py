"""Every setting that the phases read makes the difference it says, one member at a time."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from subliminal_jax.data.noise import noise_images
from subliminal_jax.data.order import epoch_order
from subliminal_jax.keys import member_key, named_key
from subliminal_jax.losses import kl_divergence, squared_error
from subliminal_jax.mnist.arms import Arm
from subliminal_jax.mnist.config import MnistConfig, schedule
from subliminal_jax.mnist.phases import Images, Pair, Phases
from subliminal_jax.models import mlp
from subliminal_jax.relations import Same

PIXELS, WHITE, BATCH = 12, 16, 8
NETWORK = mlp.MlpConfig(inputs=PIXELS, hidden=(8,))
ONE = Pair(jnp.int32(1), jnp.int32(0))
ARMS = {"same": Arm(relation=Same(), logits="all")}
# Equal for all members and arms, so that one student stands for all; one step is one epoch.
CONFIG = MnistConfig(
    members=2, batch=BATCH, noise_images=BATCH, optimizer="sgd", learning_rate=0.5, depth=1, width=8
)


def phases(**changes):
    config = dataclasses.replace(CONFIG, **changes)
    return Phases(config, schedule(config, "digits"), NETWORK, WHITE, ARMS)


def key_of(seed, purpose):
    return named_key(member_key(seed, ONE.member), purpose)


@pytest.fixture(scope="module")
def params():
    return mlp.init(NETWORK, jax.random.key(8))


@pytest.fixture(scope="module")
def images():
    random = np.random.default_rng(1)
    pixels = random.integers(0, WHITE + 1, (BATCH, PIXELS), dtype=np.uint8)
    return Images(jnp.asarray(pixels), jnp.asarray(random.integers(0, 10, BATCH), jnp.int32))


def noise_of(seed=0, law="uniform", bits=8, stretch=1.0, shift=0.0):
    plain = noise_images(key_of(seed, "noise"), jnp.arange(BATCH), PIXELS, law, bits)
    return plain * stretch + shift


@pytest.mark.parametrize(
    ("changes", "noise"),
    [
        ({}, {}),
        ({"seed": 5}, {"seed": 5}),
        ({"noise": "gaussian"}, {"law": "gaussian"}),
        ({"noise_bits": 16}, {"bits": 16}),
        ({"pixel_range": (0.0, 1.0)}, {"stretch": 0.5, "shift": 0.5}),
        ({"pixel_range": (-3.0, 1.0)}, {"stretch": 2.0, "shift": -1.0}),
    ],
)
def test_the_noise_that_is_labelled(params, changes, noise):
    logits, _ = jax.jit(phases(**changes).label)(None, (ONE, params), None)
    assert_allclose(logits, mlp.apply(NETWORK, params, noise_of(**noise)), rtol=1e-4, atol=1e-5)
    if changes:
        unchanged = mlp.apply(NETWORK, params, noise_of())
        assert np.abs(logits - unchanged).max() > 1e-3


@pytest.mark.parametrize("span", [(-1.0, 1.0), (0.0, 1.0), (-3.0, 1.0)])
def test_the_pixel_range_of_real_images(params, images, span):
    built = phases(pixel_range=span)
    state, _ = built.begin_teacher(None, params, None)
    state, _ = jax.jit(built.teach)(state, ONE, (images, jnp.int32(0)))
    inputs = span[0] + (span[1] - span[0]) * images.pixels / WHITE

    def loss(params):
        log_p = jax.nn.log_softmax(mlp.apply(NETWORK, params, inputs)[:, :10])
        return -jnp.mean(log_p[jnp.arange(BATCH), images.labels])

    expected = jax.tree.map(lambda p, g: p - 0.5 * g, params, jax.grad(loss)(params))
    chex.assert_trees_all_close(state.params, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "criterion"),
    [
        ({}, lambda student, teacher: kl_divergence(student, teacher, jnp.ones(13, bool))),
        (
            {"temperature": 3.0},
            lambda student, teacher: kl_divergence(student, teacher, jnp.ones(13, bool), 3.0),
        ),
        ({"loss": "mse"}, lambda s, t: squared_error(s, t, jnp.ones(13, bool))),
        ({"learning_rate": 0.25}, lambda s, t: kl_divergence(s, t, jnp.ones(13, bool)) / 2),
    ],
    ids=["kl", "temperature", "mse", "learning rate"],
)  # fmt: skip
def test_what_a_student_minimises(params, changes, criterion):
    built = phases(**changes)
    teacher_logits = 3 * jax.random.normal(jax.random.key(2), (BATCH, 13))
    states, _ = built.begin_students(None, (ONE, params, params), None)
    states, _ = jax.jit(built.distill)(states, (ONE, teacher_logits), jnp.int32(0))
    noise = noise_of()

    def loss(params):
        return criterion(mlp.apply(NETWORK, params, noise), teacher_logits).mean()

    expected = jax.tree.map(lambda p, g: p - 0.5 * g, params, jax.grad(loss)(params))
    found = jax.tree.map(lambda leaf: leaf[0], states.params)
    chex.assert_trees_all_close(found, expected, rtol=1e-4, atol=1e-5)


def test_every_epoch_has_an_order_of_its_own(params):
    built = phases(noise_images=3 * BATCH)
    logits = jax.random.normal(jax.random.key(2), (3 * BATCH, 13))
    students = []
    for epoch in (0, 1):
        states, _ = built.begin_students(None, (ONE, params, params), None)
        states, _ = jax.jit(built.distill)(states, (ONE, logits), jnp.int32(epoch))
        students.append(states.params["logits"]["kernel"])
    assert np.abs(students[0] - students[1]).max() > 1e-4
    orders = [epoch_order(key_of(0, "noise order"), jnp.int32(e), 3 * BATCH, BATCH) for e in (0, 1)]
    assert not np.array_equal(orders[0][0], orders[1][0])


def test_a_seed_gives_every_member_another_start():
    starts = {
        (seed, member): phases(seed=seed).reference(None, jnp.int32(member), None)[0]
        for seed in (0, 1)
        for member in (0, 1)
    }
    kernels = [np.asarray(start["logits"]["kernel"]) for start in starts.values()]
    for i, one in enumerate(kernels):
        for other in kernels[:i]:
            assert np.mean(one == other) < 0.01


def test_purposes_have_keys_of_their_own():
    purposes = ["reference", "digit order", "noise", "noise order", "fresh draw", "drawn afresh"]
    data = [tuple(jax.random.key_data(key_of(0, purpose)).tolist()) for purpose in purposes]
    assert len(set(data)) == len(purposes)


def test_a_network_that_is_not_finite_reads_nothing(params, images):
    built = phases()
    batches = jax.tree.map(lambda leaf: leaf[None], images)
    broken = jax.tree.map(lambda leaf: leaf.at[..., 0].set(jnp.nan), params)
    students = jax.tree.map(lambda *leaves: jnp.stack(leaves), params, broken)
    _, (_, finite) = jax.jit(built.evaluate)(None, (params, broken, students), batches)
    assert_array_equal(finite, [True, False, True, False])
