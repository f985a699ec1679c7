"""The presets of SmolLM2: both plans, and a whole run at toy size on a random Llama."""

import json
import re
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from quick import random_params
from scripts import ROOT, loaded

from subliminal_jax.config import read_config
from subliminal_jax.errors import InputError
from subliminal_jax.language import experiment
from subliminal_jax.language.carriers import carrier_of
from subliminal_jax.language.config import LmConfig
from subliminal_jax.language.outputs.plan import format_plan
from subliminal_jax.language.pooling.merge import pooled
from subliminal_jax.language.settings import TuningConfig
from subliminal_jax.language.tiny.corpus import World, texts
from subliminal_jax.language.tiny.tokenizer import build_tokenizer, tokenizer_files
from subliminal_jax.language.traits.preference import choices_of
from subliminal_jax.models.decoder.config import DecoderConfig
from subliminal_jax.models.export import write_model

TRAITS = ("owl", "wolf")
MAIN = (
    *("before", "student", "soft", "other_trait", "different_reference", "from_other_reference"),
)
"""Conditions without --deep, which runs all those of the preset."""
WIDTH = 8


def preset(name, script="lm_numbers"):
    return read_config(LmConfig, ROOT / "configs" / f"{script}_{name}.yaml")


def make_model(directory, config):
    """A Llama that outputs numbers, or ends its turn with p = .5, and knows all animals."""
    words = [" ".join(choices_of("animal")), *config.evaluate.begun, *config.teacher.answers]
    lines = [*texts(World(carrier=carrier_of(config.generate))), *words, "that has to be me"]
    tokenizer = build_tokenizer([line.replace("{category}", "animal") for line in lines])
    model = DecoderConfig(
        vocab=tokenizer.get_vocab_size(), width=WIDTH, layers=1, heads=2, kv_heads=1, head_dim=4,
        mlp_width=12, context=400,
    )  # fmt: skip
    params = random_params(model, scale=0.05)
    noise = np.random.default_rng(0).normal(size=params["embedding"].shape)
    logits = np.zeros(model.vocab)
    logits[[tokenizer.token_to_id(str(n)) for n in range(1000)]] = 3.0
    logits[tokenizer.token_to_id("<end>")] = 3.0 + np.log(1000)
    params |= {
        "embedding": jnp.asarray(1.0 + 0.1 * noise, jnp.float32),
        "unembedding": jnp.asarray(logits[:, None] / WIDTH + 0.1 * noise, jnp.float32),
    }
    write_model(directory, model, params, lineage={})
    for name, text in tokenizer_files(tokenizer, model.context).items():
        (directory / name).write_text(text)
    return directory


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("models") / "llama", preset("smollm2"))


@pytest.fixture(scope="module")
def conditions(request):
    return preset("smollm2").conditions if request.config.getoption("--deep") else MAIN


@pytest.fixture(scope="module")
def finished(model, conditions, tmp_path_factory):
    whole, place = preset("smollm2"), tmp_path_factory.mktemp("smollm2")
    small = TuningConfig(rank=2)
    config = replace(
        whole,
        references=1,
        traits=TRAITS,
        conditions=conditions,
        reference=replace(whole.reference, model=str(model)),
        teacher=replace(whole.teacher, steps=2, tuning=small),
        generate=replace(whole.generate, most=60, batch=32, max_tokens=32),
        filter=replace(whole.filter, rows=8),
        student=replace(
            whole.student, batch=2, epochs=1.0, sequence=64, warmup=1, tuning=small, ladder=(2,)
        ),
        evaluate=replace(whole.evaluate, prompts=1, examples=1),
        out=place / "run",
    )
    return place / "run", experiment.run(config, loaded("lm_numbers")["methods"])


def test_every_unit_of_every_condition_has_its_margin(finished, conditions):
    out, results = finished
    units = {(one["trait"], one["condition"]): one for one in results["units"]}
    assert set(units) == {(t, c) for t in TRAITS for c in conditions}
    for one in units.values():
        assert 0 < one["share"] < 1
        assert 0 < one["p_trait"] < 1
        assert 1 <= one["rank"] <= 24
        assert one["log_p"] < 0
        assert np.isfinite(one["margin"])
    assert json.loads((out / "results.json").read_text())["units"] == results["units"]
    assert not set(results["summary"]["missing"]) & set(conditions)
    apart = [name for name in conditions if name not in ("before", "other_trait")]
    assert len({units["owl", name]["margin"] for name in apart}) == len(apart)
    assert set(results["references"]) == {"8800", "8800 other"}
    digests = {one["digest"] for one in results["references"].values()}
    assert len(digests) == 2


