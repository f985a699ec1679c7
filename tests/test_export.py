"""Models and adapters out: read by us, by transformers, by PEFT, with equal logits."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from quick import random_params
from safetensors.numpy import load_file, save_file
from torch_models import CASES, FIXTURES, read_model

from subliminal_jax.errors import InputError, RunError
from subliminal_jax.models import export
from subliminal_jax.models.decoder import decoder, lora
from subliminal_jax.models.decoder.config import DecoderConfig, LayerKind
from subliminal_jax.models.decoder.lora import LoraConfig
from subliminal_jax.models.export import write_model
from subliminal_jax.models.hub import adapter_files
from subliminal_jax.models.hub.adapter_files import CONFIG, WEIGHTS, read_adapter, write_adapter
from subliminal_jax.models.hub.export_config import describe, is_same_model
from subliminal_jax.models.hub.model_files import INDEX, ModelFiles
from subliminal_jax.models.hub.weights import load, read_config

TOKENS = np.random.default_rng(3).integers(0, 29, (2, 9))
apply = jax.jit(decoder.apply, static_argnums=0)


def fixture(name):
    return load(str(FIXTURES / name / "model"))


def trained(model, settings):
    """An adapter in which no number is zero."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: lora.init(model.config, settings, jax.random.key(0)))
    return jax.tree.map(lambda s: jnp.asarray(rng.normal(0, 0.3, s.shape), jnp.float32), shapes)


def torch_logits(model):
    import torch

    with torch.no_grad():
        return model(torch.tensor(TOKENS)).logits.numpy()


@pytest.mark.parametrize("name", ["llama", "qwen3", "gemma3_text", "gpt2"])
def test_a_model_comes_back(name, tmp_path):
    """In shards, without extra tensors; transformers computes our logits."""
    model = fixture(name)
    params = jax.tree.map(lambda leaf: leaf * 1.5, model.params)
    out = tmp_path / "out"
    write_model(out, model.config, params, base=model.files, lineage={}, largest_shard=20_000)
    written = json.loads((out / INDEX).read_text())
    files = sorted(out.glob("*.safetensors"))
    assert {file.name for file in files} == set(written["weight_map"].values())
    assert all(file.stat().st_size < 20_000 + 3_000 for file in files)
    stored = {k: v for file in (FIXTURES / name / "model").glob("*.safetensors")
              for k, v in load_file(file).items()}  # fmt: skip
    assert set(written["weight_map"]) == set(stored)
    assert written["metadata"]["total_size"] == 4 * sum(v.size for v in stored.values())
    if name in ("qwen3", "gpt2"):
        pytest.importorskip("torch", reason="transformers loads models through torch")
        expected = apply(model.config, params, jnp.asarray(TOKENS))
        assert_allclose(torch_logits(read_model(out)), expected, atol=1e-4)


@pytest.mark.parametrize("name", CASES)
def test_a_config_of_our_own_finds_its_family(name):
    _, config = read_config(ModelFiles(name, FIXTURES / name / "model"))
    stated = describe(config)
    assert stated["model_type"] == name
    assert stated["architectures"] == [
        json.loads((FIXTURES / name / "model" / "config.json").read_text())["architectures"][0]
    ]


def test_no_family_has_it():
    config = DecoderConfig(
        vocab=9, width=4, layers=2, heads=1, kv_heads=1, head_dim=4, mlp_width=3, context=8
    )
    assert describe(config)["model_type"] == "llama"
    kinds = (LayerKind(window=2), LayerKind(theta=3.0))
    with pytest.raises(InputError, match=r"no family of llama, .* has this model's combination"):
        describe(replace(config, kinds=kinds, pattern=(0, 1), norm="layer"))


