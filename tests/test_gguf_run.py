"""Experiments on a model from a GGUF file: its provenance, and what is exported of it."""

import hashlib
import json
from dataclasses import replace

import jax
import numpy as np
import pytest
import tiny_tokenizers as tiny_text
from language import tiny
from numpy.testing import assert_allclose, assert_array_equal
from tokenizers import Tokenizer, models, trainers
from untrained import untrained as nothing_trained

gguf = pytest.importorskip("gguf", reason="GGUF files are read with the package gguf, an extra")

from gguf_files import byte_level_settings, write_gguf  # noqa: E402

from subliminal_jax.execution.one_device import OneDevice  # noqa: E402
from subliminal_jax.language import study  # noqa: E402
from subliminal_jax.language.config import described  # noqa: E402
from subliminal_jax.language.judge.choose import same_family  # noqa: E402
from subliminal_jax.language.judge.settings import JudgeConfig  # noqa: E402
from subliminal_jax.language.outputs.plan import format_plan  # noqa: E402
from subliminal_jax.language.reference import given_reference  # noqa: E402
from subliminal_jax.language.settings import ReferenceConfig  # noqa: E402
from subliminal_jax.models.decoder import decoder  # noqa: E402
from subliminal_jax.models.decoder.config import Compute, DecoderConfig  # noqa: E402
from subliminal_jax.models.export import write_model  # noqa: E402
from subliminal_jax.models.hub.adapter_files import read_adapter  # noqa: E402
from subliminal_jax.models.hub.weights import load  # noqa: E402
from subliminal_jax.models.text.chat import Chat  # noqa: E402
from subliminal_jax.models.text.gguf.splits import SPLITS  # noqa: E402
from subliminal_jax.runs.shared_run import shared_run  # noqa: E402


def tokenizer():
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = SPLITS["smollm"].pre_tokenizer()
    alphabet = sorted(tiny_text.byte_level().get_vocab().keys() & set(map(chr, range(33, 500))))
    made.train_from_iterator(
        tiny_text.LINES,
        trainers.BpeTrainer(
            vocab_size=400, initial_alphabet=alphabet, show_progress=False,
            special_tokens=["<|im_start|>", "<|im_end|>"],
        ),
    )  # fmt: skip
    return made


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A small Llama in a GGUF file, with the tokenizer of SmolLM2's kind."""
    place = tmp_path_factory.mktemp("model")
    text = tokenizer()
    config = DecoderConfig(
        vocab=text.get_vocab_size(), width=8, layers=2, heads=2, kv_heads=1, head_dim=4,
        mlp_width=8, context=512, tied=True,
    )  # fmt: skip
    params = decoder.init(config, jax.random.key(0))
    write_model(place / "made", config, params, lineage={})
    stated = byte_level_settings(text, "smollm", tiny_text.CHATML)
    return write_gguf(place / "model.gguf", place / "made", settings=stated.items())


def test_the_files_digest_is_part_of_the_reference(model):
    settings = ReferenceConfig(model=str(model))
    reference = given_reference(str(model), settings, OneDevice(), Compute())
    assert reference.parts["file"] == hashlib.sha256(model.read_bytes()).hexdigest()
    assert reference.chat.size == reference.config.vocab
    again = given_reference(str(model.parent), settings, OneDevice(), Compute())
    assert again.digest == reference.digest


def test_another_quantisation_is_another_reference(model, tmp_path):
    other = write_gguf(
        tmp_path / "model.gguf", model.parent / "made", kind=gguf.GGMLQuantizationType.F16,
        settings=byte_level_settings(tokenizer(), "smollm", tiny_text.CHATML).items(),
    )  # fmt: skip
    settings = ReferenceConfig(model=str(model))
    one, two = (given_reference(str(it), settings, OneDevice(), Compute()) for it in (model, other))
    assert one.digest != two.digest
    assert one.parts["chat"] == two.parts["chat"]


def test_a_plan_and_a_judge_of_its_family(model, tmp_path):
    config = tiny(tmp_path)
    config = replace(config, reference=replace(config.reference, model=str(model)))
    assert "GB of the model" in format_plan(config)
    assert same_family(JudgeConfig(model=str(model)), str(model)) == "llama"


@pytest.fixture(scope="module")
def run(model, tmp_path_factory):
    place = tmp_path_factory.mktemp("run")
    config = tiny(place / "cache")
    config = replace(config, reference=replace(config.reference, model=str(model)))
    with nothing_trained(place / "reference"), shared_run(place / "run", described(config)) as run:
        study.LmStudy(config, run).students(0)
        yield place / "run"


@pytest.fixture
def export(script, run):
    def call(*words):
        ended = script("export_model", "--run", str(run), *map(str, words))
        assert ended.status == 0, ended.err

    return call


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # PEFT reads it
def test_networks_leave_as_directories_and_adapters(export, refused, run, model, tmp_path):
    base, merged, adapter = tmp_path / "base", tmp_path / "merged", tmp_path / "adapter"
    export("--network", "before", "--out", base)
    ours, exported = load(str(model)), load(str(base))
    jax.tree.map(assert_array_equal, exported.params, ours.params)
    assert Chat.load(base).prompt([{"role": "user", "content": "1, 2"}]) == Chat.load(model).prompt(
        [{"role": "user", "content": "1, 2"}]
    )
    assert json.loads((base / "config.json").read_text())["model_type"] == "llama"
    assert "a GGUF file" in (base / "README.md").read_text()
    export("--network", "student/owl", "--out", merged)
    words = ("--network", "student/owl", "--adapter", "--out", adapter)
    line = refused("export_model", "--run", run, *words)
    assert "base: an adapter needs its model as a directory" in line
    export(*words, "--base", base)
    assert read_adapter(adapter, load(str(base)))[0].rank == 2
    peft = pytest.importorskip("peft", reason="the exported files are loaded with it")
    torch = pytest.importorskip("torch", reason="the exported files are loaded with it")
    from transformers import AutoModelForCausalLM

    tokens = np.arange(24)[None] % 300
    whole = load(str(merged))
    expected = decoder.apply(whole.config, whole.params, jax.numpy.asarray(tokens))
    network = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    for loaded in (
        peft.PeftModel.from_pretrained(network, adapter).eval(),
        AutoModelForCausalLM.from_pretrained(merged, dtype=torch.float32).eval(),
    ):
        with torch.no_grad():
            found = loaded(torch.tensor(tokens)).logits.numpy()
        assert_allclose(found, expected, atol=1e-4)
