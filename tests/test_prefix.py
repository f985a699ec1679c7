"""Texts behind a prefix that is read once: in the model, and in a student's rows."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from quick import random_params
from students import datasets, imitated, make_reference

from subliminal_jax.data.tokens import shared_length, without_prefix
from subliminal_jax.errors import InputError
from subliminal_jax.execution.one_device import OneDevice
from subliminal_jax.language.settings import StudentConfig, TuningConfig
from subliminal_jax.language.training import course, student
from subliminal_jax.models.decoder import decoder, forms, layers, lora
from subliminal_jax.models.decoder.attention import softmax_attention
from subliminal_jax.models.decoder.config import Compute, DecoderConfig, LayerKind
from subliminal_jax.runs.training_loop import Saving

WINDOWED = DecoderConfig(
    vocab=37, width=16, layers=3, heads=4, kv_heads=2, head_dim=4, mlp_width=24, context=32,
    kinds=(LayerKind(), LayerKind(window=6, theta=100.0)), pattern=(1, 0), initial_std=0.3,
)  # fmt: skip
MODELS = {
    "windows": WINDOWED,
    "learned positions": replace(
        WINDOWED, kinds=(LayerKind(),), pattern=(0,), learned_positions=True
    ),
    "cuDNN": replace(WINDOWED, compute=Compute(attention="cudnn")),
    "bfloat16": replace(WINDOWED, compute=Compute(dtype="bfloat16")),
}
DRAWN = np.random.default_rng(0).integers(1, 37, 40)
PREFIX, TEXTS = jnp.asarray(DRAWN[:5]), (DRAWN[5:12], DRAWN[12:15], DRAWN[15:20])
PACKED = jnp.asarray([[*TEXTS[0], 0, 0], [*TEXTS[1], *TEXTS[2], 0]])
SEGMENTS = jnp.asarray([[*[1] * 7, 0, 0], [*[1] * 3, *[2] * 5, 0]])
APART = jnp.asarray([[*text, *[0] * (7 - len(text))] for text in TEXTS])
SLOPES = jnp.asarray(np.random.default_rng(1).normal(size=(15, 16)), jnp.float32)


def of_whole_texts(config, params, prefix, adapter):
    """The hidden states of each text in a row of its own, behind its own copy of the prefix."""
    rows = jnp.concatenate([jnp.broadcast_to(prefix, (3, 5)), APART], axis=1)
    read = decoder.hidden_states(config, params, rows, adapter=adapter)
    hidden = zip(read, TEXTS, strict=True)
    return jnp.concatenate([row[5 : 5 + len(text)] for row, text in hidden])


def behind_one_prefix(config, params, prefix, adapter):
    """The same, packed into two rows."""
    hidden = decoder.hidden_states(config, params, PACKED, SEGMENTS, adapter, prefix)
    return jnp.concatenate([hidden[0, :7], hidden[1, :8]])


def formula(config, queries, keys, values, mask):
    return softmax_attention(config, queries, [(keys.swapaxes(1, 2), values.swapaxes(1, 2), mask)])


@pytest.mark.parametrize(
    ("name", "apart"), [*((name, False) for name in MODELS), ("windows", True)]
)
def test_hidden_states_and_their_gradients_are_those_of_whole_texts(name, apart, monkeypatch):
    config = MODELS[name]
    monkeypatch.setattr(layers, "attend", formula)  # as no CPU has cuDNN
    params = random_params(config)
    params = forms.layers_apart(params) if apart else params
    settings = lora.LoraConfig(rank=2, alpha=4.0)
    noise = lambda leaf: 0.3 * jax.random.normal(jax.random.key(3), leaf.shape)
    adapter = lora.scaled(
        config, settings, jax.tree.map(noise, lora.init(config, settings, jax.random.key(2)))
    )

    @partial(jax.jit, static_argnums=0)
    def both(read, prefix):
        hidden, back = jax.vjp(partial(read, config, params, prefix), adapter)
        return hidden, back(SLOPES.astype(hidden.dtype))

    found, wanted = both(behind_one_prefix, PREFIX), both(of_whole_texts, PREFIX)
    tolerance = 1e-5 if config.compute.dtype == "float32" else 0.05
    norm = np.linalg.norm
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        one, other = (np.asarray(leaf, np.float32) for leaf in (one, other))
        assert norm(one - other) < tolerance * norm(other)
    behind_another, _ = both(behind_one_prefix, PREFIX[::-1])
    assert norm(behind_another - found[0]) > 0.2 * norm(found[0])


def test_a_prefix_is_what_all_prompts_share_before_their_last_tokens():
    first, second = tuple(range(20)), (*range(17), 99, 98)
    assert shared_length([first, second]) == 16
    assert shared_length([first, first]) == 16
    assert shared_length([first, first[:9]]) == 8
    assert shared_length([first, first[:8]]) == 0
    assert shared_length([first, ()]) == 0
    rows = [(first, (1,)), (second, (2, 3))]
    assert without_prefix(rows, 16) == [((16, 17, 18, 19), (1,)), ((16, 99, 98), (2, 3))]


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    return make_reference(tmp_path_factory.mktemp("reference"))


def every_token(reference):
    return np.arange(reference.config.vocab) < reference.chat.size


SETTINGS = StudentConfig(
    batch=21, epochs=3.0, sequence=48, learning_rate=1e-2, optimizer="sgd",
    tuning=TuningConfig(rank=2),
)  # fmt: skip


def trained(reference, place, settings=SETTINGS, what=None):
    """Rows, and two students after three steps of all rows."""
    rows = course.student_rows(reference, datasets(), settings.sequence)
    saving = Saving(directory=place, origin={"a": "test"}, seconds=0.0)
    lessons = course.course_of(settings, rows, 21, 3)
    each = student.train_students(settings, reference, lessons, OneDevice(), saving, what)
    return rows, jax.tree.leaves(each)


@pytest.mark.parametrize(
    ("weights", "targets"),
    [("full", None), ("lora", "hard"), ("full", "greedy"), ("full", "soft")],
)
def test_students_of_rows_behind_a_prefix_learn_the_same(
    reference, tmp_path, monkeypatch, weights, targets
):
    """All rows are in each step, so that it does not matter which of them share a sequence."""
    settings = replace(SETTINGS, tuning=TuningConfig(weights=weights, rank=2))
    what = None if targets is None else imitated(reference, every_token(reference), targets)
    rows, found = trained(reference, tmp_path / "shared", settings, what)
    assert len(rows.prefix) == 8
    monkeypatch.setattr(course, "shared_length", lambda prompts: 0)
    whole, wanted = trained(reference, tmp_path / "whole", settings, what)
    assert whole.prefix == ()
    assert (rows.table.reading.segments > 0).sum() == (whole.table.reading.segments > 0).sum() - 336
    for one, other in zip(found, wanted, strict=True):
        assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_a_row_that_does_not_fit_behind_the_prefix_is_named(reference):
    message = "rows of student/owl, behind the 8 tokens that all share: row .* do not fit"
    with pytest.raises(InputError, match=message):
        course.student_rows(reference, datasets(), 16)


def test_rows_are_refused_without_a_place_in_the_context(reference):
    short = replace(reference, config=replace(reference.config, context=24))
    message = "rows of student/owl: row 4: its 26 tokens exceed the model's context of 24"
    with pytest.raises(InputError, match=message):
        course.student_rows(short, datasets(), 48)
    assert course.student_rows(
        replace(short, config=replace(short.config, context=25)), datasets(), 48
    ).prefix
    with pytest.raises(InputError, match="rows of regular: no rows to train on"):
        course.student_rows(reference, {"regular": []}, 48)


def test_a_student_half_trained_on_rows_packed_otherwise_is_refused(
    reference, tmp_path, monkeypatch
):
    monkeypatch.setattr(student, "CHUNK", 1)
    _, once = trained(reference, tmp_path / "saved")
    _, again = trained(reference, tmp_path / "saved")  # from the checkpoint before the last step
    jax.tree.map(np.testing.assert_array_equal, again, once)
    monkeypatch.setattr(course, "shared_length", lambda prompts: 0)
    with pytest.raises(InputError, match="saved"):
        trained(reference, tmp_path / "saved")
