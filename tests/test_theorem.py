"""Theorem 1: its quantities against hand-computed ones, and its claims on a sample of cases."""

import csv
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scripts import results_of

from subliminal_jax.losses import EXCLUDED
from subliminal_jax.models import mlp
from subliminal_jax.report.image_results import image_text
from subliminal_jax.theory import beyond, theorem
from subliminal_jax.theory import cases as draws
from subliminal_jax.theory import evidence as verification
from subliminal_jax.theory import results as verdict
from subliminal_jax.theory import tables as verdict_text
from subliminal_jax.theory.config import TheoremConfig
from subliminal_jax.theory.theorem import Imitation

PIXELS, SAMPLE = 6, draws.CASES
CONFIG = TheoremConfig(draws=SAMPLE, networks=("tanh-5x5",), batch=4, steps=(1,), beyond_draws=30)
SQUARES = Imitation(np.bool_(False), np.array([2.0, 0.0, 0.5]))
SOFTMAX = Imitation(np.bool_(True), np.array([1.0, 0.0, 1.0]))


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def linear(params, inputs):
    return inputs @ params["w"]


def random(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape)


def on_device(tree):
    return jax.tree.map(jnp.asarray, tree)


@pytest.mark.parametrize("imitation", [SQUARES, SOFTMAX], ids=["squares", "softmax"])
def test_the_curvature_is_the_hessian_of_the_imitation_loss_at_the_teacher(imitation):
    logits = jnp.asarray(random(3))
    loss = lambda z: theorem.imitation_loss(z, (logits, imitation))
    hessian = jax.jit(jax.hessian(loss))(logits)
    product = jax.jit(partial(theorem.curvature_product, logits, imitation=imitation))
    found = jnp.stack([product(row) for row in jnp.eye(3)])
    assert_allclose(found, hessian, atol=1e-12)
    assert_allclose(jax.jit(jax.grad(loss))(logits), 0, atol=1e-15)
    assert np.linalg.eigvalsh(found).min() > -1e-15
    if imitation is SOFTMAX:
        assert_allclose(product(jnp.ones(3)), 0, atol=1e-15)


def test_losses_by_hand():
    z, y = jnp.array([1.0, 5.0, 2.0]), jnp.array([0.0, -7.0, 4.0])
    assert theorem.imitation_loss(z, (y, SQUARES)) == 2 * 1 + 0.5 * 4
    p, q = 1 / (1 + np.exp(4)), 1 / (1 + np.exp(1))
    divergence = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    assert_allclose(theorem.imitation_loss(z, (y, SOFTMAX)), divergence)


def test_a_linear_student_by_hand():
    """For squares the update is exactly eps times its derivative: 2 w (x d) x, averaged."""
    w, d, x, eps = random(4, 3), random(4, 3) / 2, random(5, 4), 0.3
    change = 2 * SQUARES.weights * (x @ d)
    expected = x.T @ change / 5
    begin, direction = on_device(({"w": w}, {"w": d}))
    teacher = theorem.add(begin, direction, eps)
    direction_of = jax.jit(partial(theorem.student_direction, linear, imitation=SQUARES))
    update = direction_of(begin, teacher, x)
    assert_allclose(update["w"], eps * expected, rtol=1e-12)
    slope, derivative = theorem.predicted_slope(linear, begin, direction, jnp.asarray(x), SQUARES)
    assert_allclose(slope, np.mean(np.sum(change * (x @ d), axis=1)), rtol=1e-12)
    assert_allclose(slope, np.sum(expected * d), rtol=1e-12)
    assert_allclose(derivative["w"], expected, rtol=1e-12)


