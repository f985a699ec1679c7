"""Every setting that the phases read has its documented effect, on one member."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from subliminal_jax import ensemble
from subliminal_jax.data.epoch_order import epoch_order
from subliminal_jax.data.noise import noise_images
from subliminal_jax.keys import member_key, named_key
from subliminal_jax.losses import kl_divergence, squared_error
from subliminal_jax.mnist.arms import Arm
from subliminal_jax.mnist.config import MnistConfig, schedule
from subliminal_jax.mnist.phases import Dials, Images, Members, Phases
from subliminal_jax.mnist.relations import Same
from subliminal_jax.models import mlp

PIXELS, WHITE, BATCH = 12, 16, 8
NETWORK = mlp.MlpConfig(inputs=PIXELS, hidden=(8,), bias_scale=1.0)
NO_DIGITS = Images(jnp.zeros((1, PIXELS), jnp.uint8), jnp.zeros(1, jnp.int32))
DIALS = Dials(*map(jnp.float32, (0.5, 1.0, 0.0)))
ONE = Members(jnp.int32(1), jnp.int32(0), DIALS)
ARMS = {"same": Arm(relation=Same(), logits="all")}
# One arm, and one step per epoch.
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
    logits, _ = jax.jit(phases(**changes).label)(None, (ONE, params), NO_DIGITS)
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
    ],
    ids=["kl", "temperature", "mse"],
)  # fmt: skip
def test_what_a_student_minimises(params, changes, criterion):
    built = phases(**changes)
    teacher_logits = 3 * jax.random.normal(jax.random.key(2), (BATCH, 13))
    states, _ = built.begin_students(None, (ONE, params, params), None)
    shared = (NO_DIGITS, jnp.int32(0))
    states, _ = jax.jit(built.distill)(states, (ONE, teacher_logits), shared)
    noise = noise_of()

    def loss(params):
        return criterion(mlp.apply(NETWORK, params, noise), teacher_logits).mean()

    expected = jax.tree.map(lambda p, g: p - 0.5 * g, params, jax.grad(loss)(params))
    found = jax.tree.map(lambda leaf: leaf[0], states.params)
    chex.assert_trees_all_close(found, expected, rtol=1e-4, atol=1e-5)


def test_every_epoch_has_its_own_order(params):
    built = phases(noise_images=3 * BATCH)
    logits = jax.random.normal(jax.random.key(2), (3 * BATCH, 13))
    students = []
    for epoch in (0, 1):
        states, _ = built.begin_students(None, (ONE, params, params), None)
        shared = (NO_DIGITS, jnp.int32(epoch))
        states, _ = jax.jit(built.distill)(states, (ONE, logits), shared)
        students.append(states.params["logits"]["kernel"])
    assert np.abs(students[0] - students[1]).max() > 1e-4
    orders = [epoch_order(key_of(0, "noise order"), jnp.int32(e), 3 * BATCH, BATCH) for e in (0, 1)]
    assert not np.array_equal(orders[0][0], orders[1][0])


def test_initialisations_differ_between_seeds_and_members():
    starts = {
        (seed, member): phases(seed=seed).reference(None, (jnp.int32(member), DIALS), None)[0]
        for seed in (0, 1)
        for member in (0, 1)
    }
    kernels = [np.asarray(start["logits"]["kernel"]) for start in starts.values()]
    for i, one in enumerate(kernels):
        for other in kernels[:i]:
            assert np.mean(one == other) < 0.01


def test_every_purpose_has_its_own_key():
    purposes = ["reference", "digit order", "noise", "noise order", "fresh draw", "drawn afresh"]
    data = [tuple(jax.random.key_data(key_of(0, purpose)).tolist()) for purpose in purposes]
    assert len(set(data)) == len(purposes)


def test_evaluation_reports_networks_that_are_not_finite(params, images):
    built = phases()
    batches = jax.tree.map(lambda leaf: leaf[None], images)
    broken = jax.tree.map(lambda leaf: leaf.at[..., 0].set(jnp.nan), params)
    students = jax.tree.map(lambda *leaves: jnp.stack(leaves), params, broken)
    _, (_, finite) = jax.jit(built.evaluate)(None, (params, broken, students), batches)
    assert_array_equal(finite, [True, False, True, False])


def test_the_dials_scale_initialisations_and_steps(params, images):
    built = phases()
    turned = DIALS._replace(weight_scale=jnp.float32(3.0), bias_scale=jnp.float32(0.5))
    plain, _ = built.reference(None, (ONE.member, DIALS), None)
    scaled, _ = built.reference(None, (ONE.member, turned), None)
    for layer in plain:
        assert_allclose(scaled[layer]["kernel"], 3 * plain[layer]["kernel"], rtol=1e-6)
        assert_array_equal(plain[layer]["bias"], 0)
        assert 0.1 < np.std(scaled[layer]["bias"]) < 1.0
    start, _ = built.begin_teacher(None, params, None)
    moved = []
    for rate in (0.5, 0.25):
        who = ONE._replace(dials=DIALS._replace(learning_rate=jnp.float32(rate)))
        state, _ = jax.jit(built.teach)(start, who, (images, jnp.int32(0)))
        moved.append(state.params["logits"]["bias"] - params["logits"]["bias"])
    assert_allclose(moved[0], 2 * moved[1], rtol=1e-4, atol=1e-7)


def distilled(built, params, logits, digits=NO_DIGITS):
    states, _ = built.begin_students(None, (ONE, params, params), None)
    states, _ = jax.jit(built.distill)(states, (ONE, logits), (digits, jnp.int32(0)))
    return states.params


def test_fewer_auxiliary_logits_equal_a_narrower_network(params):
    """An arm with surplus columns trains exactly as a network without them."""
    logits = jax.random.normal(jax.random.key(2), (BATCH, 13))
    narrow = mlp.MlpConfig(inputs=PIXELS, hidden=(8,), aux=2)
    cut = {**params, "logits": jax.tree.map(lambda leaf: leaf[..., :12], params["logits"])}
    for which in ("aux", "all"):
        arms = {"two": Arm(relation=Same(), logits=which, aux=2)}
        padded = distilled(dataclasses.replace(phases(), arms=arms), params, logits)
        alone = {"all": Arm(relation=Same(), logits=which)}
        expected = distilled(
            dataclasses.replace(phases(), arms=alone, network=narrow), cut, logits[:, :12]
        )
        found = jax.tree.map(lambda leaf: leaf[..., :12], padded["logits"])
        chex.assert_trees_all_close(found, expected["logits"], rtol=1e-5, atol=1e-7)
        chex.assert_trees_all_close(padded["hidden_0"], expected["hidden_0"], rtol=1e-5, atol=1e-7)
        kept = params["logits"]["kernel"][:, 12]
        assert_array_equal(padded["logits"]["kernel"][0, :, 12], kept)


def test_arms_of_two_losses_train_side_by_side(params):
    logits = 3 * jax.random.normal(jax.random.key(2), (BATCH, 13))
    arms = {
        "mse": Arm(relation=Same(), logits="all", loss="mse"),
        "warm": Arm(relation=Same(), logits="all", temperature=3.0),
    }
    both = distilled(dataclasses.replace(phases(), arms=arms), params, logits)
    alone = [phases(loss="mse"), phases(temperature=3.0)]
    expected = ensemble.stack(
        [jax.tree.map(lambda leaf: leaf[0], distilled(one, params, logits)) for one in alone]
    )
    chex.assert_trees_all_close(both, expected, rtol=1e-4, atol=1e-6)


def test_heads_that_do_not_train_keep_their_values(params, images):
    built = phases(train_heads=False)
    state, _ = built.begin_teacher(None, params, None)
    state, _ = jax.jit(built.teach)(state, ONE, (images, jnp.int32(0)))
    chex.assert_trees_all_equal(state.params["logits"], params["logits"])
    assert np.abs(state.params["hidden_0"]["kernel"] - params["hidden_0"]["kernel"]).max() > 1e-4
    logits = jax.random.normal(jax.random.key(2), (BATCH, 13))
    student = distilled(built, params, logits)
    chex.assert_trees_all_equal(
        jax.tree.map(lambda leaf: leaf[0], student["logits"]), params["logits"]
    )


def test_a_student_of_another_depth_takes_the_layers_that_fit(params, images):
    built = phases(student_depth=2)
    others = jax.tree.map(jnp.zeros_like, params)
    states, distance = built.begin_students(None, (ONE, params, others), None)
    student = jax.tree.map(lambda leaf: leaf[0], states.params)
    assert list(student) == ["hidden_0", "hidden_1", "logits"]
    for layer in params:
        chex.assert_trees_all_equal(student[layer], params[layer])
    assert student["hidden_1"]["kernel"].shape == (8, 8)
    assert_array_equal(distance, 0)
    batches = jax.tree.map(lambda leaf: leaf[None], images)
    _, (correct, finite) = built.evaluate(None, (params, params, states.params), batches)
    assert finite.all()
    assert correct.shape == (3,)


def test_students_may_see_the_training_images(params, images):
    logits, _ = jax.jit(phases(noise="digits").label)(None, (ONE, params), images)
    expected = mlp.apply(NETWORK, params, images.pixels / (WHITE / 2) - 1.0)
    assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
