"""Models in GGUF files: parameters and logits as of the directories that they were made from."""

import json
import shutil
import tracemalloc
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from torch_models import CASES, FIXTURES

gguf = pytest.importorskip("gguf", reason="GGUF files are read with the package gguf, an extra")

from gguf_files import write_gguf  # noqa: E402

from subliminal_jax.errors import InputError  # noqa: E402
from subliminal_jax.execution.mesh import make_mesh, tree_shardings  # noqa: E402
from subliminal_jax.models.decoder import decoder  # noqa: E402
from subliminal_jax.models.decoder.config import DecoderConfig  # noqa: E402
from subliminal_jax.models.export import write_model  # noqa: E402
from subliminal_jax.models.hub.export_config import is_same_model  # noqa: E402
from subliminal_jax.models.hub.gguf import tensors  # noqa: E402
from subliminal_jax.models.hub.gguf.rope_factors import CONTEXTS, llama3_rope  # noqa: E402
from subliminal_jax.models.hub.gguf.tensors import GgufModel, _supported  # noqa: E402
from subliminal_jax.models.hub.model_files import find_model  # noqa: E402
from subliminal_jax.models.hub.weights import load, read_config  # noqa: E402

Q8_0 = gguf.GGMLQuantizationType.Q8_0
STATED_ELSEWHERE = {
    "llama": {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}},
    "gemma2": {"query_pre_attn_scalar": 10},
    "gemma3_text": {
        "query_pre_attn_scalar": 10,
        "num_hidden_layers": 3,
        "layer_types": ["sliding_attention"] * 3,
        "rope_parameters": {"sliding_attention": {"rope_type": "default", "rope_theta": 100.0}},
    },
}
"""What a GGUF file of a family cannot state; llama.cpp fixes it."""


def given(name, tmp_path, **changes):
    """The stored model of a family, with another config."""
    directory = shutil.copytree(FIXTURES / name / "model", tmp_path / name)
    stated = json.loads((directory / "config.json").read_text()) | changes
    (directory / "config.json").write_text(json.dumps(stated))
    return directory


def same(one, other):
    leaves = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in leaves)


@pytest.mark.parametrize("name", CASES)
def test_a_file_is_the_directory_that_it_was_made_from(name, tmp_path):
    directory = given(name, tmp_path, **STATED_ELSEWHERE.get(name, {}))
    path = write_gguf(tmp_path / "model.gguf", directory)
    ours, theirs = load(str(path)), load(str(directory))
    assert same(ours.params, theirs.params)
    assert is_same_model(replace(ours.config, initial_std=theirs.config.initial_std), theirs.config)


def test_it_is_dequantised_into_the_dtype_that_is_asked_for(tmp_path):
    directory = given("llama", tmp_path)
    path = write_gguf(tmp_path / "model.gguf", directory)
    ours, theirs = (load(str(place), dtype="bfloat16").params for place in (path, directory))
    assert same(ours, theirs)


def test_no_parameter_is_held_in_another_dtype(tmp_path, monkeypatch):
    """Beside a parameter in its own dtype, only some rows of it are held at a time."""
    monkeypatch.setattr(tensors, "_BLOCK", 1 << 14)
    config = DecoderConfig(
        vocab=40_000, width=128, layers=2, heads=2, kv_heads=2, head_dim=64, mlp_width=128,
        context=8, tied=True,
    )  # fmt: skip
    params = decoder.init(config, jax.random.key(0))
    write_model(tmp_path / "made", config, params, lineage={})
    path = write_gguf(tmp_path / "model.gguf", tmp_path / "made", kind=Q8_0)
    load(str(path), dtype="bfloat16")  # imports and compiles
    tracemalloc.start()
    load(str(path), dtype="bfloat16")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.5 * 2 * config.vocab * config.width


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_straight_to_a_mesh(name, tmp_path):
    path = write_gguf(tmp_path / "model.gguf", FIXTURES / name / "model")
    whole = load(str(path))
    rules = [("kernel", ("fsdp", "tensor")), ("embedding", (None, "fsdp"))]
    mesh = make_mesh(fsdp=2, tensor=2)
    split = load(str(path), shardings=tree_shardings(whole.params, mesh, rules))
    assert same(split.params, whole.params)