def test_one_case_by_hand():
    """Steps and changes of the teacher's loss, for a loss that is known in closed form."""
    w, other, near, x = random(4, 3), random(4, 3)[::-1].copy(), random(4, 3) * 0.1, random(5, 4)
    goal = random(4, 3) * 2
    loss = lambda params, goal: jnp.sum((params["w"] - goal) ** 2)
    start = theorem.Start({"w": w}, {"w": other}, {"w": near}, jnp.asarray(x), SQUARES, goal)
    grids = theorem.Grids(np.array([0.01, 0.1]), np.array([1.0, 7.0]), np.array([0.5]), 0.1)
    found = jax.jit(partial(theorem.measure, linear, loss, grids=grids))(start)

    size, length = np.linalg.norm, lambda tree: np.linalg.norm(tree)
    gradient = 2 * (w - goal)
    d = -gradient * size(w) / size(gradient)
    update = lambda student, eps: x.T @ (2 * SQUARES.weights * (x @ (w + eps * d - student))) / 5
    unit = update(w, 1.0)
    alpha = size(w) / size(unit)
    assert_allclose(found.norm, size(w))
    assert_allclose(found.slope, np.sum(unit * d))
    assert_allclose(found.student_slope, length(unit))
    assert_allclose(found.inner, [eps * np.sum(unit * d) for eps in grids.eps])
    change = lambda begin, step: np.sum((begin + step - goal) ** 2) - np.sum((begin - goal) ** 2)
    assert_allclose(found.change, [change(w, eps * alpha * unit) for eps in grids.eps])
    assert_allclose(found.step_change, [change(w, s * alpha * 0.1 * unit) for s in grids.steps])
    first = [np.sum(gradient * eps * alpha * unit) for eps in grids.eps]
    assert_allclose(found.predicted_change, first)
    cosine = lambda a, b: np.sum(a * b) / size(a) / size(b)
    assert_allclose(found.perturbed_cosine, [cosine(update(w + 0.5 * near, 0.1), d)])
    step = update(other, 0.1)
    assert_allclose(found.other_cosine, cosine(step, d))
    taught = step - update(other, 0.0)
    assert_allclose(found.other_effect, cosine(taught, goal - other))
    assert_allclose(found.other_change, change(other, 0.1 * size(w) / size(step) * step))


@pytest.fixture(scope="module")
def evidence():
    images, seen = np.random.default_rng(5).uniform(-1, 1, (40, PIXELS)), []
    found = verification.gather(CONFIG, (images, np.arange(40) % 10), lambda: seen.append(1))
    assert len(seen) == verification.parts(CONFIG) == 1 + 3 + 2
    return found


def test_a_shared_initialisation_never_has_the_wrong_sign(evidence):
    cases = verdict.collect(evidence)
    assert len(cases.number) == SAMPLE
    small = verification.EPS <= 1e-3
    assert not cases.wrong_sign[:, small].any()
    assert not cases.risen[:, small].any()
    assert np.all(cases.measured.slope > 0)


def test_the_error_of_the_prediction_falls_linearly(evidence):
    cases = verdict.collect(evidence)
    assert np.all(cases.error[:, 0] < 1e-3)
    assert np.median(cases.order) == pytest.approx(1, abs=0.02)
    ratio = cases.measured.change[:, 0] / cases.measured.predicted_change[:, 0]
    assert_allclose(ratio, 1, atol=1e-2)


def test_another_initialisation_has_both_signs(evidence):
    found = verdict.collect(evidence).measured
    for values in (found.other_cosine, found.other_effect):
        assert 0.2 < np.mean(values > 0) < 0.8
    kept = np.mean(found.perturbed_cosine > 0, axis=0)
    assert kept[0] > 0.95
    assert kept[-1] < 0.8


def test_nothing_is_transmitted_where_nothing_joins_the_losses(evidence):
    for case in ("linear network", "disjoint heads"):
        found = evidence.degenerate[case]
        assert_array_equal(found.inner, 0)
        assert_array_equal(found.slope, 0)
        assert_array_equal(found.student_slope, 0)
    shift = evidence.degenerate["equal shift of all logits"]
    assert np.abs(shift.inner).max() < 1e-14
    assert np.abs(shift.slope).max() < 1e-13


