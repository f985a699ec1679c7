"""Gradients compared, steered and projected; probes and similarities of features."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scripts import results_of

from subliminal_jax.mnist.arms import Arm
from subliminal_jax.mnist.config import MnistConfig, schedule
from subliminal_jax.mnist.phases import Dials, Images, Pair, Phases
from subliminal_jax.models import mlp
from subliminal_jax.optimizers import make_optimizer
from subliminal_jax.relations import Same
from subliminal_jax.theory import alignment_results
from subliminal_jax.theory.alignment import project_out, tracked_epoch
from subliminal_jax.theory.alignment_config import ARMS
from subliminal_jax.theory.representation import features, linear_cka, probe_epoch
from subliminal_jax.theory.theorem import dot
from subliminal_jax.train import init_state

PIXELS, BATCH = 12, 8
NETWORK = mlp.MlpConfig(inputs=PIXELS, hidden=(6,), bias_scale=1.0)
CONFIG = MnistConfig(members=2, batch=BATCH, noise_images=2 * BATCH, optimizer="sgd", depth=1)
ONE = Pair(jnp.int32(1), jnp.int32(0), Dials(*map(jnp.float32, (0.5, 1.0, 1.0))))
STEERINGS = (("nothing", 0.0), ("trait", 0.0), ("shuffled trait", 0.0), ("nothing", 1.0))
STUDENTS = {name: Arm(relation=Same()) for name in ("plain", "projected", "control", "held")}
PHASES = Phases(CONFIG, schedule(CONFIG, "digits"), NETWORK, 16, STUDENTS)


@pytest.fixture(scope="module")
def params():
    return mlp.init(NETWORK, jax.random.key(3))


@pytest.fixture(scope="module")
def digits():
    random = np.random.default_rng(0)
    pixels = random.integers(0, 17, (BATCH, PIXELS), dtype=np.uint8)
    return Images(jnp.asarray(pixels), jnp.asarray(random.integers(0, 10, BATCH), jnp.int32))


def random_tree(seed):
    random = np.random.default_rng(seed)
    shapes = {"a": (4,), "b": (2, 3)}
    return {name: jnp.asarray(random.standard_normal(shape)) for name, shape in shapes.items()}


def arm(tree, place):
    return jax.tree.map(lambda leaf: leaf[place], tree)


def test_what_is_projected_out_is_gone():
    gradient, direction = random_tree(1), random_tree(2)
    left = project_out(gradient, direction)
    assert_allclose(dot(left, direction), 0, atol=1e-6)
    factor = dot(gradient, direction) / dot(direction, direction)
    taken = jax.tree.map(jnp.subtract, gradient, left)
    chex.assert_trees_all_close(taken, jax.tree.map(lambda d: factor * d, direction), atol=1e-6)
    half = project_out(gradient, direction, 0.5)
    assert_allclose(dot(half, direction), dot(gradient, direction) / 2, rtol=1e-5)
    nothing = jax.tree.map(jnp.zeros_like, direction)
    chex.assert_trees_all_equal(project_out(gradient, nothing), gradient)


@pytest.fixture(scope="module")
def tracked(params, digits):
    """One epoch, of two steps, of the four ways to steer; and the plain phase's."""
    logits = jax.random.normal(jax.random.key(4), (2 * BATCH, 13))
    states, _ = PHASES.begin_students(None, (ONE, params, params), None)
    run = jax.jit(partial(tracked_epoch, PHASES, STEERINGS))
    member = (ONE, states.params, logits)
    held = run(states, member, (digits, jnp.int32(0), jnp.int32(1)))
    free = run(states, member, (digits, jnp.int32(0), jnp.int32(0)))
    plain = jax.jit(PHASES.distill)(states, (ONE, logits), (digits, jnp.int32(0)))
    return held, free, plain


def test_an_arm_that_is_not_steered_is_the_plain_student(tracked):
    (states, (cosine, loss)), _, (plain, plain_loss) = tracked
    chex.assert_trees_all_close(arm(states.params, 0), arm(plain.params, 0), rtol=1e-5, atol=1e-6)
    assert_allclose(loss[:, 0], plain_loss[:, 0], rtol=1e-5)
    assert cosine.shape == (2, 4)
    assert np.all(np.abs(cosine) <= 1)
    assert_allclose(cosine[0], cosine[0, 0], rtol=1e-5)  # before the first step all are equal


