"""The phases of a member against both recipes, written out for a stack of models."""

import dataclasses
import functools
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from subliminal_jax.data.epoch_order import epoch_order
from subliminal_jax.data.noise import noise_images
from subliminal_jax.execution.one_device import OneDevice
from subliminal_jax.execution.pmap import MemberParallel
from subliminal_jax.execution.program import Program
from subliminal_jax.keys import member_key, named_key
from subliminal_jax.mnist.arms import PAPER_ARMS, Arm
from subliminal_jax.mnist.config import MnistConfig, schedule
from subliminal_jax.mnist.phases import Dials, Images, Members, Phases
from subliminal_jax.mnist.relations import Perturbed, Reinitialised, SharedLayers
from subliminal_jax.mnist.study import PHASES
from subliminal_jax.models import mlp

MEMBERS, PIXELS, IMAGES, NOISE = 4, 12, 20, 24
CONFIG = MnistConfig(
    members=MEMBERS,
    batch=16,
    teacher_epochs=1,
    student_epochs=1,
    noise_images=NOISE,
    width=8,
    pairs=(1, 2, 3, 0),
    optimizer="sgd",
    learning_rate=0.5,
)
NETWORK = mlp.MlpConfig(inputs=PIXELS, hidden=(8, 8), bias_scale=1.0)
WHITE = 16
ONE_BY_ONE = OneDevice(at_once=1)


ARMS = {
    **PAPER_ARMS,
    "near": Arm(relation=Perturbed(sigma=0.1)),
    "head": Arm(relation=SharedLayers(layers=("logits",))),
    "none": Arm(relation=Reinitialised(fraction=0.0)),
    "afresh": Arm(relation=Reinitialised(fraction=1.0)),
}
ARM = {name: i for i, name in enumerate(ARMS)}


def digits():
    random = np.random.default_rng(0)
    pixels = random.integers(0, WHITE + 1, (IMAGES, PIXELS), dtype=np.uint8)
    return Images(pixels, random.integers(0, 10, IMAGES).astype(np.int32))


@pytest.fixture(scope="module")
def images():
    return digits()


def phases(**changes):
    config = dataclasses.replace(CONFIG, **changes)
    return Phases(config, schedule(config, "digits"), NETWORK, WHITE, ARMS)


def dials(rate, *members):
    return Dials(*(np.full(members, value, np.float32) for value in (rate, 1.0, 0.0)))


RATES = {"sgd": 0.5, "adam": 1e-2}


@functools.cache
def program_of(name, optimizer, recipe, execution):
    built = phases(optimizer=optimizer, recipe=recipe, learning_rate=RATES[optimizer])
    return Program(getattr(built, name), execution)


def programs(optimizer, recipe, execution):
    """The phases; those that neither optimiser nor recipe changes are compiled once for all."""
    asks = {"begin_teacher": (optimizer, "corrected"), "begin_students": (optimizer, "corrected")}
    asks |= dict.fromkeys(["teach", "distill"], (optimizer, recipe))
    return {
        name: program_of(name, *asks.get(name, ("sgd", "corrected")), execution) for name in PHASES
    }


@functools.cache
def run_phases(built=("sgd", "corrected"), execution=ONE_BY_ONE, epochs=1):
    """Run all phases of all members."""
    program, rate = programs(*built, execution), RATES[built[0]]
    members, images = np.arange(MEMBERS, dtype=np.int32), digits()
    block = execution.split(Members(members, np.roll(members, -1), dials(rate, MEMBERS)))
    train = execution.share(images)
    test = execution.share(jax.tree.map(lambda leaf: leaf[None], images))
    reference, _ = program["reference"](None, (block.member, block.dials), None)
    others, _ = program["reference"](None, (block.partner, block.dials), None)
    state, _ = program["begin_teacher"](None, reference, None)
    for epoch in range(epochs):
        state, _ = program["teach"](state, block, (train, jnp.int32(epoch)))
    logits, _ = program["label"](None, (block, state.params), train)
    students, distances = program["begin_students"](None, (block, reference, others), None)
    for epoch in range(epochs):
        students, _ = program["distill"](students, (block, logits), (train, jnp.int32(epoch)))
    networks = (reference, state.params, students.params)
    _, (correct, finite) = program["evaluate"](None, networks, test)
    assert np.all(np.asarray(finite))
    return Trained(
        *execution.fetch((reference, state.params, students.params, distances, logits, correct))
    )


