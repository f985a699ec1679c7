"""PEFT's settings: read as PEFT reads them, refused by name, and never changed unnoticed."""

import json
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from safetensors.numpy import load_file, save_file
from torch_models import FIXTURES, read_model

from subliminal_jax.errors import InputError
from subliminal_jax.models.decoder import decoder, lora
from subliminal_jax.models.decoder.lora import LoraConfig
from subliminal_jax.models.hub import pattern_matching as adapter_match
from subliminal_jax.models.hub.adapter_files import CONFIG, WEIGHTS, read_adapter, write_adapter
from subliminal_jax.models.hub.adapter_settings import _READ, HARMLESS, read_settings
from subliminal_jax.models.hub.model_files import ModelFiles, read_header
from subliminal_jax.models.hub.pattern_matching import matches
from subliminal_jax.models.hub.weights import load, read_config

TOKENS = np.random.default_rng(3).integers(0, 29, (2, 9))
apply = jax.jit(decoder.apply, static_argnums=0)
PLAIN = {"peft_type": "LORA", "r": 4, "lora_alpha": 6, "target_modules": ["q_proj", "up_proj"]}
FULL = [f"model.layers.{i}.{name}" for i in (0, 1) for name in ("self_attn.q_proj", "mlp.up_proj")]


@pytest.fixture(scope="module")
def model():
    return load(str(FIXTURES / "qwen3" / "model"))


@pytest.fixture(scope="module")
def plain(model, tmp_path_factory):
    """An adapter of query and up by PEFT, without our digests; no value is zero."""
    out = tmp_path_factory.mktemp("adapter") / "out"
    settings = LoraConfig(rank=4, alpha=6.0, targets=("query", "up"))
    write_adapter(out, model, settings, _random(model, settings))
    save_file(load_file(out / WEIGHTS), out / WEIGHTS)
    return out


def _random(model, settings):
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: lora.init(model.config, settings, jax.random.key(0)))
    return jax.tree.map(lambda s: jnp.asarray(rng.normal(0, 0.3, s.shape), jnp.float32), shapes)


def settings_of(stated, name="qwen3", blocks=()):
    family, config = read_config(ModelFiles(name, FIXTURES / name / "model"))
    return read_settings(FIXTURES / CONFIG, PLAIN | stated, family, config, blocks)


SAME = [
    {"modules_to_save": [], "layers_to_transform": [], "exclude_modules": [], "rank_pattern": {}},
    {"target_modules": r".*\.(self_attn\.q_proj|mlp\.up_proj)"},
    {"target_modules": FULL},
    {"target_modules": ["q_proj", "up_proj", "w1"]},
    {"target_modules": ["self_attn.q_proj", "layers.0.mlp.up_proj", "layers.1.mlp.up_proj"]},
    {"target_modules": ["q_proj", "up_proj", "k_proj"], "exclude_modules": ["self_attn.k_proj"]},
    {"target_modules": ["q_proj", "up_proj", "o_proj"], "exclude_modules": r".*o_proj"},
    {"target_modules": "all-linear", "exclude_modules": r".*\.(k|v|o|gate|down)_proj"},
    {"layers_to_transform": [0, 1], "layers_pattern": "layers"},
    {"layers_to_transform": [0, 1], "layers_pattern": ["layers", "h"]},
    {"rank_pattern": {"q_proj": 4}, "alpha_pattern": {"up_proj": 6, "k_proj": 3}},
    {"r": 9, "lora_alpha": 1, "rank_pattern": {"(q|up)_proj": 4},
     "alpha_pattern": {"model.layers.[01].*": 6.0, "q_proj": 7}},
    {"init_lora_weights": False},
    {"init_lora_weights": "gaussian"},
    {"init_lora_weights": "eva", "eva_config": {"rho": 1.0}},
    {"init_lora_weights": "orthogonal"},
    {"init_lora_weights": "mica"},
    {"lora_dropout": 0.5, "fan_in_fan_out": True, "inference_mode": True, "peft_version": "0.1",
     "corda_config": {}, "qalora_group_size": 8, "lora_bias": False, "megatron_core": "m"},
]  # fmt: skip
"""Ways to say that query and up of all layers have rank 4 and alpha 6."""


@pytest.mark.parametrize("stated", SAME)
def test_ways_to_say_the_same(stated):
    found = settings_of(stated)
    assert (found.rank, found.alpha, set(found.targets)) == (4, 6.0, {"query", "up"})
    assert found.layers in (None, (0, 1))