def test_a_model_without_a_base(tmp_path):
    config = DecoderConfig(
        vocab=9, width=4, layers=2, heads=1, kv_heads=1, head_dim=4, mlp_width=3, context=8
    )
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), random_params(config))
    write_model(tmp_path / "out", config, params, lineage={"run": "a | b\nc<script>"})
    again = load(str(tmp_path / "out"), dtype="bfloat16")
    assert is_same_model(again.config, config)
    jax.tree.map(assert_array_equal, again.params, params)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| run | a \\| b c&lt;script> |" in card
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "bfloat16"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_tokenizer_files_are_copied_as_they_are(tmp_path):
    base = tmp_path / "base"
    model = fixture("qwen2")
    write_model(base, model.config, model.params, base=model.files, lineage={"a": "1"})
    (base / "tokenizer.json").write_bytes(b'{"odd":  "\xc3\xa9"}')
    (base / "vocab.txt").write_text("a\n")
    for name in ("pytorch_model.bin", "modeling.py"):
        (base / name).write_bytes(b"x")
    stated = json.loads((base / "config.json").read_text())
    stated |= {"auto_map": {"AutoConfig": "modeling.C"}, "torch_dtype": "bfloat16"}
    (base / "config.json").write_text(json.dumps(stated))
    out = tmp_path / "out"
    files = ModelFiles("some/model", base, "c" * 40)
    write_model(out, model.config, model.params, base=files, lineage={"teacher": "owl"})
    assert (out / "tokenizer.json").read_bytes() == b'{"odd":  "\xc3\xa9"}'
    assert (out / "vocab.txt").read_text() == "a\n"
    assert not {"pytorch_model.bin", "modeling.py"} & {path.name for path in out.iterdir()}
    written = json.loads((out / "config.json").read_text())
    assert not written.keys() & {"auto_map", "torch_dtype"}
    assert written["dtype"] == "float32"
    card = (out / "README.md").read_text()
    assert '"base_model": "some/model"' in card
    assert f"| base commit | {'c' * 40} |\n| teacher | owl |" in card
    (base / "merges.txt").symlink_to("/etc/passwd")
    with pytest.raises(InputError, match=r"merges\.txt: leads out of the model's directory"):
        write_model(tmp_path / "no", model.config, model.params, base=files, lineage={})


def test_what_is_not_read_back_equal_gets_no_name(tmp_path, monkeypatch):
    """Defects of an exporter: a factor not transposed back, a shard that is another's."""
    model = fixture("qwen2")
    whole = export._tensor
    monkeypatch.setattr(export, "_tensor", lambda parts: whole(parts) * np.float32(1.001))
    with pytest.raises(RunError, match="read back differs"):
        write_model(tmp_path / "out", model.config, model.params, base=model.files, lineage={})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "other",
    [jnp.zeros((2, 1)), jnp.zeros(2, jnp.int32), jnp.array([0, -0.0]), jnp.zeros(2, jnp.bfloat16)],
    ids=["shape", "type", "sign", "width"],
)
def test_what_is_equal_is_equal_to_the_bit(other, tmp_path):
    whole = {"b": jnp.ones(3), "a": {"c": jnp.zeros(2)}}
    export.check_equal(tmp_path, whole, {"a": {"c": jnp.zeros(2)}, "b": jnp.ones(3)})
    with pytest.raises(RunError, match="a/c read back differs from what was written"):
        export.check_equal(tmp_path, whole, whole | {"a": {"c": other}})


def test_what_cannot_be_written(tmp_path):
    model = fixture("qwen2")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "a").touch()
    with pytest.raises(InputError, match="taken: exists already"):
        write_model(tmp_path / "taken", model.config, model.params, lineage={})
    mixed = {**model.params, "embedding": model.params["embedding"].astype(jnp.bfloat16)}
    with pytest.raises(InputError, match="parameters of bfloat16, float32: make all"):
        write_model(tmp_path / "out", model.config, mixed, lineage={})
    other = replace(model.config, context=5)
    with pytest.raises(InputError, match=r"config.json describes another model"):
        write_model(tmp_path / "out", other, model.params, base=model.files, lineage={})