def test_one_step_of_each_is_followed_by_hand(evidence):
    images = np.random.default_rng(5).uniform(-1, 1, (40, PIXELS))
    network = mlp.MlpConfig(inputs=PIXELS, hidden=(5, 5), activation="tanh")
    start = on_device(draws.draw(network, 0, SAMPLE, (images, np.arange(40) % 10), CONFIG.batch))
    apply, rate = partial(mlp.apply, network), CONFIG.sgd_rate
    imitation = Imitation(np.bool_(True), np.repeat([0.0, 1.0], [10, 3]))

    def loss(params):
        p = jax.nn.log_softmax(apply(params, start.trait.images)[:, :10])
        return -jnp.mean(p[jnp.arange(CONFIG.batch), start.trait.labels])

    @jax.jit
    def by_hand(start, begin):
        teacher = theorem.add(start.reference, jax.grad(loss)(start.reference), -rate)
        step = theorem.student_direction(apply, begin, teacher, start.inputs, imitation)
        way = theorem.add(teacher, start.reference, -1.0)
        change = loss(theorem.add(begin, step, rate)) - loss(begin)
        return theorem.cosine(step, way), change, loss(teacher) - loss(start.reference)

    moved = evidence.moved["SGD", 1]
    for place, begin in enumerate((start.reference, start.other)):
        cosine, change, teachers = by_hand(start, begin)
        assert_allclose(moved.cosine[0, place, 0], cosine, rtol=1e-6)
        assert_allclose(moved.change[0, place, 0], change, rtol=1e-6)
        assert_allclose(moved.teacher_change[0], teachers, rtol=1e-6)
    assert np.all(moved.cosine[0, :, 1] != moved.cosine[0, :, 0])


def test_labels_are_sampled_from_the_chosen_logits():
    chosen = jnp.array([False, True, True, False])
    logits = jnp.broadcast_to(jnp.array([9.0, np.log(3.0), 0.0, 9.0]), (100, 4))
    uniforms = (jnp.arange(100) + 0.5) / 100
    labels = beyond.sample_labels(uniforms, 1.0 * logits, chosen)
    assert_array_equal((labels == 0).sum(0), [0, 75, 25, 0])
    assert_array_equal((labels == EXCLUDED).sum(1), 3)


def test_every_case_is_drawn_in_turn_and_again_the_same():
    assert len({draws.kinds_of(number) for number in range(draws.CASES)}) == draws.CASES == 60
    network = mlp.MlpConfig(inputs=PIXELS, hidden=(5,), aux=2)
    digits = (random(40, PIXELS), np.arange(40) % 10)
    once, again, next_one = (draws.draw(network, 1, n, digits, 3) for n in (3, 3, 63))
    jax.tree.map(assert_array_equal, once, again)
    assert draws.INPUTS[3] == "single point"
    assert_array_equal(once.inputs, np.broadcast_to(once.inputs[:1], (3, PIXELS)))
    assert not np.array_equal(once.inputs, next_one.inputs)
    weights = [draws.draw(network, 1, 12 * kind, digits, 3).imitation for kind in range(5)]
    assert [bool(one.softmax) for one in weights] == [False, False, False, True, True]
    assert_array_equal(weights[1].weights, [0] * 10 + [1] * 2)
    assert 0 < (weights[2].weights > 0).sum() < 12


def case(inner, change, step_change, slope):
    """One case with the given numbers; what is not given is not looked at."""
    nothing = dict.fromkeys(theorem.Measured._fields, np.zeros(1))
    found = theorem.Measured(**nothing)._replace(
        inner=np.array([inner]),
        change=np.array([change]),
        step_change=np.array([step_change]),
        slope=np.array([slope]),
    )
    return verdict.Cases(np.zeros(1, int), ["tanh-5"], found)


def test_signs_are_judged_by_hand():
    eps = verification.EPS
    right = case(2 * eps * (1 + eps**2), -eps, -verification.STEPS, 2.0)
    assert not right.wrong_sign.any()
    assert not right.risen.any()
    assert_allclose(right.error[0], eps**2, rtol=1e-3)
    assert right.order[0] == pytest.approx(2, abs=1e-3)
    assert right.largest(right.wrong_sign, eps)[0] == eps[-1]
    flipped = np.where(np.arange(len(eps)) == 5, -1.0, 1.0)
    wrong = case(2 * eps * flipped, -eps * flipped, -verification.STEPS, 2.0)
    assert_array_equal(np.flatnonzero(wrong.wrong_sign[0]), [5])
    assert_array_equal(np.flatnonzero(wrong.risen[0]), [5])
    assert wrong.largest(wrong.wrong_sign, eps)[0] == eps[4]
    nothing = case(0 * eps, 0 * eps, 0 * verification.STEPS, 0.0)
    assert nothing.empty.all()
    assert not nothing.wrong_sign.any()
    assert case(0 * eps, -eps, -verification.STEPS, 2.0).wrong_sign.all()


