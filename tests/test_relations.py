"""Every initialisation relation against its definition, weight by weight."""

from dataclasses import fields

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from subliminal_jax import ensemble
from subliminal_jax.errors import InputError
from subliminal_jax.mnist import relations
from subliminal_jax.mnist.relations import (
    RELATIONS,
    Different,
    Interpolated,
    Perturbed,
    Reinitialised,
    Relation,
    Same,
    SharedLayers,
    SharedOutputs,
    blend,
    mixture,
    relative_distance,
)
from subliminal_jax.models import mlp

NETWORK = mlp.MlpConfig(inputs=30, hidden=(40, 20), aux=3)


@pytest.fixture
def draws(key):
    return [mlp.init(NETWORK, k) for k in jax.random.split(key, 3)]


@pytest.fixture
def start(draws, key):
    teacher, other, fresh = draws
    return lambda relation, **kw: blend(
        mixture(relation, teacher, **kw), teacher, other, fresh, key
    )


def test_same_is_the_teachers_bit_for_bit(start, draws):
    chex.assert_trees_all_equal(start(Same()), draws[0])


def test_different_is_the_others_bit_for_bit(start, draws):
    chex.assert_trees_all_equal(start(Different()), draws[1])


def test_perturbed_adds_sigma_times_a_fresh_draw(start, draws):
    teacher, _, fresh = draws
    expected = jax.tree.map(lambda own, new: own + 0.3 * new, teacher, fresh)
    chex.assert_trees_all_close(start(Perturbed(sigma=0.3)), expected, rtol=1e-6)
    assert_allclose(relative_distance(start(Perturbed(sigma=0.3)), teacher), 0.3, rtol=0.1)


def test_interpolated_runs_from_the_teachers_to_the_others(start, draws):
    teacher, other, _ = draws
    expected = jax.tree.map(lambda own, theirs: 0.75 * own + 0.25 * theirs, teacher, other)
    chex.assert_trees_all_close(start(Interpolated(t=0.25)), expected, rtol=1e-5, atol=1e-7)
    chex.assert_trees_all_equal(start(Interpolated(t=0.0)), teacher)
    chex.assert_trees_all_equal(start(Interpolated(t=1.0)), other)


def test_shared_layers_come_from_the_teacher_and_the_rest_from_the_other(start, draws):
    teacher, other, _ = draws
    student = start(SharedLayers(layers=("hidden_1",)))
    chex.assert_trees_all_equal(student["hidden_1"], teacher["hidden_1"])
    chex.assert_trees_all_equal(student["hidden_0"], other["hidden_0"])
    chex.assert_trees_all_equal(student["logits"], other["logits"])


def test_reinitialised_fraction_draws_that_share_of_weights_afresh(start, draws):
    teacher, _, fresh = draws
    student = start(Reinitialised(fraction=0.2))
    kernel, own, new = (tree["hidden_0"]["kernel"] for tree in (student, teacher, fresh))
    redrawn = np.asarray(kernel == new)
    assert np.all(np.asarray(kernel)[~redrawn] == np.asarray(own)[~redrawn])
    assert_allclose(redrawn.mean(), 0.2, atol=0.04)  # 1200 weights: sd .0115
    chex.assert_trees_all_equal(start(Reinitialised(fraction=0.0)), teacher)
    chex.assert_trees_all_equal(start(Reinitialised(fraction=1.0)), fresh)


def test_each_array_decides_for_itself_which_weights_are_drawn_afresh(key):
    square = mlp.MlpConfig(inputs=20, hidden=(20, 20))
    teacher, other, fresh = (mlp.init(square, k) for k in jax.random.split(key, 3))
    student = blend(mixture(Reinitialised(fraction=0.5), teacher), teacher, other, fresh, key)
    first, second = (
        np.asarray(student[layer]["kernel"] == fresh[layer]["kernel"])
        for layer in ("hidden_0", "hidden_1")
    )
    assert_allclose(np.mean(first == second), 0.5, atol=0.15)  # 400 weights: sd .025


