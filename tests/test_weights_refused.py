"""Refused model directories: hostile sizes, odd names, malformed numbers."""

import json
import shutil
import struct
import time

import jax
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from safetensors.numpy import load_file, save_file
from torch_models import FIXTURES

from subliminal_jax.errors import InputError
from subliminal_jax.models.hub import model_files as weights_files
from subliminal_jax.models.hub.config_json import translate
from subliminal_jax.models.hub.families import FAMILIES
from subliminal_jax.models.hub.model_files import INDEX, SINGLE, ModelFiles, find_model, shown
from subliminal_jax.models.hub.weights import load, read_config

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"


@pytest.fixture
def qwen2(tmp_path):
    """One file of weights, tied."""
    return shutil.copytree(FIXTURES / "qwen2" / "model", tmp_path / "qwen2")


@pytest.fixture
def llama(tmp_path):
    """Two files of weights and an index."""
    return shutil.copytree(FIXTURES / "llama" / "model", tmp_path / "llama")


def stated_of(name):
    return json.loads((FIXTURES / name / "model" / "config.json").read_text())


def rename(directory, change):
    tensors = load_file(directory / SINGLE)
    save_file({change(name): tensor for name, tensor in tensors.items()}, directory / SINGLE)


def check_refused(directory, message):
    with pytest.raises(InputError, match=message) as caught:
        load(str(directory))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("llama", {"num_hidden_layers": 10**6}, "num_hidden_layers=1,000,000: must be .* 10,000"),
        ("gpt2", {"n_layer": 10**6}, "n_layer=1,000,000: must be at least 1 and at most 10,000"),
        ("qwen2", {"num_hidden_layers": 10**4, "layer_types": None},
         "lack model.layers.2.*counts 10,000 layers and 2 are stored"),
        ("qwen2", {"layer_types": ["full_attention"] * 10**6}, "layer_types is not a list of at"),
        ("llama", {"vocab_size": 2**40}, "vocab_size=1,099,511,627,776: must be at least 1 and"),
        ("llama", {"vocab_size": 2**31 - 1}, r"embed_tokens.weight is \[29, 24\]; by config.json"),
        ("llama", {"vocab_size": 10**4000}, "vocab_size=a number of more than 30 digits"),
        ("llama", {"vocab_size": True}, "vocab_size is a bool, not a count"),
        ("llama", {"attention_dropout": "high"}, "attention_dropout is a str, not a number"),
        ("llama", {"intermediate_size": 2**31 - 1}, r"by config.json it is \[24, 2147483647\]"),
        ("qwen3", {"head_dim": 2**30}, "head_dim=1073741824: must be at most 65,536"),
        ("gpt2", {"n_positions": 2**31 - 1}, r"wpe.weight is \[96, 24\]; by config.json"),
        ("mistral", {"sliding_window": 2**70}, "window=.*: must be at least 1 and below 2.31"),
        ("llama", {"rms_norm_eps": -1.0}, "norm_epsilon=-1.0: must be at least 0 and finite"),
        ("gemma2", {"query_pre_attn_scalar": -1}, "query_pre_attn_scalar=-1: must be above 0"),
        ("gemma2", {"final_logit_softcapping": 0.0}, "logit_softcap=0.0: must be above 0"),
        ("llama", {"hidden_act": "x" * 10**6}, "activation 'xxx"),
        ("llama", {"model_type": "x\n" * 10**6}, "model_type 'x"),
    ],
)  # fmt: skip
def test_sizes_are_bounded_before_work(name, changes, message, tmp_path):
    directory = shutil.copytree(FIXTURES / name / "model", tmp_path / name)
    (directory / "config.json").write_text(json.dumps(stated_of(name) | changes))
    started = time.monotonic()
    check_refused(directory, message)
    assert time.monotonic() - started < 10


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("llama", {"quantization_config": {"bits": 4}}, "quantised weights are not supported"),
        ("llama", {"per_layer_config": {"0": {"intermediate_size": 3}}}, "per_layer_config is not"),
        ("llama", {"layer_types": ["sliding_attention"] * 2}, "layer_types: all layers of a llama"),
        ("mistral", {"layer_types": ["full_attention"] * 2}, "layer_types: all layers of a mistra"),
        ("olmo2", {"sliding_window": 4}, "sliding_window=4: a olmo2 has no windows; set it"),
        ("qwen2", {"layer_types": ["sliding_attention"] * 2}, "there is no sliding_window; set"),
        ("gemma2", {"sliding_window": None}, "there is no sliding_window; set it"),
        ("gemma3_text", {"attn_logit_softcapping": 3.0}, "attn_logit_softcapping has no effect on"),
        ("gemma2", {"use_bidirectional_attention": True}, "use_bidirectional_attention is not sup"),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "only scale_attn_by_inverse_layer_idx"),
        ("llama", {"partial_rotary_factor": 0.5}, "partial_rotary_factor=0.5 is not supported"),
        ("llama", {"rope_parameters": {"rope_theta": 1e4, "factor": 2.0}}, "factor=2.0 is not sup"),
        ("qwen2", {"rope_parameters": {"rope_theta": 1e4, "mrope_section": [1]}}, "mrope_section="),
        ("llama", {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 2.0,
                                       "original_max_position_embeddings": 8}}, "'yarn' is not"),
        ("gemma2", {"rope_parameters": {"full_attention": {"rope_theta": 1e4}}}, "no rope_theta"),
    ],
)  # fmt: skip
def test_settings_that_are_not_understood(name, changes, message):
    with pytest.raises(InputError, match=message):
        translate(stated_of(name) | changes)


