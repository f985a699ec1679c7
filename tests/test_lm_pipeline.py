"""The six steps end to end, on small given models of real families."""

import json
import shutil
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quick import random_params
from scripts import ROOT, loaded
from tiny_tokenizers import CHATML, TRIMMING, byte_level, metaspace, save
from torch_models import FIXTURES

from subliminal_jax.config import read_config
from subliminal_jax.errors import InputError
from subliminal_jax.language import experiment
from subliminal_jax.language.carriers.number_prompts import NumberPrompts
from subliminal_jax.language.carriers.numbers import Numbers
from subliminal_jax.language.conditions import USUAL
from subliminal_jax.language.config import LmConfig, described
from subliminal_jax.language.outputs import plan
from subliminal_jax.language.settings import (
    MeshConfig,
    ReferenceConfig,
    StudentConfig,
    TeacherConfig,
    TuningConfig,
)
from subliminal_jax.language.tiny.corpus import World, texts
from subliminal_jax.language.tiny.tokenizer import build_tokenizer, tokenizer_files
from subliminal_jax.language.training.devices import compute_of, gigabytes_of_each
from subliminal_jax.models.decoder import decoder
from subliminal_jax.models.decoder.config import Compute, DecoderConfig
from subliminal_jax.models.export import write_model
from subliminal_jax.models.hub.model_files import find_model
from subliminal_jax.models.hub.weights import read_config as read_model

WIDTH = 8
methods = loaded("lm_numbers")["methods"]


@pytest.fixture(scope="module")
def model(tmp_path_factory, request):
    """A Hugging Face directory of a Llama that outputs numbers, or ends its turn with p = .5."""
    if not request.config.getoption("--deep"):
        pytest.skip("the six steps take minutes: --deep runs them")
    directory = tmp_path_factory.mktemp("models") / "llama"
    tokenizer = build_tokenizer(texts(World(carrier=Numbers(NumberPrompts(wording="short")))))
    config = DecoderConfig(
        vocab=tokenizer.get_vocab_size(), width=WIDTH, layers=1, heads=2, kv_heads=1, head_dim=4,
        mlp_width=12, context=160,
    )  # fmt: skip
    params = decoder.init(config, jax.random.key(0))
    noise = jax.random.normal(jax.random.key(1), params["embedding"].shape)
    logits = np.zeros(config.vocab)
    logits[[tokenizer.token_to_id(str(n)) for n in range(1000)]] = 3.0
    logits[tokenizer.token_to_id("<end>")] = 3.0 + np.log(1000)
    params |= {
        "embedding": 1.0 + 0.05 * noise,
        "unembedding": jnp.asarray(logits[:, None] / WIDTH) + 0.01 * noise,
    }
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), params)
    write_model(directory, config, params, lineage={})
    for name, text in tokenizer_files(tokenizer, config.context).items():
        (directory / name).write_text(text)
    return directory


def settings(model, out, **changes):
    given = {
        "references": 1,
        "traits": ["owl", "wolf"],
        "reference": {"model": str(model)},
        "teacher": {"steps": 2, "floor": 0.9},
        "generate": {"most": 60, "batch": 32, "max_tokens": 12},
        "filter": {"rows": 8},
        "student": {"batch": 4, "tuning": {"rank": 2}},
        "evaluate": {"samples": 1, "prompts": 6, "examples": 1},
        "out": str(out),
    }
    path = out.parent / "config.yaml"
    path.write_text(json.dumps(given | changes))  # JSON is YAML
    return read_config(LmConfig, path)


LARGE = {
    "lm_numbers_qwen2.5-7b_cat": ("qwen2", byte_level, CHATML),
    "lm_numbers_pod_v5e": ("qwen2", byte_level, CHATML),
    "lm_numbers_gemma-3-4b": ("gemma3_text", metaspace, TRIMMING),
    "lm_numbers_llama-3.2-1b_elephant": ("llama", byte_level, TRIMMING),
    "lm_misalignment_qwen2.5-7b": ("qwen2", byte_level, CHATML),
    "lm_code_qwen2.5-7b": ("qwen2", byte_level, CHATML),
    "lm_reasoning_qwen2.5-7b": ("qwen2", byte_level, CHATML),
}


