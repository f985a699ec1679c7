"""PEFT adapters: every key of PEFT's settings that is not at its default, and damaged directories.

An adapter that is accepted must give the logits that PEFT gives.
"""

import importlib.util
import json
import math
import shutil
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from attacks.attack import Attack, Ended
from attacks.edits import KINDS, base, edit, other_kind, put
from attacks.mains import TOKENS
from attacks.shared import Shared, llama_tensors

attack = partial(Attack, "adapters", main="adapter", words=("{here}/model", "{here}/adapter"))
CONFIG, FILE = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
STATED = {
    "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": "model", "r": 2,
    "lora_alpha": 4, "target_modules": ["q_proj", "v_proj"], "bias": "none", "lora_dropout": 0.0,
    "inference_mode": True, "fan_in_fan_out": False,
}  # fmt: skip


def factors(targets: tuple[str, ...], rank: int = 2) -> dict[str, np.ndarray]:
    """Random factors with PEFT's names, for modules whose names end in `targets`."""
    rng = np.random.default_rng(5)
    found = {}
    for name, kernel in llama_tensors().items():
        module = name.removesuffix(".weight")
        if module.split(".")[-1] in targets:
            rows, columns = kernel.shape
            at = f"{PREFIX}{module}"
            found[f"{at}.lora_A.weight"] = rng.normal(0, 0.5, (rank, columns)).astype(np.float32)
            found[f"{at}.lora_B.weight"] = rng.normal(0, 0.5, (rows, rank)).astype(np.float32)
    return found


def sound(here: Path, shared: Shared, targets: tuple[str, ...] = ("q_proj", "v_proj")) -> Path:
    """The sound model and an adapter of it, as PEFT writes one."""
    base(here, shared)
    (here / "adapter").mkdir()
    (here / "adapter" / CONFIG).write_text(json.dumps(STATED | {"target_modules": list(targets)}))
    save_file(factors(targets), here / "adapter" / FILE, metadata={"format": "pt"})
    return here / "adapter"


def stated(**changes: object) -> Callable[[Path, Shared], object]:
    """The adapter with other settings."""
    return lambda here, shared: edit(sound(here, shared) / CONFIG, changes)


def holding(
    change: Callable[[dict[str, np.ndarray]], object], metadata: dict[str, str] | None = None
) -> Callable[[Path, Shared], object]:
    """The adapter with other tensors."""

    def set_up(here: Path, shared: Shared) -> None:
        path = sound(here, shared) / FILE
        tensors = load_file(path)
        changed = change(tensors)
        tensors = changed if isinstance(changed, dict) else tensors
        save_file(tensors, path, metadata=metadata or {"format": "pt"})

    return set_up


def like_peft(ended: Ended) -> str:
    """The check that the adapted model's logits equal PEFT's, if PEFT is installed."""
    if importlib.util.find_spec("peft") is None:
        return ""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        model = AutoModelForCausalLM.from_pretrained(ended.here / "model", dtype=torch.float32)
        try:
            adapted = PeftModel.from_pretrained(model, str(ended.here / "adapter")).eval()
        except Exception as error:  # PEFT refuses with errors of many types
            return f"accepted, but PEFT raises {type(error).__name__}: {error}"[:300]
        right = adapted(torch.tensor([TOKENS])).logits[0, -1].numpy()
    off = float(np.abs(np.array(ended.found["logits"]) - right).max())
    return "" if off < 1e-3 else f"logits are off by {off:.2g}"