@pytest.mark.parametrize(
    ("name", "changes", "expected"),
    [
        ("llama", {"quantization_config": None, "per_layer_config": None}, {}),
        ("llama", {"num_labels": 10**9, "dtype": "junk", "id2label": {"0": "a"}}, {}),
        ("llama", {"hidden_activation": "gelu", "layer_types": None}, {"activation": "silu"}),
        ("llama", {"sliding_window": 4096, "logit_scale": 3.0}, {}),
        ("gemma2", {"hidden_act": "silu"}, {"activation": "gelu_tanh"}),
        ("mistral", {"attention_bias": True, "mlp_bias": True},
         {"qkv_bias": False, "output_bias": False, "mlp_bias": False}),
        ("qwen2", {"attention_bias": True}, {"qkv_bias": True, "output_bias": False}),
        ("qwen2", {"attention_bias": False}, {"qkv_bias": True, "output_bias": False}),
        ("qwen3", {"attention_bias": True, "mlp_bias": True},
         {"qkv_bias": True, "output_bias": True, "mlp_bias": False}),
        ("gemma3_text", {"attention_bias": True}, {"qkv_bias": True, "output_bias": True}),
        ("llama", {"partial_rotary_factor": 1.0}, {}),
    ],
)  # fmt: skip
def test_settings_mean_what_they_mean_in_transformers(name, changes, expected):
    _, plain = translate(stated_of(name))
    _, config = translate(stated_of(name) | changes)
    assert {key: getattr(config, key) for key in expected} == expected
    if not expected:
        assert config == plain


def test_an_original_context_beside_the_rotations_wins():
    _, config = translate(stated_of("llama") | {"original_max_position_embeddings": 8})
    assert config.kinds[0].scaling.original_context == 8


def test_of_a_multimodal_model_the_outer_config_says_whether_it_is_tied():
    text = stated_of("gemma3_text") | {"tie_word_embeddings": False}
    for stated, tied in (({}, True), ({"tie_word_embeddings": False}, False)):
        _, config = translate({"model_type": "gemma3", "text_config": text} | stated)
        assert config.tied is tied


def test_a_single_file_beside_an_index_is_the_model(llama):
    tensors = {}
    for file in llama.glob("model-*.safetensors"):
        tensors |= {name: tensor * 2 for name, tensor in load_file(file).items()}
    save_file(tensors, llama / SINGLE)
    assert_array_equal(load(str(llama)).params["embedding"], tensors[EMBEDDING].astype("f"))
    for file in llama.glob("model-*.safetensors"):
        file.unlink()
    load(str(llama))


def test_an_index_whose_files_are_gone(llama):
    min(llama.glob("model-*.safetensors")).unlink()
    check_refused(llama, "1 of its 2 files are missing, among them model-00001.*copy or download")
    (llama / INDEX).write_text('{"weight_map": {}}')
    check_refused(llama, "its weight_map is empty")
    (llama / INDEX).write_text(json.dumps({"weight_map": {"a": "x" * 3000 + ".safetensors"}}))
    check_refused(llama, "among them xxx")


@pytest.mark.parametrize(
    "change",
    [
        lambda name: f"_orig_mod.{name}",
        lambda name: f"module.{name}",
        lambda name: f"module._orig_mod.{name}",
        lambda name: name.replace("layers.0.", "layers.0._fsdp_wrapped_module."),
        lambda name: name.replace("mlp.", "mlp._checkpoint_wrapped_module."),
        lambda name: name.removeprefix("model."),
        lambda name: name.replace(EMBEDDING, HEAD),
    ],
)
def test_names_that_wrappers_make(qwen2, change):
    expected = load(str(qwen2)).params
    rename(qwen2, change)
    jax.tree.map(assert_array_equal, load(str(qwen2)).params, expected)


def test_names_that_are_not_understood(qwen2):
    rename(qwen2, lambda name: f"base_model.model.{name}")
    check_refused(qwen2, "base_model.model.model.* is named by PEFT; merge the adapter")
    rename(qwen2, lambda name: name.replace("base_model.model.", "engine."))
    check_refused(qwen2, "the weights lack model.layers.0.mlp.up_proj.weight: .* 0 are stored")
    rename(qwen2, lambda name: name.removeprefix("engine."))
    tensors = load_file(qwen2 / SINGLE)
    save_file(tensors | {f"module.{EMBEDDING}": tensors[EMBEDDING]}, qwen2 / SINGLE)
    check_refused(qwen2, f"{EMBEDDING} and .*{EMBEDDING} are one")
    save_file(tensors | {"\n" * 500: tensors[EMBEDDING]}, qwen2 / SINGLE)
    check_refused(qwen2, "is not part of the model in config.json")


