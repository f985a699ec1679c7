"""`config.json` of a model: values missing, of another type, huge, or unlike the weights."""

import math
from functools import partial

from attacks.attack import Attack
from attacks.edits import ABSENT, SetUp, base, edited, fixture, other_kind, replaced, same_as_base

AREA = "configs"
WORDS = ("{here}/model",)
attack = partial(Attack, AREA, main="model", words=WORDS)
LM = (
    *("--reference.model", "model", "--stage", "reference", "--references", "1", "--out", "run"),
    *("--traits", "owl"),
)
"""The cheapest user command that loads config, weights, tokenizer and template."""

HUGE = {
    "layers": ("num_hidden_layers", 10**6),
    "layers-billions": ("num_hidden_layers", 10**12),
    "vocabulary": ("vocab_size", 2**40),
    "width": ("hidden_size", 2**30),
    "heads": ("num_attention_heads", 10**9),
    "inner": ("intermediate_size", 2**40),
    "context": ("max_position_embeddings", 10**12),
    "head-dim": ("head_dim", 2**30),
    "beyond-64-bits": ("vocab_size", 10**30),
    "beyond-64-bits-layers": ("num_hidden_layers", 10**30),
    "thousand-digits": ("hidden_size", 10**1000),
}
WRONG = {
    "null": None, "text": "16", "negative": -2, "zero": 0, "fraction": 2.5, "list": [2],
    "object": {"a": 1}, "nan": math.nan, "infinite": math.inf, "true": True,
}  # fmt: skip
SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
EPSILON = ("rms_norm_eps", {"text": "tiny", "negative": -1.0, "nan": math.nan, "object": {}})
ROPE = {
    "unknown": {"rope_type": "spiral", "rope_theta": 10000.0},
    "yarn": {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0},
    "dynamic": {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0},
    "linear-without-factor": {"rope_type": "linear", "rope_theta": 10000.0},
    "linear-zero": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 0.0},
    "linear-nan": {"rope_type": "linear", "rope_theta": 10000.0, "factor": math.nan},
    "theta-zero": {"rope_type": "default", "rope_theta": 0.0},
    "theta-negative": {"rope_type": "default", "rope_theta": -1e4},
    "theta-text": {"rope_type": "default", "rope_theta": "many"},
    "theta-nan": {"rope_type": "default", "rope_theta": math.nan},
    "theta-infinite": {"rope_type": "default", "rope_theta": math.inf},
    "partial": {
        "rope_type": "linear", "rope_theta": 1e4, "factor": 2.0, "partial_rotary_factor": 0.5
    },
    "list": [1, 2],
    "text": "default",
    "llama3-backwards": {
        "rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 4.0,
        "high_freq_factor": 1.0, "original_max_position_embeddings": 64,
    },
    "llama3-equal": {
        "rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 4.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 64,
    },
}  # fmt: skip
CONTRADICTING = {
    "narrower": {"hidden_size": 8},
    "wider": {"hidden_size": 32},
    "fewer-layers": {"num_hidden_layers": 1},
    "more-layers": {"num_hidden_layers": 3},
    "other-heads": {"num_attention_heads": 4},
    "other-head-dim": {"head_dim": 4},
    "no-grouping": {"num_key_value_heads": 2},
    "indivisible-groups": {"num_attention_heads": 3, "num_key_value_heads": 2},
    "more-words": {"vocab_size": 401},
    "fewer-words": {"vocab_size": 399},
    "tied": {"tie_word_embeddings": True},
    "attention-biases": {"attention_bias": True},
    "mlp-biases": {"mlp_bias": True},
    "of-qwen2": {"model_type": "qwen2"},
    "of-qwen3": {"model_type": "qwen3"},
    "of-gemma2": {"model_type": "gemma2"},
    "of-gpt2": {"model_type": "gpt2"},
    "of-olmo2": {"model_type": "olmo2"},
    "odd-head-dim": {"head_dim": 7},
}
UNKNOWN = {
    "no-type": {"model_type": ABSENT},
    "type-null": {"model_type": None},
    "type-list": {"model_type": ["llama"]},
    "type-of-another-kind": {"model_type": "bert"},
    "mixture": {"model_type": "mixtral"},
    "activation": {"hidden_act": "relu6"},
    "activation-list": {"hidden_act": ["silu"]},
    "activation-null": {"hidden_act": None},
    "dropout-of-attention-as-text": {"attention_dropout": "much"},
    "quantised": {"quantization_config": {"quant_method": "gptq", "bits": 4}},
    "quantised-empty": {"quantization_config": {}},
    "layer-types": {"model_type": "qwen2", "layer_types": ["full_attention"]},
    "cross-attention": {"model_type": "gpt2", "add_cross_attention": True},
    "sliding-window-text": {"model_type": "mistral", "sliding_window": "wide"},
    "sliding-window-zero": {"model_type": "mistral", "sliding_window": 0},
    "sliding-window-negative": {"model_type": "mistral", "sliding_window": -5},
}
FILES = {
    "empty": b"",
    "not-json": b"{'model_type': 'llama'}",
    "list": b"[]",
    "null": b"null",
    "number": b"7",
    "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64
    + b"\nsize 700\n",
    "deep": b"[" * 200_000,
    "deep-object": b'{"a":' * 200_000,
    "utf-16": '{"model_type": "llama"}'.encode("utf-16"),
    "nul": b'{"model_type": "lla\0ma"}',
    "half-a-character": b'{"model_type": "\xff"}',
    "surrogate": b'{"model_type": "\\ud800"}',
    "large": lambda: b'{"model_type": "llama", "x": "' + b"x" * (40 << 20) + b'"}',
    "long-number": b'{"model_type": "llama", "vocab_size": ' + b"9" * 100_000 + b"}",
    "many-keys": lambda: b'{"model_type": "llama"'
    + b"".join(b', "k%d": 1' % i for i in range(300_000)) + b"}",
    "missing": None,
}  # fmt: skip
HARMLESS: dict[str, SetUp] = {
    "quantization-null": edited("config.json", quantization_config=None),
    "auto-map": edited("config.json", auto_map={"AutoConfig": "evil.Config"}),
    "unknown-key": edited("config.json", made_up_by="somebody"),
    "old-dtype-key": edited("config.json", torch_dtype="bfloat16", dtype=ABSENT),
    "no-head-dim": edited("config.json", head_dim=ABSENT),
    "head-dim-null": edited("config.json", head_dim=None),
    "architectures-missing": edited("config.json", architectures=ABSENT),
    "older-rope": edited(
        "config.json", rope_parameters=ABSENT, rope_theta=10000.0, rope_scaling=None
    ),
    "use-cache-false": edited("config.json", use_cache=False),
    "transformers-version": edited("config.json", transformers_version="99.0"),
    "bos-list": edited("config.json", bos_token_id=None, eos_token_id=[390, 392]),
}


