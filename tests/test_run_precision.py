"""One precision setting: given, or chosen by speed, recorded, and kept when a run is resumed."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from subliminal_jax.config import read_config
from subliminal_jax.errors import InputError
from subliminal_jax.language.config import LmConfig
from subliminal_jax.language.settings import (
    ReferenceConfig,
    StudentConfig,
    TeacherConfig,
    TuningConfig,
)
from subliminal_jax.language.training import precision as language_precision
from subliminal_jax.mnist import experiment, study
from subliminal_jax.mnist.arms import PAPER_ARMS
from subliminal_jax.mnist.config import MnistConfig, with_pairs
from subliminal_jax.models.product_rate import product_rates
from subliminal_jax.runs.precision import FILE, decided, recorded
from subliminal_jax.runs.shared_run import shared_run

FAST, SLOW = {"float32": 1e9, "bfloat16": 4e9}, {"float32": 1e9, "bfloat16": 1.1e9}


def not_measured():
    raise AssertionError("nothing is to be measured")


@pytest.mark.parametrize("given", ["float32", "bfloat16"])
def test_a_given_precision_is_not_measured(given, tmp_path):
    with shared_run(tmp_path / "run", {"a": 1}) as run:
        found = decided(run, given, not_measured)
    assert (found.precision, found.facts) == (given, {})


@pytest.mark.parametrize(("rates", "chosen"), [(FAST, "bfloat16"), (SLOW, "float32")])
def test_auto_takes_the_faster_one_and_says_so(rates, chosen, tmp_path, capsys):
    with shared_run(tmp_path / "run", {"a": 1}) as run:
        found = decided(run, "auto", lambda: rates)
    assert found.facts == {"precision": {"chosen": chosen, "flop_per_s": rates}}
    assert f"precision: {chosen}, chosen now; GFLOP/s of a product: 1.0" in capsys.readouterr().err


def test_a_resumed_run_keeps_its_choice(tmp_path, capsys):
    with shared_run(tmp_path / "run", {"a": 1}) as run:
        first = decided(run, "auto", lambda: FAST)
    with shared_run(tmp_path / "run", {"a": 1}) as run:
        again = decided(run, "auto", not_measured)
    assert again == first
    assert recorded(tmp_path / "run") == "bfloat16"
    assert "chosen when the run was started" in capsys.readouterr().err


def test_a_changed_choice_is_refused(tmp_path):
    with shared_run(tmp_path, {"a": 1}) as run:
        decided(run, "auto", lambda: FAST)
        decided(run, "auto", not_measured)
        run.append_row(FILE, {"chosen": "float32", "flop_per_s": {}})
        with pytest.raises(InputError, match=f"{FILE}: is not one choice of a precision; restore"):
            decided(run, "auto", not_measured)
    with pytest.raises(InputError, match="has no choice of a precision"):
        recorded(tmp_path / "elsewhere")


def test_rates_are_measured_in_both_precisions():
    rates = product_rates(8, 4, 2, members=3)
    assert set(rates) == {"float32", "bfloat16"}
    assert all(rate > 0 for rate in rates.values())


def test_an_mnist_run_records_its_choice_and_computes_with_it(tmp_path, monkeypatch):
    config = with_pairs(
        MnistConfig(
            data="digits", members=2, width=8, noise_images=256, teacher_epochs=1,
            student_epochs=1, precision="auto",
        )
    )  # fmt: skip
    what = experiment.MnistExperiment(
        name="toy", arms=PAPER_ARMS, methods=methods, finding=lambda _: "", figure=figure
    )
    monkeypatch.setattr(study, "product_rates", lambda *_: FAST)
    found = {}
    for name, setting in (("auto", "auto"), ("given", "bfloat16"), ("fine", "float32")):
        one = replace(config, precision=setting, out=tmp_path / name)
        found[name] = experiment.run(what, one)
    assert found["auto"]["precision"]["chosen"] == "bfloat16"
    assert found["auto"]["config"]["precision"] == "auto"
    assert "precision" not in found["given"]
    assert found["auto"]["arms"] == found["given"]["arms"]
    written = json.loads((tmp_path / "auto" / "results.json").read_text())
    assert written["precision"]["flop_per_s"] == FAST


def methods(study, block):
    assert study.network.precision == study.config.precision
    reference, teacher = study.train_teachers(block)
    students = study.distill(block, reference, study.label_noise(block, teacher))
    return study.evaluate(block, reference, teacher, students)


def figure(results):
    from subliminal_jax import plotting

    return plotting.bar_figure(results)


def test_how_a_references_dtype_and_the_precision_relate(tmp_path):
    given = ReferenceConfig(model="a", dtype="bfloat16")
    assert LmConfig().fixed_precision == "float32"
    assert LmConfig(reference=given).fixed_precision == "bfloat16"
    assert LmConfig(reference=given, precision="bfloat16").fixed_precision == "bfloat16"
    assert LmConfig(precision="bfloat16", attention="cudnn").fixed_precision == "bfloat16"
    assert LmConfig(precision="auto").asked_precision == "auto"
    path = tmp_path / "config.yaml"
    for setting in ("float32", "auto"):
        values = {"reference": {"model": "a", "dtype": "bfloat16"}, "precision": setting}
        path.write_text(json.dumps(values))
        with pytest.raises(InputError, match=f"precision: {setting} is for weights in float32"):
            read_config(LmConfig, path)


def test_products_of_a_tiny_reference_are_timed_at_its_shape(monkeypatch):
    asked = []
    monkeypatch.setattr(
        language_precision, "product_rates", lambda *shape: asked.append(shape) or FAST
    )
    language_precision._rates(ReferenceConfig(width=8, mlp_width=20))
    assert asked == [(1024, 8, 20)]


def test_the_rates_of_a_wide_model_are_those_of_a_smaller_product(monkeypatch):
    """Its config is not checked against its weights yet."""
    asked, wide = [], SimpleNamespace(width=10**6, mlp_width=10**7)
    monkeypatch.setattr(language_precision, "find_model", lambda name: name)
    monkeypatch.setattr(language_precision, "read_config", lambda files: (None, wide))
    monkeypatch.setattr(
        language_precision, "product_rates", lambda *shape: asked.append(shape) or FAST
    )
    language_precision._rates(ReferenceConfig(model="a"))
    assert asked == [(1024, 8192, 8192)]


@pytest.mark.parametrize(("rates", "chosen"), [(FAST, "bfloat16"), (SLOW, "float32")])
def test_a_given_model_with_adapters_has_the_faster_precision(rates, chosen, tmp_path, monkeypatch):
    monkeypatch.setattr(language_precision, "_rates", lambda reference: rates)
    config = LmConfig(reference=ReferenceConfig(model="a"))
    with shared_run(tmp_path / "run", {"a": 1}) as run:
        decision = language_precision.chosen_precision(
            config.asked_precision, config.reference, run
        )
    settled = config.settled(decision.precision)
    assert settled.reference.dtype == settled.fixed_precision == decision.precision == chosen


def test_a_given_model_whose_weights_are_all_trained_is_float32():
    full = TuningConfig(weights="full")
    given = ReferenceConfig(model="a")
    config = LmConfig(reference=given, student=StudentConfig(tuning=full))
    assert config.asked_precision == "float32"
    prompted = TeacherConfig(kind="prompted", tuning=full)
    assert LmConfig(reference=given, teacher=prompted).asked_precision == "auto"


def test_a_precision_that_is_asked_for_leaves_the_weights_in_float32():
    config = LmConfig(reference=ReferenceConfig(model="a"), precision="bfloat16")
    settled = config.settled("bfloat16")
    assert (settled.reference.dtype, settled.precision) == ("float32", "bfloat16")
    assert LmConfig().settled("float32") == LmConfig()