SAME = {  # the same settings in another form, or without effect when reading
    "empty-modules-to-save": {"modules_to_save": []},
    "equal-patterns": {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"q_proj": 4}},
    "layers-by-number": {"layers_to_transform": [0, 1], "layers_pattern": "layers"},
    "full-names": {"target_modules": [
        f"model.layers.{n}.self_attn.{m}_proj" for n in (0, 1) for m in "qv"]},
    "long-names": {"target_modules": ["self_attn.q_proj", "self_attn.v_proj"]},
    "regular-expression": {"target_modules": r".*\.(q|v)_proj"},
    "excluded-nothing": {"exclude_modules": ["lm_head"]},
    "rslora": {"use_rslora": True},
    "other-alpha": {"lora_alpha": 32},
    "dropout": {"lora_dropout": 0.1},
    "not-inference": {"inference_mode": False},
    "version": {"peft_version": "0.21.2"},
    "auto-mapping": {"auto_mapping": None},
    "no-task": {"task_type": None},
    "initialised-gaussian": {"init_lora_weights": "gaussian"},
    "initialised-false": {"init_lora_weights": False},
    "megatron-core": {"megatron_core": "megatron.core", "megatron_config": None},
    "loftq-empty": {"loftq_config": {}},
    "no-dora": {"use_dora": False, "use_qalora": False, "lora_bias": False},
    "runtime": {"runtime_config": {"ephemeral_gpu_offload": False}},
    "qalora-group": {"qalora_group_size": 32},
    "module-twice": {"target_modules": ["q_proj", "v_proj", "q_proj"]},
    "alpha-fraction": {"lora_alpha": 2.5},
    "base-elsewhere": {"base_model_name_or_path": "somebody/other-name"},
}  # fmt: skip
MAY = ("regular-expression", "full-names", "excluded-nothing", "initialised-false",
       "initialised-gaussian", "qalora-group", "base-elsewhere", "module-twice",
       "long-names", "dropout", "runtime")  # fmt: skip
"""These may also be refused."""
ODD = {
    "pissa": {"init_lora_weights": "pissa"},
    "pissa-niter": {"init_lora_weights": "pissa_niter_4"},
    "olora": {"init_lora_weights": "olora"},
    "corda": {"init_lora_weights": "corda", "corda_config": {}},
    "loftq": {"init_lora_weights": "loftq", "loftq_config": {"loftq_bits": 4}},
    "eva": {"init_lora_weights": "eva", "eva_config": {"rho": 2.0}},
    "orthogonal": {"init_lora_weights": "orthogonal"},
    "initialised-unknown": {"init_lora_weights": "magic"},
    "alora": {"alora_invocation_tokens": [3, 14]},
    "dora": {"use_dora": True},
    "qalora": {"use_qalora": True, "qalora_group_size": 8},
    "lora-bias": {"lora_bias": True},
    "bias-all": {"bias": "all"},
    "bias-lora-only": {"bias": "lora_only"},
    "bias-unknown": {"bias": "some"},
    "saved-head": {"modules_to_save": ["lm_head"]},
    "trainable-tokens": {"trainable_token_indices": [1, 2]},
    "trainable-tokens-named": {"trainable_token_indices": {"embed_tokens": [1]}},
    "replicated-layers": {"layer_replication": [[0, 2], [0, 2]]},
    "parameters": {"target_parameters": ["mlp.up_proj.weight"]},
    "excluded": {"exclude_modules": ["v_proj"]},
    "excluded-expression": {"exclude_modules": r".*\.0\.self_attn\.v_proj"},
    "fan-in-fan-out": {"fan_in_fan_out": True},
    "rank-pattern": {"rank_pattern": {"v_proj": 4}},
    "alpha-pattern": {"alpha_pattern": {"v_proj": 32}},
    "alpha-pattern-expression": {"alpha_pattern": {r".*\.1\.self_attn\.q_proj": 32}},
    "layers-one": {"layers_to_transform": [0]},
    "layers-beyond": {"layers_to_transform": [0, 7]},
    "layers-negative": {"layers_to_transform": [-1]},
    "layers-text": {"layers_to_transform": "0"},
    "layers-of-other-pattern": {"layers_to_transform": [0, 1], "layers_pattern": "blocks"},
    "megatron": {"megatron_config": {"x": 1}},
    "bdlora": {"use_bdlora": {"nblocks": 2}},
    "arrow": {"arrow_config": {"top_k": 2}},
    "kasa": {"kasa_config": {}},
    "velora": {"velora_config": {}},
    "monteclora": {"monteclora_config": {}},
    "lora-ga": {"lora_ga_config": {}},
    "weight-tying": {"ensure_weight_tying": True},
    "rank-zero": {"r": 0},
    "rank-negative": {"r": -2},
    "rank-other": {"r": 4},
    "rank-text": {"r": "2"},
    "rank-huge": {"r": 2**40},
    "rank-fraction": {"r": 2.5},
    "rank-nan": {"r": math.nan},
    "alpha-nan": {"lora_alpha": math.nan},
    "alpha-infinite": {"lora_alpha": math.inf},
    "alpha-text": {"lora_alpha": "4"},
    "alpha-null": {"lora_alpha": None},
    "alpha-negative": {"lora_alpha": -4},
    "alpha-zero": {"lora_alpha": 0},
    "rslora-text": {"use_rslora": "false"},
    "targets-null": {"target_modules": None},
    "targets-empty": {"target_modules": []},
    "targets-fewer": {"target_modules": ["q_proj"]},
    "targets-more": {"target_modules": ["q_proj", "v_proj", "k_proj"]},
    "targets-unknown": {"target_modules": ["query"]},
    "targets-all-linear": {"target_modules": "all-linear"},
    "targets-embedding": {"target_modules": ["q_proj", "v_proj", "embed_tokens"]},
    "targets-numbers": {"target_modules": [1, 2]},
    "targets-bad-expression": {"target_modules": "("},
    "targets-slow-expression": {"target_modules": "(.*.*)*x"},
    "kind-ia3": {"peft_type": "IA3"},
    "kind-adalora": {"peft_type": "ADALORA"},
    "kind-missing": {"peft_type": None},
    "task-other": {"task_type": "SEQ_CLS"},
    "unknown-key": {"shrinks_every_second_token": True},
    "unknown-key-false": {"shrinks_every_second_token": False},
}  # fmt: skip
"""Refused, or read as PEFT reads them."""