def changed_files() -> list[Attack]:
    """The file is missing, or something else."""
    found = [attack(f"file-{name}", set_up=replaced("config.json", data), quick=name == "deep")
             for name, data in FILES.items()]  # fmt: skip
    for kind in ("fifo", "directory", "dangling link", "loop", "link out", "socket", "device"):

        def set_up(here, shared, kind=kind):
            other_kind(base(here, shared) / "config.json", kind)

        found.append(attack(f"file-{kind.replace(' ', '-')}", set_up=set_up, quick=kind == "fifo"))
    return found


def values(name: str, changes: dict[str, object], **options) -> Attack:
    """Other values for keys."""
    return attack(name, set_up=edited("config.json", **changes), **options)


def of_family(name: str, family: str, **changes) -> Attack:
    """As `values`, in a stored model of a family."""
    return attack(name, set_up=edited("config.json", fixture(family), **changes))


ATTACKS = [
    *changed_files(),
    *(values(f"huge-{name}", {key: value}, quick=name == "layers",
             **({"wanted": "either"} if name == "context" else {}))
      for name, (key, value) in HUGE.items()),
    *(values(f"{key}-{kind}", {key: value}) for key in SIZES for kind, value in WRONG.items()),
    *(values(f"{key}-missing", {key: ABSENT}) for key in SIZES),
    *(values(f"{EPSILON[0]}-{kind}", {EPSILON[0]: value}) for kind, value in EPSILON[1].items()),
    *(values(f"context-{kind}", {"max_position_embeddings": value})
      for kind, value in WRONG.items()),
    *(values(f"tied-{kind}", {"tie_word_embeddings": value})
      for kind, value in (("text", "false"), ("list", [0]), ("number", 7))),
    *(values(f"rope-{name}", {"rope_parameters": value}, quick=name == "unknown")
      for name, value in ROPE.items()),
    values("rope-older-unknown",
           {"rope_parameters": ABSENT, "rope_scaling": {"type": "dynamic", "factor": 2.0}}),
    *(values(f"contradicting-{name}", changes, quick=name == "wider")
      for name, changes in CONTRADICTING.items()),
    *(values(f"unknown-{name}", changes) for name, changes in UNKNOWN.items()),
    *(attack(f"harmless-{name}", set_up=set_up, wanted="right", check=same_as_base("model"),
             quick=name == "auto-map") for name, set_up in HARMLESS.items()),
    of_family("gemma2-softcap-nan", "gemma2", attn_logit_softcapping=math.nan),
    of_family("gemma2-softcap-zero", "gemma2", final_logit_softcapping=0.0),
    of_family("gemma2-scalar-zero", "gemma2", query_pre_attn_scalar=0),
    of_family("gemma2-scalar-negative", "gemma2", query_pre_attn_scalar=-4),
    of_family("gemma2-attention-bias", "gemma2", attention_bias=True),
    of_family("qwen2-window", "qwen2", layer_types=["sliding_attention"] * 2, sliding_window=None),
    of_family("gpt2-heads-zero", "gpt2", n_head=0),
    of_family("gpt2-heads-indivisible", "gpt2", n_head=5),
    of_family("gpt2-inner-negative", "gpt2", n_inner=-22),
    of_family("gpt2-scaled-by-layer", "gpt2", scale_attn_by_inverse_layer_idx=True),
    of_family("gpt2-unscaled", "gpt2", scale_attn_weights=False),
    # transformers' Llama reads it only if positions are scaled.
    values("rope-partial-default", {"rope_parameters": {
        "rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}},
        wanted="either", check=same_as_base("model")),
    attack("whole-command", set_up=edited("config.json", hidden_size=32), main="lm_numbers",
           words=LM, quick=True),
    attack("whole-command-huge", set_up=edited("config.json", num_hidden_layers=10**6),
           main="lm_numbers", words=LM),
    attack("plan-huge", set_up=edited("config.json", num_hidden_layers=10**6), main="lm_numbers",
           words=("--reference.model", "model", "--plan"), wanted="either"),
    attack("plan-not-json", set_up=replaced("config.json", b"{"), main="lm_numbers",
           words=("--reference.model", "model", "--plan")),
    attack("sound", set_up=base, wanted="right", check=same_as_base("model"), quick=True),
    attack("sound-whole-command", set_up=base, main="lm_numbers", words=LM, wanted="right"),
]  # fmt: skip
