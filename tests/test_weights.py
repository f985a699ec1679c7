"""Loading models: whole and broken directories, placement, named errors."""

import json
import os
import shutil
import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from quick import random_params
from safetensors.numpy import load_file, save_file
from torch_models import CASES, FIXTURES

from subliminal_jax.errors import InputError
from subliminal_jax.execution.mesh import make_mesh, tree_shardings
from subliminal_jax.models.decoder import decoder
from subliminal_jax.models.decoder.config import DecoderConfig, LayerKind, RopeScaling
from subliminal_jax.models.export import write_model
from subliminal_jax.models.hub.adapter_files import read_adapter
from subliminal_jax.models.hub.config_json import translate
from subliminal_jax.models.hub.model_files import INDEX, SINGLE
from subliminal_jax.models.hub.weights import load


def copy(name, tmp_path):
    return shutil.copytree(FIXTURES / name / "model", tmp_path / name)


@pytest.fixture
def qwen2(tmp_path):
    """One file of weights, tied."""
    return copy("qwen2", tmp_path)


@pytest.fixture
def llama(tmp_path):
    """Two files of weights and an index."""
    return copy("llama", tmp_path)


def restate(directory, file="config.json", **changes):
    stated = json.loads((directory / file).read_text()) | changes
    stated = {key: value for key, value in stated.items() if value != "left out"}
    (directory / file).write_text(json.dumps(stated))


def change_tensors(directory, change):
    tensors = load_file(directory / SINGLE)
    change(tensors)
    save_file(tensors, directory / SINGLE)


def check_refused(directory, message):
    with pytest.raises(InputError, match=message) as caught:
        load(str(directory))
    assert "\n" not in str(caught.value)


def test_stacked_and_transposed(qwen2):
    model = load(str(qwen2))
    stored = load_file(qwen2 / SINGLE)
    for layer in range(2):
        theirs = stored[f"model.layers.{layer}.mlp.up_proj.weight"]
        ours = model.params["layers"]["mlp"]["up"]["kernel"][layer]
        assert_array_equal(ours, theirs.T.astype(np.float32))
    assert model.files.commit is None
    assert {leaf.dtype.name for leaf in jax.tree.leaves(model.params)} == {"float32"}
    kept = load(str(qwen2), dtype="bfloat16").params
    assert {leaf.dtype.name for leaf in jax.tree.leaves(kept)} == {"bfloat16"}


def test_one_shard_more_than_the_model_is_held_at_most(tmp_path):
    config = DecoderConfig(
        vocab=29, width=128, layers=4, heads=4, kv_heads=4, head_dim=32, mlp_width=512, context=8
    )
    params = random_params(config)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    shard = size // 8
    write_model(tmp_path / "out", config, params, lineage={}, largest_shard=shard)
    assert len(list((tmp_path / "out").glob("*.safetensors"))) >= 8
    tracemalloc.start()
    load(str(tmp_path / "out"))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size / 8 < peak < size + shard


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_straight_to_a_mesh(name):
    directory = str(FIXTURES / name / "model")
    whole = load(directory)
    mesh = make_mesh(fsdp=2, tensor=2)
    rules = [("kernel", ("fsdp", "tensor")), ("embedding", (None, "fsdp"))]
    spread = load(directory, shardings=tree_shardings(whole.params, mesh, rules))
    kernel = spread.params["layers"]["mlp"]["up"]["kernel"]
    assert {shard.data.shape for shard in kernel.addressable_shards} == {(2, 12, 11)}
    jax.tree.map(assert_array_equal, spread.params, whole.params)


def test_the_old_spelling_of_rope_is_the_new_one(llama):
    new = load(str(llama)).config
    assert new.kinds[0].scaling.kind == "llama3"
    rope = json.loads((llama / "config.json").read_text())["rope_parameters"]
    theta = rope.pop("rope_theta")
    restate(llama, rope_parameters="left out", rope_theta=theta, rope_scaling=rope)
    assert load(str(llama)).config == new


def test_a_tied_model_may_hold_its_head_twice_if_it_is_the_same(qwen2):
    def same(tensors):
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]

    change_tensors(qwen2, same)
    assert "unembedding" not in load(str(qwen2)).params
    change_tensors(qwen2, lambda t: t.update({"lm_head.weight": t["lm_head.weight"] * 2}))
    check_refused(qwen2, "lm_head.weight differs from model.embed_tokens.weight, but")


def test_the_first_gpt2_has_no_prefix_and_keeps_its_masks(tmp_path):
    directory = copy("gpt2", tmp_path)
    expected = load(str(directory)).params
    tensors = {k.removeprefix("transformer."): v for k, v in load_file(directory / SINGLE).items()}
    tensors["h.0.attn.bias"] = np.ones((1, 1, 4, 4), np.float32)
    save_file(tensors, directory / SINGLE)
    jax.tree.map(assert_array_equal, load(str(directory)).params, expected)