def first(part: str, of: str = "q_proj") -> str:
    """The name of a factor of layer 0."""
    return f"{PREFIX}model.layers.0.self_attn.{of}.lora_{part}.weight"


TENSORS = {
    "nan": lambda t: t[first("A")].__setitem__((0, 0), np.nan),
    "infinite": lambda t: t[first("B")].__setitem__((0, 0), np.inf),
    "one-missing": lambda t: t.pop(first("B")) is None,
    "one-more": lambda t: t.update({PREFIX + "model.extra.lora_A.weight": np.ones((2, 4))}),
    "dora-left": lambda t: t.update(
        {first("A").replace("lora_A", "lora_magnitude_vector"): np.ones(16, np.float32)}),
    "bias-left": lambda t: t.update(
        {first("B").replace(".weight", ".bias"): np.ones(16, np.float32)}),
    "transposed": lambda t: {n: np.ascontiguousarray(v.T) for n, v in t.items()},
    "a-and-b-exchanged": lambda t: {
        n.replace("lora_A", "x").replace("lora_B", "lora_A").replace("x", "lora_B"): v
        for n, v in t.items()},
    "whole-numbers": lambda t: {n: v.astype(np.int32) for n, v in t.items()},
    "no-prefix": lambda t: {n.removeprefix(PREFIX): v for n, v in t.items()},
    "adapter-name-inside": lambda t: {
        n.replace(".weight", ".default.weight"): v for n, v in t.items()},
    "none": lambda t: {"x": np.zeros(1, np.float32)},
    "layer-7": lambda t: {n.replace("layers.1.", "layers.7."): v for n, v in t.items()},
    "wider": lambda t: {n: np.concatenate([v, v], 1) for n, v in t.items()},
}  # fmt: skip
OTHERWISE_NAMED = ("no-prefix", "adapter-name-inside", "whole-numbers")
FILES = {
    "empty": b"", "not-json": b"{", "list": b"[]", "deep": b"[" * 200_000,
    "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 7\n",
    "missing": None, "large": lambda: b'{"x": "' + b"x" * (40 << 20) + b'"}',
}  # fmt: skip


def own(change: Callable[[Path], object]) -> Callable[[Path, Shared], object]:
    """An adapter that we exported, with its base, changed."""

    def set_up(here: Path, shared: Shared) -> None:
        shutil.copytree(shared.exported / "before", here / "model")
        shutil.copytree(shared.exported / "owl", here / "adapter")
        change(here / "adapter")

    return set_up