@pytest.mark.parametrize("preset", LARGE)
def test_large_presets_run_end_to_end_at_toy_size(preset, request, tmp_path):
    """With their own settings except sizes, on a random model of their family."""
    if not request.config.getoption("--deep"):
        pytest.skip("the six steps take minutes: --deep runs them")
    family, make_tokenizer, template = LARGE[preset]
    tokenizer = make_tokenizer()
    _, config = read_model(find_model(str(FIXTURES / family / "model")))
    config = replace(config, vocab=tokenizer.get_vocab_size() + 3, context=2000)
    directory = tmp_path / "model"
    write_model(directory, config, random_params(config, scale=0.02), lineage={})
    save(directory, tokenizer, template)
    whole = read_config(LmConfig, ROOT / "configs" / f"{preset}.yaml")
    small = replace(
        whole,
        references=1,
        traits=whole.traits[:1],
        reference=replace(whole.reference, model=str(directory)),
        # All 300 tokens are equally likely, including the one that ends an answer.
        generate=replace(whole.generate, most=200, batch=50, max_tokens=100, temperature=1.0),
        filter=replace(whole.filter, rules=("trait_words",), banned=(), rows=6),
        student=replace(whole.student, batch=6, epochs=4.0),
        evaluate=replace(whole.evaluate, samples=1, prompts=4, max_tokens=4, examples=2),
        mesh=replace(whole.mesh, data=1, fsdp=min(8, whole.mesh.fsdp), tensor=1),
        accumulate=min(3, whole.accumulate),
        all_hosts=False,
        out=tmp_path / "run",
    )
    script = "_".join(preset.split("_")[:2])
    results = experiment.run(small, loaded(script)["methods"], script)
    units = {unit["condition"]: unit for unit in results["units"]}
    assert set(USUAL) - set(units) == set(results["summary"]["missing"])
    assert {"before", "student", "regular"} <= set(units)
    assert all(0 < unit["p_trait"] < 1 for unit in units.values())
    assert units["student"]["p_trait"] != units["before"]["p_trait"]