def test_biases_that_transformers_would_not_read(tmp_path):
    directory = shutil.copytree(FIXTURES / "mistral" / "model", tmp_path / "mistral")
    stated = stated_of("mistral") | {"attention_bias": True}
    (directory / "config.json").write_text(json.dumps(stated))
    tensors = load_file(directory / SINGLE)
    name = "model.layers.0.self_attn.q_proj.bias"
    save_file(tensors | {name: np.ones(60, np.float32)}, directory / SINGLE)
    check_refused(directory, f"{name} is not part of .* in transformers, it has no such bias")


def test_an_adapter_beside_a_model_or_alone(qwen2):
    (qwen2 / "adapter_config.json").write_text("{}")
    check_refused(qwen2, "holds an adapter .adapter_config.json. beside the model")
    (qwen2 / "config.json").unlink()
    check_refused(qwen2, "is an adapter .adapter_config.json., not a model; merge it into its")


def test_pointers_of_git_lfs(qwen2, llama):
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    (qwen2 / SINGLE).write_bytes(pointer)
    check_refused(qwen2, "safetensors: is a Git LFS pointer, .* run `git lfs pull` in")
    (qwen2 / "config.json").write_bytes(pointer)
    check_refused(qwen2, "config.json: is a Git LFS pointer")
    max(llama.glob("model-*.safetensors")).write_bytes(pointer)
    check_refused(llama, "model-00002.* is a Git LFS pointer")


@pytest.mark.parametrize("stored", ["bfloat16", "float16", "float32", "float64"])
def test_weights_that_are_no_numbers(qwen2, stored):
    name, tensors = "model.layers.1.mlp.up_proj.weight", load_file(qwen2 / SINGLE)
    for value in (np.nan, np.inf, -np.inf):
        changed = tensors[name].astype(stored)
        changed[-1, -1] = value
        save_file(tensors | {name: changed}, qwen2 / SINGLE)
        for dtype in ("float32", "bfloat16"):
            with pytest.raises(InputError, match=f"{name} holds NaN, or numbers that are infinite"):
                load(str(qwen2), dtype=dtype)


def test_numbers_too_large_for_the_dtype(qwen2):
    tensors = load_file(qwen2 / SINGLE)
    large = tensors[EMBEDDING].astype(np.float64)
    large[3, 3] = 1e300
    save_file(tensors | {EMBEDDING: large}, qwen2 / SINGLE)
    check_refused(qwen2, f"{EMBEDDING} holds NaN, or numbers that are infinite as float32")


def test_headers_are_bounded(qwen2, monkeypatch):
    with (qwen2 / SINGLE).open("wb") as file:
        file.write(struct.pack("<Q", 90 << 20))
        file.truncate(91 << 20)
    check_refused(qwen2, "a header of 94,371,840 bytes; at most 16,777,216")
    monkeypatch.setattr(weights_files, "MOST_TENSORS", 3)
    shutil.copy(FIXTURES / "qwen2" / "model" / SINGLE, qwen2)
    check_refused(qwen2, "has more than 3 tensors")


def test_links_and_names_that_lead_nowhere(qwen2, tmp_path):
    (qwen2 / "config.json").rename(tmp_path / "elsewhere")
    (qwen2 / "config.json").symlink_to(tmp_path / "elsewhere")
    check_refused(qwen2, "config.json: leads out of the model's directory")
    (qwen2 / "config.json").unlink()
    (qwen2 / "config.json").symlink_to("config.json")
    check_refused(qwen2, "config.json")
    (qwen2 / "config.json").unlink()
    (qwen2 / "config.json").mkdir()
    check_refused(qwen2, "config.json: is not a regular file")
    with pytest.raises(InputError):
        find_model("x/" * 5000)
    assert shown("a\nb") == "'a\\nb'"
    assert len(shown("\u2028" * 10**6)) < 1000


def test_deep_json(qwen2):
    deep = "[" * 100_000 + "]" * 100_000
    (qwen2 / "config.json").write_text('{"model_type": "qwen2", "x": ' + deep + "}")
    check_refused(qwen2, "config.json: is not JSON")
    nested = '{"a":' * 900 + "1" + "}" * 900
    (qwen2 / "config.json").write_text('{"model_type": "qwen2", "rope_parameters": ' + nested + "}")
    check_refused(qwen2, "config.json: ")


def test_every_fixture_is_understood():
    for name in ("llama", "mistral", "qwen2", "qwen3", "olmo2", "gemma2", "gemma3_text", "gpt2"):
        directory = FIXTURES / name / "model"
        stated = json.loads((directory / "config.json").read_text())
        family, config = read_config(ModelFiles(name, directory))
        assert [family.architecture] == stated["architectures"] == [FAMILIES[name].architecture]
        assert config.layers == stated.get("num_hidden_layers", stated.get("n_layer"))