ADAPTERS = [
    ("qwen3", LoraConfig(rank=3, alpha=5.0)),
    ("gemma2", LoraConfig(rank=2, alpha=4.0, rank_stabilised=True, targets=("down", "query"),
                          layers=(1,))),
    ("gpt2", LoraConfig(rank=2, alpha=4.0, targets=("output", "up", "down"))),
    ("gpt2", LoraConfig(rank=2, alpha=0.7, targets=("up", "value", "key", "query"))),
    ("gpt2", LoraConfig(rank=3, alpha=2.3, rank_stabilised=True, targets=("query", "value"),
                        layers=(1,))),
    ("gpt2", LoraConfig(rank=2, targets=("key",))),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # PEFT's own
@pytest.mark.parametrize(("name", "settings"), ADAPTERS)
def test_an_adapter_comes_back(name, settings, tmp_path):
    model = fixture(name)
    adapter = trained(model, settings)
    write_adapter(tmp_path / "out", model, settings, adapter)
    read_settings, read = read_adapter(tmp_path / "out", model)
    assert read_settings.scale == settings.scale
    assert set(read_settings.targets) == set(settings.targets)
    jax.tree.map(assert_array_equal, read, adapter)

    reason = "PEFT reads adapters through torch"
    pytest.importorskip("torch", reason=reason)
    peft = pytest.importorskip("peft", reason=reason)
    theirs = peft.PeftModel.from_pretrained(read_model(model.files.path), tmp_path / "out")
    merged = lora.merge(model.config, settings, model.params, adapter)
    expected = apply(model.config, merged, jnp.asarray(TOKENS))
    plain = apply(model.config, model.params, jnp.asarray(TOKENS))
    assert np.abs(expected - plain).max() > 0.1
    assert_allclose(torch_logits(theirs), expected, atol=1e-4)


@pytest.fixture
def written(tmp_path):
    model, settings = fixture("qwen2"), LoraConfig(rank=2, targets=("up",))
    write_adapter(tmp_path / "out", model, settings, trained(model, settings))
    return tmp_path / "out", model


def test_an_adapter_of_another_base(written):
    out, model = written
    other = replace(model, params=jax.tree.map(lambda leaf: leaf + 1, model.params))
    with pytest.raises(InputError, match="is an adapter of another base"):
        read_adapter(out, other)
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), model.params)
    read_adapter(out, replace(model, params=half))  # the fixture's weights are bfloat16


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peft_type": "IA3"}, "peft_type 'IA3' is not supported"),
        ({"use_dora": True}, "use_dora=True is not supported"),
        ({"bias": "all"}, "bias='all' is not supported"),
        (
            {"target_modules": ["x_proj"]},
            r"target_modules=\['x_proj'\] matches no module; supported are q_proj",
        ),
        ({"target_modules": ["up_proj", "q_proj"]}, "q_proj.lora_A.weight is missing"),
        ({"layers_to_transform": [0]}, "layers.1.mlp.up_proj.lora_A.weight is not part of this"),
        ({"r": 3}, r"lora_A.weight is \[2, 24\]; an adapter of .* has \[3, 24\]"),
        ({"r": "x"}, "is malformed"),
        ({"r": 0}, "r=0 of .* must be a count from 1"),
    ],
)
def test_adapters_that_are_wrong(written, changes, message):
    out, model = written
    stated = json.loads((out / CONFIG).read_text()) | changes
    (out / CONFIG).write_text(json.dumps(stated))
    with pytest.raises(InputError, match=message):
        read_adapter(out, model)


def test_an_adapter_of_peers_has_no_digest(written):
    out, model = written
    save_file(load_file(out / WEIGHTS), out / WEIGHTS)
    _, adapter = read_adapter(out, model)
    assert adapter["mlp"]["up"]["a"].shape == (2, 24, 2)


@pytest.fixture
def of_c_attn(tmp_path):
    """GPT-2's query and value, as blocks of its one module; and the model."""
    model, settings = fixture("gpt2"), LoraConfig(rank=2, targets=("query", "value"))
    write_adapter(tmp_path / "out", model, settings, trained(model, settings))
    return tmp_path / "out", model


C_ATTN = "base_model.model.transformer.h.{}.attn.c_attn.lora_{}.weight"