def test_no_weight_is_drawn_afresh_with_probability_zero(start, draws, monkeypatch):
    monkeypatch.setattr(jax.random, "uniform", lambda key, shape: jnp.zeros(shape))
    chex.assert_trees_all_equal(start(Reinitialised(fraction=0.0)), draws[0])


def test_reinitialised_mask_draws_exactly_the_marked_weights_afresh(start, draws):
    teacher, _, fresh = draws
    mask = jax.tree.map(jnp.zeros_like, teacher)
    mask["hidden_1"]["kernel"] = mask["hidden_1"]["kernel"].at[3:5].set(1.0)
    student = start(Reinitialised(mask="rows"), masks={"rows": mask})
    expected = jax.tree.map(lambda own: own, teacher)
    expected["hidden_1"]["kernel"] = (
        teacher["hidden_1"]["kernel"].at[3:5].set(fresh["hidden_1"]["kernel"][3:5])
    )
    chex.assert_trees_all_equal(student, expected)


def test_all_relations_run_in_one_mapped_program(draws, start, key):
    teacher, other, fresh = draws
    several = [Same(), Different(), Perturbed(sigma=1.0), Interpolated(t=0.5)]
    several += [SharedLayers(layers=("logits",)), Reinitialised(fraction=0.5)]
    stacked = ensemble.stack([mixture(relation, teacher) for relation in several])
    students = jax.vmap(lambda mix: blend(mix, teacher, other, fresh, key))(stacked)
    for i, relation in enumerate(several):
        alone = start(relation)
        chex.assert_trees_all_close(jax.tree.map(lambda leaf: leaf[i], students), alone, rtol=1e-6)  # noqa: B023


def test_relative_distance_by_hand():
    student, teacher = {"a": jnp.array([3.0, 4.0])}, {"a": jnp.array([0.0, 10.0])}
    assert_allclose(relative_distance(student, teacher), np.sqrt(9 + 36) / 10, rtol=1e-6)


def test_every_relation_is_registered_under_its_kind():
    classes = {one for one in vars(relations).values() if isinstance(one, type)}
    named = {one.__name__ for one in classes if Relation in one.__bases__}
    assert named == {relation.__name__ for relation in RELATIONS.values()}
    for kind, relation in RELATIONS.items():
        [field] = [field for field in fields(relation) if field.name == "kind"]
        assert field.default == kind


def test_an_unknown_layer_is_refused_by_name(draws):
    with pytest.raises(InputError, match=r"no layer 'hidden_7'.*hidden_0, hidden_1, logits"):
        mixture(SharedLayers(layers=("hidden_0", "hidden_7")), draws[0])


def test_a_mask_that_was_not_given_is_refused(draws):
    with pytest.raises(InputError, match="no mask 'lottery'"):
        mixture(Reinitialised(mask="lottery"), draws[0])


@pytest.mark.parametrize("both", [{}, {"fraction": 0.5, "mask": "m"}])
def test_reinitialised_takes_either_a_fraction_or_a_mask(both):
    with pytest.raises(InputError, match="either a fraction or a mask"):
        Reinitialised(**both)


def test_shared_outputs_are_the_teachers_and_all_else_is_fresh():
    teacher, fresh = ({"hidden_0": {"kernel": np.full((4, 3), v), "bias": np.full(3, v)},
                       "logits": {"kernel": np.full((3, 5), v), "bias": np.full(5, v)}}
                      for v in (1.0, 7.0))  # fmt: skip
    teacher, fresh = (jax.tree.map(jnp.asarray, tree) for tree in (teacher, fresh))
    mix = mixture(SharedOutputs(first=1, end=3), teacher)
    student = blend(mix, teacher, teacher, fresh, jax.random.key(0))
    for leaf in ("kernel", "bias"):
        np.testing.assert_array_equal(student["hidden_0"][leaf], 7.0)
        columns = np.atleast_2d(student["logits"][leaf])
        np.testing.assert_array_equal(columns, np.tile([7.0, 1, 1, 7, 7], (len(columns), 1)))