@pytest.mark.parametrize("kind", sorted(_supported()))
def test_every_type_that_the_package_dequantises(kind, tmp_path):
    """Query rows are permuted, and read a head at a time, whatever type they are of."""
    kind = gguf.GGMLQuantizationType(kind)
    block, size = gguf.GGML_QUANT_SIZES[kind]
    heads, rows, width = 3, 3 * 4, max(8, 2 * block)
    random = np.random.default_rng(0)
    stored = random.integers(0, 60, (rows, width // block * size), dtype=np.uint8)
    if block == 1:
        stored = gguf.quantize(random.normal(size=(rows, width)).astype(np.float32), kind)
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "llama")
    for name, value in {"block_count": 1, "embedding_length": width, "head_count": heads,
                        "feed_forward_length": 1, "context_length": 8,
                        "layer_norm_rms_eps": 1e-5, "key_length": 4}.items():  # fmt: skip
        getattr(writer, f"add_{name}")(value)
    writer.add_tensor("blk.0.attn_q.weight", stored, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    tensor = GgufModel(find_model(str(tmp_path))).tensors["blk.0.attn_q.weight"]
    plain = gguf.dequantize(stored, kind).reshape(heads, 2, 2, width)
    expected = plain.swapaxes(1, 2).reshape(rows, width)
    assert_array_equal(tensor.read((slice(None), slice(None)), "float32"), expected)
    assert_array_equal(tensor.read((slice(3, 9), slice(1, 5)), "float32"), expected[3:9, 1:5])


def factors(theta, head, factor, context):
    """As llama.cpp's converter computes them: a slow frequency is divided by `factor`."""
    frequencies = theta ** -(np.arange(0, head, 2) / head)
    turns = context * frequencies / (2 * np.pi)
    kept = np.clip((turns - 1.0) / (4.0 - 1.0), 0.0, 1.0)
    return (1.0 / ((1.0 - kept) / factor + kept)).astype(np.float32)


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize(("theta", "head", "factor"), [(5e5, 128, 8.0), (5e5, 64, 32.0)])
def test_every_context_of_llama_3_is_told_from_its_factors(theta, head, factor, context):
    stored = factors(theta, head, factor, context)
    found = llama3_rope(stored, theta, head)
    assert (found["factor"], found["original_max_position_embeddings"]) == (factor, context)
    for wrong in stored * 1.001, stored[1:], np.full(head // 2, np.nan, np.float32):
        with pytest.raises(InputError):
            llama3_rope(wrong, theta, head)


def test_the_longer_context_of_llama_3_is_found_from_its_factors(tmp_path):
    rope = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192, "rope_theta": 1e7}  # fmt: skip
    directory = given("llama", tmp_path, rope_parameters=rope, head_dim=4)
    stored = factors(1e7, 4, 8.0, 8192)
    path = write_gguf(tmp_path / "model.gguf", directory, more={"rope_freqs.weight": stored})
    _, config = read_config(find_model(str(path)))
    assert config.kinds == read_config(find_model(str(directory)))[1].kinds


def test_parts_are_one_model(tmp_path):
    directory = FIXTURES / "llama" / "model"
    (tmp_path / "whole").mkdir()
    whole = write_gguf(tmp_path / "whole" / "it.gguf", directory)
    (tmp_path / "parts").mkdir()
    write_gguf(tmp_path / "parts" / "it.gguf", directory, split_max_tensors=5)
    assert len(list((tmp_path / "parts").iterdir())) > 2
    assert same(load(str(tmp_path / "parts")).params, load(str(whole)).params)


ORACLE = {
    "llama": {"attention_bias": False, "mlp_bias": False, "rope_theta": 500.0},
    "mistral": {"sliding_window": None},
    "qwen2": {"tie_word_embeddings": True},
    "qwen3": {"head_dim": 128},
    "gemma2": {"head_dim": 256, "query_pre_attn_scalar": 256, "num_hidden_layers": 3,
               "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0},
    "gemma3_text": {"head_dim": 256, "query_pre_attn_scalar": 256, "num_hidden_layers": 7,
                    "rope_theta": 1e6},
    "gpt2": {"n_inner": 96, "n_positions": 1024},
}  # fmt: skip
"""Models that transformers' own reading of GGUF computes as llama.cpp does."""


@pytest.mark.parametrize("name", ORACLE)
def test_logits_are_those_of_transformers_from_the_same_file(name, tmp_path):
    torch = pytest.importorskip("torch", reason="transformers reads the file through torch")
    pytest.importorskip("accelerate", reason="transformers reads the file through it")
    from transformers import AutoConfig, AutoModelForCausalLM

    base = json.loads((FIXTURES / name / "model" / "config.json").read_text())
    for old in ("layer_types", "rope_parameters", "dtype", "architectures", "transformers_version"):
        base.pop(old, None)
    config = AutoConfig.for_model(**base | {"vocab_size": 300} | ORACLE[name])
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "made")
    words = [f"word{i}" for i in range(300)]
    vocabulary = [("tokenizer_model", "gpt2"), ("token_list", words), ("token_types", [1] * 300)]
    path = write_gguf(tmp_path / "model.gguf", tmp_path / "made", settings=vocabulary)
    theirs = AutoModelForCausalLM.from_pretrained(
        tmp_path, gguf_file=path.name, dtype=torch.float32
    ).eval()
    tokens = np.random.default_rng(1).integers(0, 300, (2, 24))
    with torch.no_grad():
        expected = theirs(torch.tensor(tokens)).logits.numpy()
    ours = load(str(path))
    np.testing.assert_allclose(
        decoder.apply(ours.config, ours.params, jnp.asarray(tokens)), expected, atol=1e-4, rtol=1e-4
    )