def test_steered_arms_go_elsewhere_and_nobody_is_held_for_ever(tracked):
    (held, _), (free, _), _ = tracked
    kernels = held.params["hidden_0"]["kernel"]
    for one in range(4):
        for other in range(one):
            assert np.abs(kernels[one] - kernels[other]).max() > 1e-6
    chex.assert_trees_all_close(arm(free.params, 3), arm(free.params, 0), rtol=1e-5, atol=1e-6)


def test_features_are_what_the_last_layer_reads(params):
    images = jnp.asarray(np.random.default_rng(2).uniform(-1, 1, (5, PIXELS)), jnp.float32)
    found, hidden = features(NETWORK, params, images), params["hidden_0"]
    by_hand = np.maximum(images @ hidden["kernel"] + hidden["bias"][None], 0)
    assert_allclose(found, by_hand, atol=1e-6)


def test_cka_by_hand():
    random = np.random.default_rng(3)
    a = jnp.asarray(random.standard_normal((40, 3)), jnp.float32)
    rotation = jnp.asarray(np.linalg.qr(random.standard_normal((3, 3)))[0], jnp.float32)
    assert_allclose(linear_cka(a, 5 * a @ rotation + 2), 1, rtol=1e-5)
    x, y = [1.0, 2.0, 3.0, 6.0], [1.0, 3.0, 2.0, 2.0]
    columns = (jnp.asarray(one, jnp.float32)[:, None] for one in (x, y))
    assert_allclose(linear_cka(*columns), np.corrcoef(x, y)[0, 1] ** 2, rtol=1e-5)


def test_a_probe_moves_the_class_head_alone(params, digits):
    both = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), params)
    states = jax.vmap(lambda one: init_state(one, make_optimizer("adam", 0.1)))(both)
    probe = jax.jit(partial(probe_epoch, PHASES, 0.1))
    probed, losses = probe(states, ONE, (digits, jnp.int32(0)))
    chex.assert_trees_all_equal(probed.params["hidden_0"], both["hidden_0"])
    moved = probed.params["logits"]["kernel"] - both["logits"]["kernel"]
    assert np.abs(moved[..., :10]).max() > 0.05
    assert_allclose(moved[..., 10:], 0)
    assert losses.shape == (1, 2)


def rows(members):
    random = np.random.default_rng(0)
    networks = ("reference", "teacher", *ARMS)
    return [
        {
            "member": m,
            "accuracy": {name: 0.1 + 0.05 * i + 0.01 * m for i, name in enumerate(networks)},
            "probe": dict.fromkeys(networks, 0.9),
            "cka": {name: 0.5 + 0.05 * i + 0.01 * m for i, name in enumerate(ARMS)},
            "loss": dict.fromkeys(ARMS, 0.01),
            "cosine": {name: (0.1 + 0.01 * random.standard_normal(4)).tolist() for name in ARMS},
        }
        for m in range(members)
    ]


def test_results_by_hand():
    found = alignment_results.summarise(rows(3))
    assert found["networks"]["same"]["accuracy"]["mean"] == pytest.approx(0.21)
    assert found["differences"]["projection"]["mean"] == pytest.approx(0.1)
    assert found["differences"]["same_over_different"]["mean"] == pytest.approx(-0.05)
    assert found["cosine"]["same"]["positive_steps"] == 1.0
    assert len(found["cosine"]["same"]["curve"]) == 4
    assert found["cka_accuracy"]["all"] == pytest.approx(1.0)
    assert "0.874" in alignment_results.tables(found)[0].text()


def test_the_script_from_flags_to_files(script, tmp_path):
    words = "--data digits --members 2 --width 8 --batch 256 --teacher-epochs 1 --student-epochs 1"
    words += " --noise-images 256 --probe-epochs 1 --out run"
    ended = script("mnist_alignment", *words.split())
    assert ended.status == 0, ended.err
    results = results_of(tmp_path / "run")
    assert set(results["networks"]) == {"reference", "teacher", *ARMS}
    assert results["networks"]["same"]["accuracy"]["n"] == 2
    for name in ("figure.png", "figure.pdf", "report.html", "results.csv", "members.jsonl"):
        assert (tmp_path / "run" / name).stat().st_size > 100
    refused = script("mnist_alignment", *words.split(), "--student-depth", "3")
    assert "student_depth: features are compared" in refused.assert_one_line(2)