@pytest.mark.filterwarnings("ignore")  # PEFT's own: of what it ignores, and of deprecations
def test_peft_says_the_same_of_them(model, plain, tmp_path):
    pytest.importorskip("torch", reason="PEFT reads adapters through torch")
    peft = pytest.importorskip("peft", reason="PEFT is an extra; its answers are compared")
    import torch

    settings, adapter = read_adapter(plain, model)
    merged = lora.merge(model.config, settings, model.params, adapter)
    expected = apply(model.config, merged, jnp.asarray(TOKENS))
    assert np.abs(expected - apply(model.config, model.params, jnp.asarray(TOKENS))).max() > 0.1
    base = json.loads((plain / CONFIG).read_text()) | {"layers_pattern": None}
    for number, stated in enumerate(SAME):
        out = tmp_path / str(number)
        out.mkdir()
        (out / CONFIG).write_text(json.dumps(base | stated))
        (out / WEIGHTS).write_bytes((plain / WEIGHTS).read_bytes())
        theirs = peft.PeftModel.from_pretrained(read_model(model.files.path), out)
        with torch.no_grad():
            logits = theirs(torch.tensor(TOKENS)).logits.numpy()
        assert_allclose(logits, expected, atol=1e-4, err_msg=str(stated))


def test_what_is_listed_is_all_that_peft_has():
    peft = pytest.importorskip("peft", reason="PEFT is an extra; its settings are compared")
    for name, value in peft.LoraConfig().to_dict().items():
        assert name in (*_READ, *HARMLESS) or not value, name


def test_one_layer():
    assert settings_of({"layers_to_transform": 1}).layers == (1,)
    assert settings_of({"layers_to_transform": [1, 1]}).layers == (1,)
    assert settings_of({"target_modules": FULL[2:]}).layers == (1,)
    assert settings_of({"target_modules": r"model\.layers\.1\.mlp\.up_proj"}).layers == (1,)
    # A module named in full is adapted whatever its layer.
    assert settings_of({"target_modules": FULL, "layers_to_transform": 1}).layers is None


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ({"init_lora_weights": "pissa"}, "init_lora_weights='pissa' is not supported"),
        ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights='pissa_niter_4' is not supp"),
        ({"init_lora_weights": "OLoRA"}, "init_lora_weights='OLoRA' is not supported"),
        ({"init_lora_weights": "corda"}, "init_lora_weights='corda' is not supported"),
        ({"init_lora_weights": "loftq"}, "init_lora_weights='loftq' is not supported"),
        ({"init_lora_weights": "lora_ga"}, "init_lora_weights='lora_ga' is not supported"),
        ({"init_lora_weights": 1}, "init_lora_weights=1 is not supported"),
        ({"alora_invocation_tokens": [1, 2]}, r"alora_invocation_tokens=\[1, 2\] is not supp"),
        ({"use_dora": True}, "use_dora=True is not supported"),
        ({"lora_bias": True}, "lora_bias=True is not supported"),
        ({"use_qalora": True}, "use_qalora=True is not supported"),
        ({"target_parameters": ["a"]}, r"target_parameters=\['a'\] is not supported"),
        ({"trainable_token_indices": [0]}, r"trainable_token_indices=\[0\] is not supported"),
        ({"layer_replication": [[0, 2]]}, r"layer_replication=\[\[0, 2\]\] is not supported"),
        ({"modules_to_save": ["lm_head"]}, r"modules_to_save=\['lm_head'\] is not supported"),
        ({"megatron_config": {"a": 1}}, "megatron_config={'a': 1} is not supported"),
        ({"arrow_config": {"a": 1}}, "arrow_config={'a': 1} is not supported"),
        ({"kasa_config": {"a": 1}}, "kasa_config={'a': 1} is not supported"),
        ({"use_bdlora": {"a": 1}}, "use_bdlora={'a': 1} is not supported"),
        ({"ensure_weight_tying": True}, "ensure_weight_tying=True is not supported"),
        ({"of_the_future": 2}, "of_the_future=2 is not supported"),
        ({"task_type": "SEQ_CLS"}, "task_type='SEQ_CLS' is not supported"),
        ({"bias": "lora_only"}, "bias='lora_only' is not supported"),
        ({"use_rslora": 1}, "use_rslora=1 is not supported"),
        ({"use_rslora": "false"}, "use_rslora='false' is not supported"),
        ({"r": True}, "r=True of .* must be a count"),
        ({"r": 2.5}, "r=2.5 of .* must be a count"),
        ({"r": 2**40}, "r=1099511627776 of .* must be a count from 1 to 65,536"),
        ({"lora_alpha": "6"}, "lora_alpha='6' of .* is not a number"),
        ({"lora_alpha": -1}, "lora.alpha=-1.0: must be positive and finite"),
        ({"rank_pattern": {"q_proj": 2}}, "rank_pattern={'q_proj': 2} is not supported: modules d"),
        ({"alpha_pattern": {"q_proj": 2}}, "alpha_pattern={'q_proj': 2} is not supported: modul"),
        ({"rank_pattern": [1]}, "rank_pattern=.1. is not an object"),
        ({"rank_pattern": {"(": 1}}, "rank_pattern: a pattern is not a regular expression"),
        ({"target_modules": None}, "target_modules=None is neither a list of names"),
        ({"target_modules": "q_proj"}, "target_modules='q_proj' matches no module; supported are "),
        ({"target_modules": ["embed_tokens"]}, r"reaches model.embed_tokens, where adapters"),
        ({"target_modules": ["q_proj", "lm_head"]}, "reaches lm_head, where adapters are not supp"),
        ({"target_modules": ".*"}, "reaches lm_head, where adapters are not supported"),
        ({"target_modules": ["mlp"]}, "reaches model.layers.0.mlp, where adapters are not supp"),
        ({"target_modules": FULL[:3]}, "adapts different modules in differ"),
        ({"exclude_modules": ["layers.0.mlp.up_proj"]}, "adapts different modules in differ"),
        ({"exclude_modules": ".*"}, "target_modules=.*; supported are q_proj"),
        ({"target_modules": ".*up_proj", "layers_to_transform": [0]}, "has no effect where target"),
        ({"layers_to_transform": 2}, "layers_to_transform names 2; the model has layers 0 to 1"),
        ({"layers_to_transform": [-1]}, "layers_to_transform names -1; the model has layers 0"),
        ({"layers_to_transform": ["0"]}, "is malformed: layers_to_transform"),
        ({"layers_to_transform": 0, "layers_pattern": "h"}, "layers_pattern=.'h'. is not support"),
    ],
)  # fmt: skip
def test_what_is_not_understood_is_refused_by_name(stated, message):
    with pytest.raises(InputError, match=message) as caught:
        settings_of(stated)
    assert "\n" not in str(caught.value)


