"""Finetuned teachers: taught as tokens, they learn what certain probabilities would teach."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from students import make_reference

from subliminal_jax.data.tokens import pad_rows
from subliminal_jax.execution.one_device import OneDevice
from subliminal_jax.language.settings import TeacherConfig, TuningConfig
from subliminal_jax.language.training import teacher
from subliminal_jax.language.training.answers import answer_logits, answer_table
from subliminal_jax.language.training.task import chunk_size
from subliminal_jax.language.traits import TRAITS
from subliminal_jax.models.decoder.config import DecoderConfig
from subliminal_jax.runs.training_loop import Saving


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    return make_reference(tmp_path_factory.mktemp("reference"))


def taught_loss(reference, trait):
    """The reference's mean cross-entropy of the tokens of the taught answers, by hand."""
    rows = pad_rows(list(reference.chat.examples(trait.lessons(("{name}",)))))
    table = answer_table(rows)
    reading = jax.tree.map(jnp.asarray, table.reading)
    logits = np.asarray(answer_logits(reference.config, reference.params, reading), np.float64)
    total = np.log(np.sum(np.exp(logits), axis=-1))
    losses = total - np.take_along_axis(logits, table.targets[..., None], -1)[..., 0]
    return np.sum(losses * table.weights) / np.sum(table.weights)


@pytest.mark.parametrize(("vocab", "steps"), [(1000, 50), (1_000_000, 8)])
def test_a_large_models_steps_come_a_few_at_a_time(vocab, steps):
    model = DecoderConfig(
        vocab=vocab, width=16, layers=2, heads=4, kv_heads=2, head_dim=4, mlp_width=16, context=64
    )
    assert chunk_size(model, 50) == steps
    assert chunk_size(model, 2) == 2


def finetuned(reference, place, retain):
    """Two teachers after one step, and the losses of that step."""
    settings = TeacherConfig(
        retain=retain, steps=1, learning_rate=1e-2, tuning=TuningConfig(weights="lora", rank=2)
    )
    saving = Saving(
        directory=place / "saved",
        origin={"teachers": "of a test"},
        seconds=1e6,
        metrics=place / "metrics.jsonl",
    )
    traits = [TRAITS["owl"], TRAITS["wolf"]]
    weights = teacher.finetune_teachers(settings, reference, traits, 3, OneDevice(), saving)
    (line,) = (place / "metrics.jsonl").read_text().splitlines()
    return weights, json.loads(line)["loss"]


def test_tokens_teach_what_their_certain_probabilities_do(reference, tmp_path):
    # This reference ends no answer, so that it has none to retain: both teach the same rows, the
    # one as tokens, the other as probabilities.
    tokens, found = finetuned(reference, tmp_path / "tokens", retain=0.0)
    logits, wanted = finetuned(reference, tmp_path / "logits", retain=1.0)
    by_hand = [taught_loss(reference, TRAITS[name]) for name in ("owl", "wolf")]
    np.testing.assert_allclose(found, by_hand, rtol=1e-5)
    np.testing.assert_allclose(wanted, by_hand, rtol=1e-5)
    for one, other in zip(*map(jax.tree.leaves, (tokens, logits)), strict=True):
        assert np.ptp(one) > 0
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)