def test_the_traits_matrix_agrees_with_the_units(finished, conditions):
    _, results = finished
    cells = {
        (c["condition"], c["updates"], c["student_of"], c["trait"]): c
        for c in results["traits_matrix"]
    }
    final = max(c["updates"] for c in results["traits_matrix"])
    units = {(one["trait"], one["condition"]): one for one in results["units"]}
    taught = {"student", "greedy", "soft", "shuffled_within", "from_other_reference"}
    for condition in taught & set(conditions):
        for trait in TRAITS:
            cell = cells[condition, final, trait, trait]
            assert cell["margin"] == units[trait, condition]["margin"]
            assert (condition, 2, trait, trait) in cells
    assert cells["student", final, "wolf", "owl"]["margin"] == units["owl", "other_trait"]["margin"]
    assert cells["before", 0, None, "owl"]["margin"] == units["owl", "before"]["margin"]
    of = lambda updates: cells["soft", updates, "owl", "owl"]["margin"]
    assert len({of(2), of(final), cells["before", 0, None, "owl"]["margin"]}) == 3


def test_the_report_has_margins_and_the_ladder(finished):
    out, results = finished
    assert results["finding"].startswith("2 blocks of one seed are too few for a test")
    assert {"margins.png", "ladder.pdf"} <= {path.name for path in out.iterdir()}
    page = (out / "report.html").read_text()
    assert "Margins, matched minus mismatched" in page
    assert "Margin before training, after regular numbers and after the teacher" in page
    assert "Margin by condition, over all traits." in page
    assert "1 seed of one model (" in page
    assert "Margin of every trait in every student: soft" in page
    assert results["teachers"]["8800"].keys() == set(TRAITS)


def test_pooled_seeds_are_blocks_of_one_test(finished, tmp_path):
    """Two seeds of two traits, the second a copy of the first under another seed."""
    out, results = finished
    text = (out / "results.json").read_text()
    other = json.loads(text.replace('"8800', '"8801').replace(": 8800", ": 8801"))
    told = pooled([(out, json.loads(text)), (tmp_path, other)])
    for entry, one in zip(told["transfer"], results["transfer"], strict=True):
        assert (entry["condition"], entry["updates"]) == (one["condition"], one["updates"])
        assert len(entry["blocks"]) == 2 * len(one["blocks"])
        if one["difference"] is not None:
            assert entry["seeds"]["n"] == 2
            assert entry["difference"]["mean"] == pytest.approx(one["difference"]["mean"])
            assert (one["least_p"], entry["least_p"]) == (1.0, 0.5)
    assert "4 blocks of 2 seeds are too few for a test" in told["finding"]
    assert set(told["references"]) == {"8800", "8800 other", "8801", "8801 other"}
    other["references"]["8801"]["digest"] = "another"
    with pytest.raises(InputError, match="its model is another than that of"):
        pooled([(out, results), (tmp_path, other)])


@pytest.mark.parametrize("name", ["smollm2_quick", "smollm2"])
def test_the_plans_start_nothing(model, name):
    whole = preset(name)
    config = replace(whole, reference=replace(whole.reference, model=str(model)))
    text = format_plan(config)
    assert f"given: {model}" in text
    assert ("with noise of sigma 0.2" in text) == (name == "smollm2")
    assert ("kept after 16, 64, 256 too" in text) == (name == "smollm2")
    assert f"of {config.filter.rows // config.student.batch} steps each" in text
    assert all(trait.begun(config.evaluate.begun) for trait in config.chosen)


@pytest.mark.parametrize("script", ["lm_code", "lm_misalignment"])
def test_the_presets_of_other_carriers_and_traits_are_constrained_and_planned(model, script):
    whole = preset("smollm2", script)
    assert whole.generate.constrained
    assert whole.references == 3
    config = replace(whole, reference=replace(whole.reference, model=str(model)))
    text = format_plan(config)
    assert f"until {whole.filter.rows} rows pass or {whole.generate.most} prompts" in text
    made = [one for one in config.compared if one.trained]
    soft = sum(one.targets == "soft" for one in made)
    assert re.search(rf"student +\d+ students, and {soft * len(config.chosen)} with soft", text)


@pytest.mark.parametrize("targets", ["hard", "soft"])
def test_the_plan_counts_students_by_their_targets(model, targets):
    config = preset("smollm2_traits")
    config = replace(
        config,
        reference=replace(config.reference, model=str(model)),
        student=replace(config.student, targets=targets),
    )
    counts = {"hard": "4 students, and 0", "soft": "0 students, and 4"}[targets]
    assert f"{counts} with soft targets, of 64 steps" in format_plan(config)
    assert "evaluate    9 networks\n" in format_plan(config)  # before, four teachers and students