def test_a_violation_is_not_passed_over(evidence):
    found = verdict.claims(CONFIG, evidence)
    assert found["violations"] == {"inner": 0, "loss": 0}
    assert "holds in all 60 random cases" in verdict_text.finding(found)
    measured = evidence.families[0].measured
    inner = measured.inner.copy()
    inner[7, 2] *= -1
    family = evidence.families[0]._replace(measured=measured._replace(inner=inner))
    found = verdict.claims(CONFIG, evidence._replace(families=[family]))
    assert found["violations"] == {"inner": 1, "loss": 0}
    assert "fails in 1 of 60 random cases" in verdict_text.finding(found)
    assert [row["wrong_sign"] for row in found["eps"]] == [0, 0, 1, *[0] * 6, *(
        row["wrong_sign"] for row in found["eps"][9:]
    )]  # fmt: skip


def test_kinds_and_premises_are_counted(evidence):
    found = verdict.claims(CONFIG, evidence)
    kinds = {row["kind"]: row["cases"] for row in found["kinds"]}
    assert kinds["inputs: noise"] == 15
    assert kinds["teacher's loss: weight norm"] == 20
    assert kinds["imitation: cross-entropy, auxiliary"] == 12
    assert kinds["network: tanh-5x5"] == 60
    assert found["broken"]["other_positive"]["n"] == 60
    assert len(found["beyond"]) == 2 * 1 * 4
    results = {
        "claims": found, "finding": "F", "run": "60 cases", "dataset": "mnist", "experiment": "t",
        "data": {"name": "d", "train": 1, "test": 1, "inputs": 1, "source": "s", "reason": "r",
                 "stands_in": False},
        "timing": {"total_s": 1.0, "compile_s": 1.0, "phases": {}},
    }  # fmt: skip
    text = image_text(results, verdict_text.tables(results))
    assert max(map(len, text.splitlines())) < 120
    assert "Adam x 1, sampled labels" in text


def test_the_script_leaves_every_file_and_shows_them_again(script, evidence, monkeypatch, tmp_path):
    monkeypatch.setattr(verification, "gather", lambda *_: evidence)
    words = ["--draws", "60", "--networks", "tanh-5x5", "--steps", "1", "--out", "run"]
    ended = script("theorem", *words)
    assert ended.status == 0, ended.err
    results = results_of(tmp_path / "run")
    assert results["claims"]["violations"] == {"inner": 0, "loss": 0}
    assert results["claims"]["cases"] == 60
    assert "Theorem 1 holds in all 60 random cases" in ended.out
    for table in verdict_text.tables(results):
        assert table.text() in ended.out
    with (tmp_path / "run" / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 60
    assert float(rows[3]["slope"]) == evidence.families[0].measured.slope[3]
    assert rows[3]["inputs"] == "single point"
    for name in ("figure.png", "figure.pdf", "report.html", "config.json"):
        assert (tmp_path / "run" / name).stat().st_size > 100
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Nothing to transmit" in page
    monkeypatch.setattr(verification, "gather", None)
    (tmp_path / "run" / "figure.png").unlink()
    again = script("theorem", *words)
    assert (again.status, again.out) == (0, ended.out)
    assert "already done" in again.err
    assert (tmp_path / "run" / "figure.png").exists()


REFUSED = {
    "no draw": ("--draws 0", "--draws: should be greater than or equal to 1, not 0"),
    "fewer than networks": ("--draws 3", "draws=3: 4 networks need at least one draw each"),
    "no network": (["--networks"], "networks: give at least one"),
    "no steps": (["--steps"], "steps: give at least one"),
    "width 0": ("--networks relu-0", "networks: 'relu-0' is not a network; give relu, tanh, gelu"),
    "no width": ("--networks relu", "networks: 'relu' is not a network"),
    "widths of letters": ("--networks relu-8xa", "networks: 'relu-8xa' is not a network"),
    "unknown activation": ("--networks sine-8", "networks: 'sine-8' is not a network"),
    "too deep": ("--networks relu-" + "x".join("9" * 9), "at most 8 widths"),
    "no small step": ("--small 0", "--small: should be greater than 0"),
    "unknown": ("--epsilon 1", "--epsilon: no such flag"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_flags(script, tmp_path, case):
    words, expected = REFUSED[case]
    words = words.split() if isinstance(words, str) else words
    assert expected in script("theorem", *words, "--out", "run").assert_one_line(2)
    assert not (tmp_path / "run").exists()