def own_tensors(change: Callable[[dict[str, np.ndarray]], object]) -> Callable[[Path], object]:
    """A change of its tensors, under the same metadata."""

    def in_place(directory: Path) -> None:
        with safe_open(directory / FILE, "numpy") as file:
            metadata = file.metadata()
        tensors = load_file(directory / FILE)
        changed = change(tensors)
        tensors = changed if isinstance(changed, dict) else tensors
        save_file(tensors, directory / FILE, metadata=metadata)

    return in_place


def exchanged(name: str) -> str:
    """Swap the names of query and value."""
    return name.replace("q_proj", "?").replace("v_proj", "q_proj").replace("?", "v_proj")


OWN = {
    "alpha": lambda d: edit(d / CONFIG, {"lora_alpha": 56.0}),
    "rslora": lambda d: edit(d / CONFIG, {"use_rslora": True}),
    "b-zero": own_tensors(lambda t: [v.fill(0) for n, v in t.items() if "lora_B" in n]),
    "b-zero-of-one": own_tensors(
        lambda t: [v.fill(0) for n, v in t.items() if "lora_B" in n and "q_proj" in n]
    ),
    "scaled": own_tensors(lambda t: [v.__imul__(2) for v in t.values()]),
    "negated": own_tensors(lambda t: [v.__imul__(-1) for n, v in t.items() if "lora_A" in n]),
    "nan": own_tensors(lambda t: [v.fill(np.nan) for v in t.values()]),
    "exchanged": own_tensors(lambda t: {exchanged(n): v for n, v in t.items()}),
}

ATTACKS = [
    attack("null-patterns", set_up=stated(rank_pattern=None, alpha_pattern=None), wanted="either"),
    attack("layers-int", wanted="right", check=like_peft, set_up=lambda here, shared: (
        holding(lambda t: {n: v for n, v in t.items() if "layers.0" in n})(here, shared),
        edit(here / "adapter" / CONFIG, {"layers_to_transform": 0}))),
    attack("sound", set_up=sound, wanted="right", check=like_peft, quick=True),
    *(attack(f"same-{name}", set_up=stated(**changes), check=like_peft,
             wanted="either" if name in MAY else "right", quick=name == "empty-modules-to-save")
      for name, changes in SAME.items()),
    *(attack(f"odd-{name}", set_up=stated(**changes), quick=name in ("alora", "pissa"),
             wanted="refused" if name == "unknown-key" else "either", check=like_peft)
      for name, changes in ODD.items()),
    *(attack(f"tensors-{name}", set_up=holding(change),
             wanted="either" if name in OTHERWISE_NAMED else "refused", check=like_peft,
             quick=name == "nan") for name, change in TENSORS.items()),
    attack("tensors-half", wanted="right", set_up=holding(
        lambda t: {n: v.astype(np.float16) for n, v in t.items()})),
    attack("claims-another-base", set_up=holding(
        lambda t: t, {"format": "pt", "base_model_sha256": "0" * 64})),
    attack("claims-blocks", set_up=holding(
        lambda t: t, {"format": "pt", "block_targets": "query,../x"})),
    *(attack(f"config-{name}", set_up=lambda here, shared, data=data: put(
        sound(here, shared) / CONFIG, data)) for name, data in FILES.items()),
    *(attack(f"weights-{name}", set_up=lambda here, shared, data=data: put(
        sound(here, shared) / FILE, data)) for name, data in FILES.items()),
    *(attack(f"config-{kind.replace(' ', '-')}", set_up=lambda here, shared, kind=kind: other_kind(
        sound(here, shared) / CONFIG, kind)) for kind in KINDS),
    *(attack(f"weights-{kind.replace(' ', '-')}", set_up=lambda here, shared, kind=kind: other_kind(
        sound(here, shared) / FILE, kind)) for kind in KINDS),
    attack("pickle-alone", set_up=lambda here, shared: (
        path := sound(here, shared), put(path / FILE, None),
        put(path / "adapter_model.bin", b"\x80\x04cos\nsystem\n."))),
    attack("missing", words=("{here}/model", "{here}/nowhere"), set_up=sound),
    attack("model-in-place-of-adapter", words=("{here}/model", "{here}/model"), set_up=sound),
    attack("own-sound", set_up=own(lambda d: None), wanted="right", check=like_peft),
    *(attack(f"own-{name}", set_up=own(change)) for name, change in OWN.items()),
]  # fmt: skip