@pytest.fixture
def gemma3(tmp_path):
    """Gemma 3 as it is published: the language model within a multimodal one."""
    directory = copy("gemma3_text", tmp_path)
    stated = json.loads((directory / "config.json").read_text())
    stated.pop("architectures")
    wrapped = {
        "architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3",
        "text_config": stated, "vision_config": {"model_type": "siglip_vision_model"},
    }  # fmt: skip
    (directory / "config.json").write_text(json.dumps(wrapped))
    tensors = {f"language_model.{k}": v for k, v in load_file(directory / SINGLE).items()}
    tensors["vision_tower.vision_model.embeddings.patch_embedding.bias"] = np.ones(3, np.float32)
    tensors["multi_modal_projector.mm_input_projection_weight"] = np.ones((2, 2), np.float32)
    save_file(tensors, directory / SINGLE)
    return directory


def test_of_a_multimodal_model_the_language_model_is_read(gemma3, tmp_path):
    model, own = load(str(gemma3)), load(str(FIXTURES / "gemma3_text" / "model"))
    assert model.config == own.config
    jax.tree.map(assert_array_equal, model.params, own.params)
    write_model(tmp_path / "out", model.config, model.params, base=model.files, lineage={})
    written = json.loads((tmp_path / "out" / "config.json").read_text())
    assert written["architectures"] == ["Gemma3ForCausalLM"]
    assert "vision_config" not in written
    stored = load_file(FIXTURES / "gemma3_text" / "model" / SINGLE)
    assert load_file(tmp_path / "out" / SINGLE).keys() == stored.keys()
    with pytest.raises(InputError, match="adapters of a multimodal model are not supported"):
        read_adapter(tmp_path, model)


def test_a_multimodal_model_that_is_wrong(gemma3):
    key = "language_model.model.layers.1.mlp.up_proj.weight"
    change_tensors(gemma3, lambda t: t.update({"model.norm.weight": np.ones(24, np.float32)}))
    check_refused(gemma3, "safetensors: model.norm.weight is not part of the model")
    change_tensors(gemma3, lambda t: t.update({key: t.pop("model.norm.weight")}))
    check_refused(gemma3, rf"{key} is \[24\]; by config.json")
    change_tensors(gemma3, lambda t: t.pop(key))
    check_refused(gemma3, f"the weights lack {key}")
    for part in (None, [], {}, {"model_type": "llama"}):
        restate(gemma3, text_config=part)
        check_refused(gemma3, "text_config of a gemma3 must be a gemma3_text")


def test_the_published_settings_of_gemma_3_4b():
    """Its config omits transformers' defaults, and spells the rest the old way."""
    text = {
        "model_type": "gemma3_text", "hidden_size": 2560, "intermediate_size": 10240,
        "num_hidden_layers": 34, "sliding_window": 1024,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
    }  # fmt: skip
    _, config = translate({"model_type": "gemma3", "text_config": text, "vision_config": {}})
    assert (config.heads, config.kv_heads, config.head_dim) == (8, 4, 256)
    assert (config.vocab, config.layers, config.context) == (262_208, 34, 131_072)
    assert (config.tied, config.scale, config.embedding_scale) == (True, 1 / 16, 2560**0.5)
    near, far = (
        LayerKind(window=1024),
        LayerKind(theta=1e6, scaling=RopeScaling(kind="linear", factor=8.0)),
    )
    kinds = [config.kinds[kind] for kind in config.layer_kinds]
    assert kinds == ([near] * 5 + [far]) * 5 + [near] * 4


def test_a_multimodal_model_of_transformers(tmp_path):
    torch = pytest.importorskip("torch", reason="transformers makes the model through torch")
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    text = CASES["gemma3_text"]
    vision = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1,
              "num_attention_heads": 1, "image_size": 16, "patch_size": 8}  # fmt: skip
    torch.manual_seed(0)
    theirs = Gemma3ForConditionalGeneration(
        Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4,
                     boi_token_index=26, eoi_token_index=27, image_token_index=28)
    ).eval()  # fmt: skip
    theirs.save_pretrained(tmp_path)
    tokens = np.arange(22).reshape(2, 11)
    with torch.no_grad():
        expected = theirs(torch.tensor(tokens)).logits.numpy()
    model = load(str(tmp_path))
    got = jax.jit(decoder.apply, static_argnums=0)(model.config, model.params, tokens)
    assert np.abs(expected).max() > 0.5
    assert_allclose(got, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "mamba"}, "'mamba' is not supported; supported are llama, mistral, qwen2"),
        ({"model_type": ["llama"]}, "is not supported; supported are llama"),
        ({"intermediate_size": 20}, r"mlp.*is \[.*22.*\]; by config.json it is \[.*20"),
        ({"num_hidden_layers": 3}, "num_hidden_layers. .3. must be equal"),
        ({"num_hidden_layers": 3, "layer_types": "left out"}, "the weights lack model.layers.2"),
        ({"num_hidden_layers": 1, "layer_types": "left out"}, "model.layers.1.*is not part of the"),
        ({"tie_word_embeddings": False}, "the weights lack lm_head.weight"),
        ({"vocab_size": 32}, r"embed_tokens.weight is \[29, 24\]"),
        ({"vocab_size": "many"}, "config.json: is malformed"),
        ({"vocab_size": 0}, "vocab_size=0: must be at least 1"),
        ({"num_key_value_heads": 4}, "heads=6: must be a multiple of kv_heads=4"),
        ({"hidden_act": "relu6"}, "activation 'relu6' is not supported; supported are silu"),
        ({"quantization_config": {"bits": 4}}, "quantised weights are not supported"),
        ({"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}},
         "rope type 'dynamic' is not supported"),
        ({"rope_parameters": {"rope_type": "linear", "factor": 0.0, "rope_theta": 1e4}},
         "rope factor=0.0: must be above 0"),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": -1.0}},
         "theta=-1.0: must be above 0"),
        ({"layer_types": ["full_attention"] * 3}, "config.json"),
    ],
)  # fmt: skip
def test_a_config_that_is_wrong(qwen2, changes, message):
    restate(qwen2, **changes)
    check_refused(qwen2, message)