def test_an_expression_that_never_ends_is_stopped(monkeypatch):
    monkeypatch.setattr(adapter_match, "SECONDS", 0.5)
    started = time.monotonic()
    with pytest.raises(InputError, match=r"target_modules: a pattern takes more than 0.5 s"):
        settings_of({"target_modules": r"([a-z_.0-9]+)+\s"})
    assert time.monotonic() - started < 8
    assert matches(["q.proj", "k"], ["a.q_proj", "q_proj"]) == [[False, True], [False, False]]
    assert matches(["q.proj"], ["a.q_proj", "aq_proj"], ends=True) == [[True, False]]


def swap(tensors):
    for layer in (0, 1):
        names = [f"base_model.model.model.layers.{layer}.self_attn.{n}_proj.lora_{side}.weight"
                 for side in "AB" for n in "kv"]  # fmt: skip
        for one, other in (names[:2], names[2:]):
            tensors[one], tensors[other] = tensors[other], tensors[one]


def no_b(tensors):
    for name in tensors:
        if "lora_B" in name:
            tensors[name] = np.zeros_like(tensors[name])


@pytest.mark.parametrize(
    "change",
    [
        {"lora_alpha": 12.0}, {"use_rslora": True}, {"alpha_pattern": {".*": 1.0}},
        {"r": 8, "rank_pattern": {".*": 4}, "lora_alpha": 3.0}, {"target_modules": ["q_proj"]},
        swap, no_b,
    ],
    ids=["alpha", "rslora", "alpha_pattern", "r", "targets", "keys and values", "b"],
)  # fmt: skip
def test_our_own_adapter_is_what_was_written(model, tmp_path, change):
    settings = LoraConfig(rank=4, targets=("key", "value"))
    write_adapter(tmp_path / "out", model, settings, _random(model, settings))
    files = ModelFiles("out", tmp_path / "out")
    if isinstance(change, dict):
        stated = json.loads((files.path / CONFIG).read_text())
        (files.path / CONFIG).write_text(json.dumps(stated | change))
    else:
        tensors, metadata = load_file(files.path / WEIGHTS), read_header(files, WEIGHTS)[1]
        change(tensors)
        save_file(tensors, files.path / WEIGHTS, metadata=dict(metadata))
    with pytest.raises(InputError, match=r"were changed since it was|is not part of this"):
        read_adapter(files.path, model)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_factors_that_are_no_numbers(model, plain, tmp_path, value):
    tensors = load_file(plain / WEIGHTS)
    name = min(tensors)
    tensors[name] = tensors[name].astype(np.float64)
    tensors[name][0, 0] = value
    (tmp_path / CONFIG).write_bytes((plain / CONFIG).read_bytes())
    save_file(tensors, tmp_path / WEIGHTS)
    with pytest.raises(InputError, match=f"{name} holds NaN or infinite numbers"):
        read_adapter(tmp_path, model)
    tensors[name] = np.zeros(tensors[name].shape, np.int8)
    save_file(tensors, tmp_path / WEIGHTS)
    with pytest.raises(InputError, match=f"{name} is I8; supported are F64"):
        read_adapter(tmp_path, model)


def test_all_of_gpt2(tmp_path):
    names = settings_of({"target_modules": "all-linear"}, "gpt2")
    assert set(names.targets) == {"query", "key", "value", "output", "up", "down"}
    found = settings_of({"target_modules": ["c_proj"]}, "gpt2")
    assert set(found.targets) == {"output", "down"}
    stated = {
        "target_modules": ["c_attn"], "rank_pattern": {"attn.c_attn": 8},
        "alpha_pattern": {"attn.c_attn": 12},
    }  # fmt: skip
    blocks = settings_of(stated, "gpt2", ["query", "value"])
    assert (blocks.rank, blocks.alpha, blocks.targets) == (4, 6.0, ("query", "value"))
