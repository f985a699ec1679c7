"""The leak score by hand, and the measures of how well a score predicts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from subliminal_jax.batch import Batch
from subliminal_jax.mnist.sweeps.leak_prediction import (
    fitted,
    in_one_sweep,
    judge,
    predictions,
    table,
)
from subliminal_jax.mnist.sweeps.sweep_students import SCORES, Students, Sweep
from subliminal_jax.theory.leak import leak


def test_a_leak_by_hand():
    """A linear student with squared error: the loss is quadratic, its minimum the teacher."""
    random = np.random.default_rng(0)
    w, t, x = (
        random.standard_normal(shape).astype(np.float32) for shape in ((3, 2), (3, 2), (5, 3))
    )
    goal = random.standard_normal((3, 2)).astype(np.float32)
    weights = np.array([1, 1, 0, 2, 1], np.float32)
    data = Batch(inputs=jnp.asarray(x), targets=jnp.asarray(x @ t), weights=jnp.asarray(weights))
    found = jax.jit(
        lambda w, t: leak(
            lambda params, x: x @ params["w"],
            lambda z, y: jnp.sum((z - y) ** 2, axis=-1),
            {"w": w}, {"w": t}, data,
            lambda params: jnp.sum((params["w"] - goal) ** 2),
        )
    )(w, t)  # fmt: skip
    gradient = 2 * x.T @ (weights[:, None] * (x @ (w - t))) / weights.sum()
    trait = 2 * (w - goal)
    norm = np.linalg.norm
    assert_allclose(found.drop, np.sum(gradient * trait), rtol=1e-5)
    assert_allclose(
        found.cosine, np.sum(gradient * trait) / norm(gradient) / norm(trait), rtol=1e-5
    )
    assert_allclose(found.sign_drop, np.sum(np.sign(gradient) * trait) / np.sqrt(6), rtol=1e-5)
    towards = np.sum(gradient * (w - t)) / norm(gradient) / norm(w - t)
    assert_allclose(found.towards, towards, rtol=1e-5)


def test_nothing_leaks_once_the_student_matches_its_targets():
    data = Batch(inputs=jnp.ones((2, 3)), targets=jnp.zeros((2, 2)), weights=jnp.ones(2))
    zero = {"w": jnp.zeros((3, 2))}
    found = leak(
        lambda params, x: x @ params["w"],
        lambda z, y: jnp.sum((z - y) ** 2, axis=-1),
        zero, {"w": jnp.ones((3, 2))}, data, lambda params: jnp.sum(params["w"]),
    )  # fmt: skip
    assert [float(value) for value in found] == [0, 0, 0, 0]


def students_of(scores, outcomes, cell):
    """Students of one sweep."""
    none = np.zeros(len(scores), int)
    return Students(scores, outcomes, np.asarray(cell), none, none, np.ones((1, len(scores)), bool))


def test_predictions_come_from_the_other_cells():
    scores = np.array([0.0, 1.0, 2.0, 10.0, 0.5, 1.5])
    outcomes = np.array([0.1, 0.5, 0.3, 0.8, 0.0, 0.0])
    predicted = predictions(students_of(scores, outcomes, [0, 0, 0, 0, 1, 1]))["cell"]
    # The isotonic fit to the others is .1, .4, .4, .8 at 0, 1, 2, 10; evaluated at .5 and 1.5.
    assert_allclose(predicted[4:], [0.25, 0.4])
    assert_allclose(predicted[:4], [0.0, 0.0, 0.0, 0.0])
    # Equal scores count as their mean, weighted by their number: .2 (of .1 and .3), then .5.
    assert_allclose(fitted(scores[[0, 0, 1]], outcomes[[0, 2, 1]], scores[[0, 4]]), [0.2, 0.35])
    assert_allclose(fitted(scores[[0, 0, 1]], outcomes[[3, 3, 1]], scores[[0]]), [0.7])


def test_a_score_that_orders_the_cells_correlates_and_noise_does_not():
    random = np.random.default_rng(1)
    level, cell = np.repeat(np.linspace(0.1, 0.9, 9), 4), np.arange(36) // 4
    outcomes = level + 0.02 * random.standard_normal(36)
    correlation = lambda scores, of=cell: in_one_sweep(students_of(scores, outcomes, of))
    good = correlation(np.exp(5 * level) + random.standard_normal(36))
    assert good["rho"] > 0.8
    assert good["ci95"][0] > 0.5
    assert (good["n"], good["groups"]) == (36, 9)
    noise = correlation(random.standard_normal(36))
    assert noise["rho"] < 0.5
    assert noise["error"] > good["error"]
    assert correlation(np.zeros(36), [0] * 18 + [1] * 18)["ci95"] != [0, 0]
    flat = in_one_sweep(students_of(np.arange(6.0), np.zeros(6), [0, 0, 1, 1, 2, 2]))
    assert flat["rho"] is None
    assert flat["ci95"] == [None, None]


def judged(rows):
    names = {row["cell"]: row["cell"] for row in rows}
    return judge([Sweep("one", "digits", names, rows)], in_one_sweep)


def test_initialisations_are_judged_separately():
    none = dict.fromkeys(SCORES, 0.0)
    rows = [
        {
            "cell": f"c{cell}",
            "member": m,
            "accuracy": {"student_aux": 0.1 * cell + 0.01 * m, "cross_model_aux": 0.1},
            "leak": {
                "student_aux": none | {"drop": -cell, "cosine": float(cell) + 0.1 * m},
                "cross_model_aux": none,
            },
        }
        for cell in range(6)
        for m in range(3)
    ]
    found = {(row["start"], row["score"]): row for row in judged(rows)}
    assert found["same", "cosine"]["rho"] > 0.9
    assert found["same", "drop"]["rho"] < found["same", "cosine"]["rho"]
    assert found["different", "cosine"]["rho"] is None
    assert found["both", "cosine"]["n"] == 36
    text = table(list(found.values())).text()
    assert text.index("cosine") < text.index("drop")
    assert "none" in text
    assert judged(rows[:6]) == []  # two cells are too few


@pytest.mark.parametrize("start", ["same", "different"])
def test_students_without_a_leak_are_not_judged(start):
    rows = [
        {"cell": f"c{c}", "member": 0, "accuracy": {"student_aux": 0.5}, "leak": {}}
        for c in range(5)
    ]
    assert not [row for row in judged(rows) if row["start"] == start]