def test_weights_that_are_wrong(qwen2):
    key = "model.layers.1.mlp.up_proj.weight"
    change_tensors(qwen2, lambda tensors: tensors.update({"more": np.ones(2, np.float32)}))
    check_refused(qwen2, "more is not part of the model in config.json")
    change_tensors(qwen2, lambda tensors: tensors.pop("more"))
    change_tensors(qwen2, lambda tensors: tensors.update({key: tensors[key].astype(np.int8)}))
    check_refused(qwen2, f"{key} is I8; supported are F64, F32")
    change_tensors(qwen2, lambda tensors: tensors.pop(key))
    check_refused(qwen2, f"the weights lack {key}")


def test_files_that_are_wrong(qwen2, tmp_path):
    weights = (qwen2 / SINGLE).read_bytes()
    for damaged in (weights[:-1], weights[: len(weights) // 2], b"", b"\x80\x04pickle"):
        (qwen2 / SINGLE).write_bytes(damaged)
        check_refused(qwen2, "model.safetensors: is damaged or not a safetensors file")
    (qwen2 / SINGLE).unlink()
    (qwen2 / "pytorch_model.bin").write_bytes(b"")
    check_refused(qwen2, "has neither model.safetensors nor model.safetensors.index.json; no other")
    for text, message in (
        ("{", "is not JSON"),
        ("[1]", "holds a list"),
        ('{"a": NaN}', "not JSON"),
    ):
        (qwen2 / "config.json").write_text(text)
        check_refused(qwen2, f"config.json: {message}|config.json: is {message}")
    with (qwen2 / "config.json").open("wb") as file:
        file.truncate(33 * 2**20)
    check_refused(qwen2, "34,603,008 bytes is too large")
    (qwen2 / "config.json").unlink()
    check_refused(qwen2, "has no config.json")
    check_refused(tmp_path / "nowhere", "neither a directory nor a hub id")


@pytest.mark.parametrize(
    "shard", ["../x.safetensors", "/x.safetensors", "a/../x.safetensors", "..\\x.safetensors", "",
              "x.bin", "x\0.safetensors"]
)  # fmt: skip
def test_no_file_outside_the_directory(llama, shard):
    for outside in (llama.parent / "x.safetensors", llama / "x.bin"):
        save_file({"a": np.ones(1)}, outside)
    index = json.loads((llama / INDEX).read_text())
    index["weight_map"]["lm_head.weight"] = shard
    (llama / INDEX).write_text(json.dumps(index))
    check_refused(llama, "is not a plain file name|is not a safetensors file")


def test_no_link_leads_out_and_no_pipe_is_opened(qwen2, tmp_path):
    (qwen2 / SINGLE).rename(tmp_path / "elsewhere")
    (qwen2 / SINGLE).symlink_to(tmp_path / "elsewhere")
    check_refused(qwen2, "leads out of the model's directory")
    (qwen2 / SINGLE).unlink()
    os.mkfifo(qwen2 / SINGLE)
    check_refused(qwen2, "is not a regular file")


def test_an_index_that_lies(llama):
    index = json.loads((llama / INDEX).read_text())
    files = sorted(set(index["weight_map"].values()))
    index["weight_map"]["lm_head.weight"] = files[files[0] == index["weight_map"]["lm_head.weight"]]
    (llama / INDEX).write_text(json.dumps(index))
    check_refused(llama, "puts lm_head.weight into model-0000.*, which lacks it")
    (llama / INDEX).write_text(json.dumps({"weight_map": ["a"]}))
    check_refused(llama, "has no weight_map")
    shutil.copy(llama / files[0], llama / "copy.safetensors")
    index["weight_map"]["more"] = "copy.safetensors"
    (llama / INDEX).write_text(json.dumps(index))
    check_refused(llama, "is in .* too")


def test_code_in_a_directory_stays_where_it_is(qwen2, tmp_path):
    canary = tmp_path / "ran"
    (qwen2 / "modeling.py").write_text(f"open({str(canary)!r}, 'w')")
    restate(qwen2, auto_map={"AutoConfig": "modeling.C", "AutoModelForCausalLM": "modeling.M"})
    assert jnp.isfinite(load(str(qwen2)).params["embedding"]).all()
    assert not canary.exists()