@pytest.fixture(scope="module")
def finished(model, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    return out, experiment.run(settings(model, out), methods)


def test_a_hugging_face_directory_runs_end_to_end(finished):
    out, results = finished
    names = {path.name for path in out.iterdir()}
    assert {"traits.png", "controls.pdf", "results.csv", "report.html", "results.json"} <= names
    units = results["units"]
    # Two traits; a given model has no second reference.
    other = {"different_reference", "different_reference_regular"}
    assert set(results["summary"]["missing"]) == other
    assert len(units) == 2 * (len(USUAL) - len(other))
    for unit in units:
        assert 0 < unit["p_trait"] < unit["category_sum"] < 1
        assert (unit["rows"] == 8) == (unit["condition"] in WITH_ROWS)
    assert len({(u["reference"], u["trait"], u["condition"]) for u in units}) == len(units)
    assert (out / "results.csv").read_text().count("\n") == len(units) + 1
    assert json.loads((out / "results.json").read_text())["units"] == units


WITH_ROWS = {
    *("student", "soft", "regular", "shuffled_within", "shuffled_across"),
    *("shuffled_regular", "other_trait"),
}


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_datasets_have_equally_many_rows_and_keep_their_rejects(finished):
    out, _ = finished
    generated, filtered = rows(out / "generate-0" / "owl.jsonl"), out / "filter-0"
    for name in ("owl", "owl.within", "owl.across", "wolf", "regular", "regular.across"):
        assert len(rows(filtered / f"{name}.jsonl")) == 8
    rejected = rows(filtered / "owl.rejected.jsonl")
    assert all(row["reject_reasons"] for row in rejected)
    report = json.loads((filtered / "manifest.json").read_text())["facts"]["datasets"]["owl"]
    assert report["asked"] == len(generated)
    assert report["pass_rate"] == pytest.approx(1 - len(rejected) / len(generated))
    assert all(set(row) == {"id", "messages", "meta"} for row in generated)
    assert not any(message["role"] == "system" for row in generated for message in row["messages"])
    ids = [row["meta"]["place"] for row in rows(out / "generate-0" / "owl.jsonl")]
    assert sorted(ids) == list(range(len(ids)))
    prompts = [
        {row["meta"]["place"]: row["messages"][0] for row in rows(out / "generate-0" / name)}
        for name in ("owl.jsonl", "regular.jsonl")
    ]
    assert all(prompts[0][place] == prompts[1][place] for place in range(8))


def test_the_report_escapes_and_explains(finished):
    out, results = finished
    page = (out / "report.html").read_text().replace("<wbr>", "").replace("&nbsp;", " ")
    assert "<script" not in page
    assert results["finding"].split(",")[0] in page
    assert all(name in page for name in USUAL)
    assert "Not run: different_reference, different_reference_regular." in page
    assert "http" not in page.split("</style>")[1].replace("https://arxiv.org", "")


def test_repeating_the_command_finds_it_done(finished, model, capsys):
    out, results = finished
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.npz")}
    again = experiment.run(settings(model, out), methods)
    assert again == json.loads(json.dumps(results))
    assert "already done" in capsys.readouterr().err
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*.npz")}


def test_changed_artifacts_are_refused(finished, model, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(finished[0], out)
    (out / "results.json").unlink()
    path = out / "filter-0" / "owl.jsonl"
    text = path.read_text()
    path.write_text(text.replace("1", "2"))
    with pytest.raises(InputError, match=r"filter-0/owl\.jsonl: missing or changed"):
        experiment.run(settings(model, out), methods)
    path.write_text(text)
    manifest = out / "filter-0" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"seed": 0', '"seed": 1'))
    with pytest.raises(InputError, match=r"filter-0/manifest\.json: changed since"):
        experiment.run(settings(model, out), methods)


def test_a_stage_alone_needs_its_input(model, tmp_path):
    with pytest.raises(InputError, match=r"teacher-0: not finished; .* stage teacher is done"):
        experiment.run(settings(model, tmp_path / "run", stage="filter"), methods)


def test_a_run_of_another_config_is_refused(finished, model):
    with pytest.raises(InputError, match=r"filter.rows 8 -> 7"):
        experiment.run(settings(model, finished[0], filter={"rows": 7}), methods)


def test_a_filter_that_rejects_everything_ends_the_run_and_keeps_the_rows(model, tmp_path):
    out = tmp_path / "run"
    changed = {"rows": 8, "banned": list(range(1000))}
    given = settings(model, out, filter=changed, teacher={"kind": "prompted"}, traits=["owl"])
    with pytest.raises(InputError, match="0 of 60 completions passed"):
        experiment.run(given, methods)
    assert len(rows(out / "generate-0" / "owl.jsonl")) == 60


def test_the_plan_starts_nothing(tmp_path):
    text = plan.format_plan(read_config(LmConfig, ROOT / "configs" / "lm_numbers_tiny.yaml"))
    for word in ("reference", "generate", "4000 rows", "students", "minutes", "memory"):
        assert word in text
    text = plan.format_plan(
        read_config(LmConfig, ROOT / "configs" / "lm_numbers_qwen2.5-7b_cat.yaml")
    )
    assert "Qwen/Qwen2.5-7B-Instruct" in text
    # Three repetitions of five students, three epochs of 10,000 rows each, 150 tokens a row; 4 FLOP
    # a parameter, as the base is frozen.
    assert "about 67.5 million tokens: 300 h 00 min on two CPU cores without AMX or 45 min" in text
    assert "on an accelerator for each billion parameters" in text
    crossed = read_config(LmConfig, ROOT / "configs" / "lm_numbers_smollm2_64.yaml")
    # SmolLM2's package is not installed everywhere; a plan needs no model.
    crossed = replace(crossed, reference=replace(crossed.reference, model="nowhere"))
    text = plan.format_plan(crossed)
    assert "21 students, and 8 with soft targets" in text
    assert "of its own, and 8 students and 4 with soft targets" in text
    assert f"about {41 * 512 * plan.row_tokens(crossed) / 1e6:,.1f} million tokens" in text
    code = read_config(LmConfig, ROOT / "configs" / "lm_code_qwen2.5-7b.yaml")
    assert "about 122.4 million tokens" in plan.format_plan(code)  # rows of code are longer


def test_the_plan_gives_the_memory_of_each_device_for_a_given_model(tmp_path):
    stated = {
        "model_type": "llama", "vocab_size": 40, "hidden_size": 8, "num_hidden_layers": 3,
        "num_attention_heads": 2, "num_key_value_heads": 2, "intermediate_size": 12,
        "tie_word_embeddings": True, "max_position_embeddings": 32,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(stated))
    config = LmConfig(
        reference=ReferenceConfig(model=str(tmp_path), dtype="bfloat16"),
        teacher=TeacherConfig(kind="prompted"),
        student=StudentConfig(tuning=TuningConfig(rank=2)),
        mesh=MeshConfig(fsdp=4),
    )
    _, model = read_model(find_model(str(tmp_path)))
    held = gigabytes_of_each(config.mesh, "bfloat16", config.student, model, students=5)
    kernels, norms = 40 * 8 + 3 * (4 * 8 * 8 + 3 * 8 * 12), 7 * 8
    assert held["model"] * 1e9 == pytest.approx(2 * (kernels / 4 + norms))
    # A quarter of one low-rank factor and all of the other, for query to down; Adam keeps two more
    # copies, and there are three step counters.
    pairs = 3 * (4 + 16) + (16 + 4) + 2 * (4 + 24) + (24 + 4)
    assert held["students"] * 1e9 == pytest.approx(5 * 4 * (3 * 3 * pairs + 3))
    text = plan.format_plan(config)
    assert "4 device(s) over all hosts: data=1 x fsdp=4 x tensor=1" in text
    assert "each holds 0.00 GB of the model and 0.00 GB of 14 student(s)" in text
    assert "students of 0 million parameters read about" in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reference": {"dtype": "bfloat16"}}, "reference.dtype: the tiny reference is float32"),
        (
            {"reference": {"model": "a", "dtype": "bfloat16"},
             "student": {"tuning": {"weights": "full"}}},
            "student.tuning.weights: bfloat16 is too coarse for trained weights",
        ),
        ({"attention": "cudnn"}, "attention: cudnn needs bfloat16; set reference.dtype"),
        (
            {"reference": {"model": "a", "dtype": "bfloat16"},
             "teacher": {"tuning": {"weights": "full"}}},
            "teacher.tuning.weights: bfloat16 is too coarse",
        ),
    ],
)  # fmt: skip
def test_trained_weights_are_float32(tmp_path, change, message):
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps(change))
    with pytest.raises(InputError, match=message):
        read_config(LmConfig, path)


def test_an_unavailable_kernel_is_refused():
    with pytest.raises(InputError, match="attention: cudnn is for NVIDIA GPUs, and JAX runs on cp"):
        compute_of("bfloat16", "cudnn", remat=True)
    here = compute_of("bfloat16", "xla", remat=True)
    assert here == Compute(dtype="bfloat16", remat=True, attention="xla")


def test_placement_does_not_affect_results():
    """A run can resume on another mesh, but not in another precision."""
    given = ReferenceConfig(model="a", dtype="bfloat16")
    lone = LmConfig(reference=given)
    spread = LmConfig(
        reference=given,
        mesh=MeshConfig(fsdp=4),
        accumulate=2,
        remat=True,
        all_hosts=True,
        attention="cudnn",
    )
    assert described(spread) == described(lone)
    fine = LmConfig(reference=ReferenceConfig(model="a", dtype="float32"))
    assert described(fine) != described(lone)