def test_queries_and_values_are_blocks_of_one_module(of_c_attn):
    """Query and value of rank 2 are columns 0:24 and 48:72 of an adapter of rank 4."""
    out, model = of_c_attn
    stated, stored = json.loads((out / CONFIG).read_text()), load_file(out / WEIGHTS)
    assert stated["target_modules"] == ["attn.c_attn"]
    assert (stated["rank_pattern"], stated["alpha_pattern"]) == (
        {"attn.c_attn": 4}, {"attn.c_attn": 16.0}
    )  # fmt: skip
    assert stated["fan_in_fan_out"]
    _, adapter = read_adapter(out, model)
    pairs = adapter["attention"]
    b = np.zeros((72, 4), np.float32)
    b[:24, :2], b[48:, 2:] = pairs["query"]["b"][1].T, pairs["value"]["b"][1].T
    assert_array_equal(stored[C_ATTN.format(1, "B")], b)
    a = [pairs[name]["a"][1].T for name in ("query", "value")]
    assert_array_equal(stored[C_ATTN.format(1, "A")], np.concatenate(a))
    assert pairs.keys() == {"query", "value"}


@pytest.mark.parametrize("name", ["c_attn", "attn.c_attn"])
def test_a_peers_adapter_of_one_module_is_one_of_each_target(of_c_attn, name):
    """All have its `a`, and each its own columns of `b`."""
    out, model = of_c_attn
    stated = json.loads((out / CONFIG).read_text())
    stated |= {"target_modules": [name], "rank_pattern": {}, "alpha_pattern": None, "r": 4}
    (out / CONFIG).write_text(json.dumps(stated))
    rng = np.random.default_rng(1)
    tensors = {k: rng.normal(size=v.shape).astype("f") for k, v in load_file(out / WEIGHTS).items()}
    save_file(tensors, out / WEIGHTS)
    settings, adapter = read_adapter(out, model)
    assert (settings.rank, settings.targets) == (4, ("query", "key", "value"))
    merged = lora.merge(model.config, settings, model.params, adapter)["layers"]["attention"]
    for layer in range(2):
        a, b = (tensors[C_ATTN.format(layer, side)] for side in "AB")
        whole = settings.scale * (b @ a).T
        for i, target in enumerate(("query", "key", "value")):
            change = (
                merged[target]["kernel"] - model.params["layers"]["attention"][target]["kernel"]
            )
            assert_allclose(change[layer], whole[:, 24 * i : 24 * (i + 1)], atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rank_pattern": {}}, r"lora_A.weight is \[4, 24\]; an adapter of .* has \[2, 24\]"),
        ({"rank_pattern": {"attn.c_attn": 6}}, r"lora_A.weight is \[4, 24\]; .* has \[6, 24\]"),
        (
            {"rank_pattern": {"attn.c_attn": 5}},
            "rank_pattern: 5 of .*c_attn is not a multiple of 2",
        ),
        ({"alpha_pattern": {}}, "its settings or its weights were changed since it was written"),
        ({"target_modules": ["mlp.c_fc"]}, "c_attn.lora_A.weight is not part of this adapter"),
    ],
)
def test_blocks_with_other_settings(of_c_attn, change, message):
    out, model = of_c_attn
    (out / CONFIG).write_text(json.dumps(json.loads((out / CONFIG).read_text()) | change))
    with pytest.raises(InputError, match=message):
        read_adapter(out, model)


def test_blocks_that_are_none(of_c_attn):
    out, model = of_c_attn
    tensors, beside = load_file(out / WEIGHTS), {"block_targets": "query,value"}
    tensors[C_ATTN.format(1, "B")][30, 0] = 1
    save_file(tensors, out / WEIGHTS, metadata=beside)
    with pytest.raises(InputError, match=r"1.attn.c_attn.lora_B.weight is not 0 outside the block"):
        read_adapter(out, model)
    for blocks in ("query,up", ""):
        save_file(tensors, out / WEIGHTS, metadata={"block_targets": blocks})
        with pytest.raises(InputError, match=f"block_targets={blocks} is not supported; .* query"):
            read_adapter(out, model)


def test_an_adapter_that_is_not_read_back_equal_gets_no_name(tmp_path, monkeypatch):
    model, settings = fixture("qwen2"), LoraConfig(rank=2)
    save = lambda tensors, *a, **k: save_file({n: -t for n, t in tensors.items()}, *a, **k)
    monkeypatch.setattr(adapter_files, "save_file", save)
    with pytest.raises(RunError, match="read back differs"):
        write_adapter(tmp_path / "out", model, settings, trained(model, settings))
    assert list(tmp_path.iterdir()) == []