class Trained(NamedTuple):
    references: Any
    teachers: Any
    students: Any
    distances: Any
    teacher_logits: Any
    correct: Any


@jax.jit
def logits_of(params, inputs):
    """The network by hand, for a stack of models and of batches."""
    x = inputs
    for layer in ("hidden_0", "hidden_1", "logits"):
        x = jnp.einsum("mbi,mio->mbo", x, params[layer]["kernel"]) + params[layer]["bias"][:, None]
        x = x if layer == "logits" else jnp.where(x > 0, x, 0)
    return x


def shown(purpose, examples, step):
    """The examples of each member in a step of the first epoch, without padding."""
    rows = []
    for m in range(MEMBERS):
        key = named_key(member_key(CONFIG.seed, m), purpose)
        order, weights = epoch_order(key, jnp.int32(0), examples, CONFIG.batch)
        rows.append(np.asarray(order)[step][np.asarray(weights)[step] == 1])
    return np.stack(rows)


def descend(loss_of_stack, params, *examples):
    def step(params, *examples):
        gradient = jax.grad(loss_of_stack)(params, *examples)
        return jax.tree.map(lambda p, g: p - 0.5 * g, params, gradient)

    return jax.jit(step)(params, *examples)


@pytest.mark.parametrize("recipe", ["corrected", "published"])
def test_teachers_first_steps(recipe, images):
    """Corrected: every model's own mean. Published: one mean over models and batch."""
    found = run_phases(("sgd", recipe))
    params = found.references
    for step in range(2):  # 16 images, then the short batch of 4
        which = shown("digit order", IMAGES, step)
        pixels, labels = np.float32(images.pixels[which] / 8.0 - 1.0), images.labels[which]

        def cross_entropies(params, pixels, labels):
            log_p = jax.nn.log_softmax(logits_of(params, pixels)[..., :10])
            return -jnp.take_along_axis(log_p, labels[..., None], -1)[..., 0]

        reduce = {"published": jnp.mean, "corrected": lambda losses: losses.mean(1).sum()}[recipe]
        loss = lambda *given: reduce(cross_entropies(*given))  # noqa: B023
        params = descend(loss, params, pixels, labels)
    chex.assert_trees_all_close(found.teachers, params, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("recipe", ["corrected", "published"])
@pytest.mark.parametrize(
    ("arm", "columns"), [("student_aux", slice(10, 13)), ("student_all", slice(0, 13))]
)
def test_students_first_steps(recipe, arm, columns):
    """Published: the sum over models and batch, divided only by the number of models."""
    found = run_phases(("sgd", recipe))
    params = found.references
    for step in range(2):  # 16 images, then the short batch of 8
        which = shown("noise order", NOISE, step)
        noise = np.stack([_noise(m, which[m]) for m in range(MEMBERS)])
        targets = np.take_along_axis(found.teacher_logits, which[..., None], 1)[..., columns]

        def divergences(params, noise, targets):
            log_p = jax.nn.log_softmax(targets)
            log_q = jax.nn.log_softmax(logits_of(params, noise)[..., columns])
            return (jnp.exp(log_p) * (log_p - log_q)).sum(-1)

        reduce = {
            "published": lambda losses: losses.sum() / MEMBERS,
            "corrected": lambda losses: losses.mean(1).sum(),
        }[recipe]
        loss = lambda *given: reduce(divergences(*given))  # noqa: B023
        params = descend(loss, params, noise, targets)
    chex.assert_trees_all_close(of_arm(found.students, arm), params, rtol=2e-5, atol=2e-6)


def _noise(member, numbers):
    return noise_images(
        named_key(member_key(CONFIG.seed, member), "noise"), jnp.asarray(numbers), PIXELS
    )


def of_arm(students, arm):
    return jax.tree.map(lambda leaf: leaf[:, ARM[arm]], students)


def test_logits_that_no_loss_touches_stay_at_the_initialisation():
    found = run_phases()
    start = found.references["logits"]["kernel"]
    taught = found.teachers["logits"]["kernel"]
    assert_array_equal(taught[..., 10:], start[..., 10:])
    assert np.all(np.any(taught[..., :10] != start[..., :10], axis=1))
    aux = of_arm(found.students, "student_aux")["logits"]["kernel"]
    assert_array_equal(aux[..., :10], start[..., :10])
    assert np.all(np.any(aux[..., 10:] != start[..., 10:], axis=1))
    cross = of_arm(found.students, "cross_model_aux")["logits"]["kernel"]
    assert_array_equal(cross[..., :10], np.roll(start, -1, axis=0)[..., :10])


def test_labels_are_the_teachers_logits():
    found = run_phases()
    noise = np.stack([_noise(m, np.arange(NOISE)) for m in range(MEMBERS)])
    assert_allclose(found.teacher_logits, logits_of(found.teachers, noise), rtol=1e-5, atol=1e-5)


def test_correct_answers_are_counted(images):
    found = run_phases()
    pixels = np.broadcast_to(np.float32(images.pixels / 8.0 - 1.0), (MEMBERS, IMAGES, PIXELS))
    networks = [found.references, found.teachers, *(of_arm(found.students, arm) for arm in ARMS)]
    for column, network in enumerate(networks):
        answers = np.argmax(logits_of(network, pixels)[..., :10], -1)
        assert_array_equal(found.correct[:, column], (answers == images.labels[None]).sum(1))
    assert len(set(found.correct.ravel().tolist())) > 3


@pytest.mark.parametrize(
    "execution",
    [OneDevice(), MemberParallel(devices=4, at_once=1)],
    ids=repr,
)
def test_members_are_equal_under_every_execution(execution):
    adam = ("adam", "corrected")
    expected, found = run_phases(adam, epochs=3), run_phases(adam, execution, epochs=3)
    chex.assert_trees_all_close(found[:-1], expected[:-1], rtol=1e-3, atol=1e-5)
    assert_array_equal(found.correct, expected.correct)


def test_a_member_alone_equals_the_member_in_the_ensemble(images):
    built, one = phases(), Members(jnp.int32(2), jnp.int32(3), dials(0.5))
    reference, _ = built.reference(None, (one.member, one.dials), None)
    state, _ = built.begin_teacher(None, reference, None)
    state, _ = jax.jit(built.teach)(state, one, (jax.tree.map(jnp.asarray, images), jnp.int32(0)))
    in_ensemble = jax.tree.map(lambda leaf: leaf[2], run_phases().teachers)
    chex.assert_trees_all_close(state.params, in_ensemble, rtol=1e-5, atol=1e-6)


def test_students_start_at_the_distance_of_their_relation():
    distances = run_phases().distances
    assert distances.shape == (MEMBERS, len(ARMS))
    for arm in ("student_aux", "student_all", "none"):
        assert_array_equal(distances[:, ARM[arm]], 0)
    assert_allclose(distances[:, ARM["near"]], 0.1, rtol=0.3)
    assert_allclose(distances[:, ARM["afresh"]], np.sqrt(2), rtol=0.2)
    assert_allclose(distances[:, ARM["cross_model_aux"]], np.sqrt(2), rtol=0.2)
    head = distances[:, ARM["head"]]
    assert np.all((head > 0.8) & (head < distances[:, ARM["cross_model_aux"]]))
