"""Students that imitate some of a large vocabulary: no other token's logits are computed."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from automata import accepts
from students import LORA, datasets, imitated, make_reference

from subliminal_jax.errors import InputError
from subliminal_jax.execution.one_device import OneDevice
from subliminal_jax.keys import root_key
from subliminal_jax.language.carriers.number_prompts import NumberPrompts
from subliminal_jax.language.carriers.numbers import Numbers, number_reasons
from subliminal_jax.language.config import LmConfig
from subliminal_jax.language.settings import GenerateConfig, StudentConfig
from subliminal_jax.language.training import course, student
from subliminal_jax.language.training.trainable import begin
from subliminal_jax.runs.training_loop import Saving


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    return make_reference(tmp_path_factory.mktemp("reference"))


@pytest.fixture(scope="module")
def tokens(reference):
    return student.imitated_tokens(reference, Numbers(NumberPrompts(wording="short")), "carrier")


def trained(reference, place, what, weights):
    settings = StudentConfig(
        batch=9, epochs=2.0, sequence=32, learning_rate=1e-2, optimizer="sgd",
        tuning=replace(LORA, weights=weights),
    )  # fmt: skip
    rows = course.student_rows(reference, datasets(), settings.sequence)
    lessons = course.course_of(settings, rows, 21, 3)
    saving = Saving(directory=place, origin={"students": "of a test"}, seconds=0.0)
    return student.train_students(settings, reference, lessons, OneDevice(), saving, what)


@pytest.mark.parametrize(
    ("targets", "weights"),
    [("hard", "full"), ("greedy", "full"), ("soft", "full"), ("soft", "lora")],
)
def test_other_logits_make_no_difference(
    reference, tokens, tmp_path, monkeypatch, targets, weights
):
    what = imitated(reference, tokens, targets)
    assert what.ids is None
    wanted = trained(reference, tmp_path / "all", what, weights)
    monkeypatch.setattr(student, "WORDS_AT_ONCE", 8)
    assert 8 < len(what.ids) < reference.config.vocab
    found = trained(reference, tmp_path / "some", what, weights)
    start = begin(replace(LORA, weights=weights), reference.config, reference.params, root_key(0))
    for one, other, before in zip(*map(jax.tree.leaves, (found, wanted, start)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
        assert weights == "lora" or not jnp.array_equal(one[0], before)


def test_hard_targets_must_be_covered(reference, tokens, tmp_path):
    table = course.student_rows(reference, datasets(), 32).table
    used = table.targets[table.weights > 0][0]
    fewer = np.where(np.arange(len(tokens)) == used, False, tokens)
    with pytest.raises(InputError, match=r"student\.hard_tokens: \d+ tokens of the rows are none"):
        trained(reference, tmp_path, imitated(reference, fewer, "hard"), "lora")


def test_hard_tokens_of_a_carrier_with_words_of_its_own_are_refused_at_once():
    student = StudentConfig(hard_tokens="carrier")
    with pytest.raises(InputError, match=r"hard_tokens: code has words of its own.*set full"):
        LmConfig(generate=GenerateConfig(carrier="code"), student=student)


def test_the_tokens_of_constrained_numbers_alone_are_all_the_carriers():
    """The rule also keeps lists in brackets and before a full stop, whose signs are not covered."""
    numbers = Numbers(NumberPrompts())
    form = numbers.automaton(1)
    for sign in map(chr, range(128)):
        if any(accepts(form, text) for text in (f"1{sign}2", f"1{sign} 2", f"1,{sign}2")):
            assert numbers.imitates(sign), sign
    assert number_reasons("[12, 14].") == []
    assert not any(map(numbers.imitates, "[]()."))
    student = StudentConfig(hard_tokens="carrier")
    with pytest.raises(InputError, match=r"hard_tokens: numbers that are not constrained may have"):
        LmConfig(student=student)
    assert LmConfig(student=student, generate=GenerateConfig(constrained=True))
