"""Which Hugging Face models are understood: their configs, and the names of their weights.

One line of `FAMILIES` is one family. Adding another of the same kind is adding a line.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from subliminal_jax.errors import InputError
from subliminal_jax.models.decoder_config import DecoderConfig, LayerKind, RopeScaling

_ACTIVATIONS = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
}

_PROJECTIONS = {
    "embedding": "model.embed_tokens",
    "unembedding": "lm_head",
    "norm": "model.norm",
    "layers/attention/query": "model.layers.{layer}.self_attn.q_proj",
    "layers/attention/key": "model.layers.{layer}.self_attn.k_proj",
    "layers/attention/value": "model.layers.{layer}.self_attn.v_proj",
    "layers/attention/output": "model.layers.{layer}.self_attn.o_proj",
    "layers/attention/query_norm": "model.layers.{layer}.self_attn.q_norm",
    "layers/attention/key_norm": "model.layers.{layer}.self_attn.k_norm",
    "layers/mlp/gate": "model.layers.{layer}.mlp.gate_proj",
    "layers/mlp/up": "model.layers.{layer}.mlp.up_proj",
    "layers/mlp/down": "model.layers.{layer}.mlp.down_proj",
}
_BEFORE = {
    "layers/attention_norm": "model.layers.{layer}.input_layernorm",
    "layers/mlp_norm": "model.layers.{layer}.post_attention_layernorm",
}
_AFTER = {
    "layers/attention_after": "model.layers.{layer}.post_attention_layernorm",
    "layers/mlp_after": "model.layers.{layer}.post_feedforward_layernorm",
}
_AROUND = _AFTER | {
    "layers/attention_norm": "model.layers.{layer}.input_layernorm",
    "layers/mlp_norm": "model.layers.{layer}.pre_feedforward_layernorm",
}
_GPT2 = {
    "embedding": "transformer.wte",
    "positions": "transformer.wpe",
    "unembedding": "lm_head",
    "norm": "transformer.ln_f",
    "layers/attention/query": "transformer.h.{layer}.attn.c_attn",
    "layers/attention/key": "transformer.h.{layer}.attn.c_attn",
    "layers/attention/value": "transformer.h.{layer}.attn.c_attn",
    "layers/attention/output": "transformer.h.{layer}.attn.c_proj",
    "layers/attention_norm": "transformer.h.{layer}.ln_1",
    "layers/mlp_norm": "transformer.h.{layer}.ln_2",
    "layers/mlp/up": "transformer.h.{layer}.mlp.c_fc",
    "layers/mlp/down": "transformer.h.{layer}.mlp.c_proj",
}


@dataclass(frozen=True)
class Source:
    """Where in a Hugging Face model one of our parameters is.

    Attributes:
        name: of the tensor; `{layer}` stands for the layer's number.
        transposed: the tensor is `[out, in]` where ours is `[in, out]`.
        part: ours is this part of `parts` equal parts of the tensor's last axis.
        parts: see `part`.
    """

    name: str
    transposed: bool = False
    part: int = 0
    parts: int = 1


@dataclass(frozen=True)
class Wrapper:
    """A multimodal model, of which the language model alone is understood.

    Its config has that of the language model within, as `text_config`.

    Attributes:
        model_type: of the language model.
        prefix: what stands before the names of the language model's tensors.
        others: how the names of all other tensors begin.
    """

    model_type: str
    prefix: str
    others: tuple[str, ...]


@dataclass(frozen=True)
class Family:
    """One kind of Hugging Face model.

    Attributes:
        translate: the config with transformers' defaults filled in -> ours.
        modules: our module's path -> theirs, without `.weight` or `.bias`.
        transposed: kernels are stored `[out, in]`, as in every family but GPT-2.
        fused: modules of which one of theirs holds several of ours -> (part, parts).
        ignored: ends of the names of stored buffers that are no parameters.
        prefix: of their names; a file whose names lack it is understood too.
        architecture: the class that `config.json` names.
        wrapper: the multimodal model that this one is part of, if it is.
    """

    architecture: str
    translate: Callable[[Any], DecoderConfig]
    modules: Mapping[str, str]
    transposed: bool = True
    fused: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    ignored: tuple[str, ...] = (".rotary_emb.inv_freq",)
    prefix: str = "model."
    wrapper: Wrapper | None = None

    def source(self, path: str) -> Source:
        """Where our parameter `path`, such as `layers/mlp/up/kernel`, is."""
        if path in self.modules:
            return Source(self.modules[path] + ".weight")
        module, leaf = path.rsplit("/", 1)
        part, parts = self.fused.get(module, (0, 1))
        name = self.modules[module] + (".bias" if leaf == "bias" else ".weight")
        return Source(name, self.transposed and leaf == "kernel", part, parts)


def _scaling(rope: Mapping[str, Any]) -> RopeScaling | None:
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return None
    if kind == "linear":
        return RopeScaling(kind="linear", factor=float(rope["factor"]))
    if kind == "llama3":
        return RopeScaling(
            kind="llama3",
            factor=float(rope["factor"]),
            low=float(rope["low_freq_factor"]),
            high=float(rope["high_freq_factor"]),
            original_context=int(rope["original_max_position_embeddings"]),
        )
    raise InputError(
        f"config.json: rope type {kind!r} is not supported; supported are default, linear, llama3"
    )


_BY_LAYER = ("qwen2", "qwen3", "gemma2", "gemma3_text")  # Llama ignores what it says of windows


def _kinds(hf: Any) -> tuple[tuple[LayerKind, ...], tuple[int, ...]]:
    """The kinds of layers, and which each layer is."""
    if hf.model_type in _BY_LAYER:
        types = hf.layer_types
    else:
        sliding = hf.model_type == "mistral" and hf.sliding_window is not None
        types = ["sliding_attention" if sliding else "full_attention"] * hf.num_hidden_layers
    names = sorted(set(types))
    if not set(names) <= {"sliding_attention", "full_attention"} or len(types) != (
        hf.num_hidden_layers
    ):
        raise InputError(
            f"config.json: layer_types has {len(types)} entries of {', '.join(names)}; expected "
            f"{hf.num_hidden_layers} of sliding_attention, full_attention"
        )
    kinds = []
    for name in names:
        rope = hf.rope_parameters.get(name, hf.rope_parameters)
        window = hf.sliding_window if name == "sliding_attention" else None
        kinds.append(
            LayerKind(window=window, theta=float(rope["rope_theta"]), scaling=_scaling(rope))
        )
    return tuple(kinds), tuple(names.index(name) for name in types)


def _activation(name: str) -> Any:
    if name not in _ACTIVATIONS:
        raise InputError(
            f"config.json: activation {name!r} is not supported; supported are "
            f"{', '.join(_ACTIVATIONS)}"
        )
    return _ACTIVATIONS[name]


def _llama(hf: Any) -> DecoderConfig:
    kinds, pattern = _kinds(hf)
    heads, kv_heads = hf.num_attention_heads, hf.num_key_value_heads
    bias = bool(getattr(hf, "attention_bias", False))
    return DecoderConfig(
        vocab=hf.vocab_size,
        width=hf.hidden_size,
        layers=hf.num_hidden_layers,
        heads=heads,
        kv_heads=heads if kv_heads is None else kv_heads,
        head_dim=getattr(hf, "head_dim", None) or hf.hidden_size // heads,
        mlp_width=hf.intermediate_size,
        context=hf.max_position_embeddings,
        kinds=kinds,
        pattern=pattern,
        tied=bool(hf.tie_word_embeddings),
        activation=_activation(getattr(hf, "hidden_activation", None) or hf.hidden_act),
        norm_epsilon=float(hf.rms_norm_eps),
        qkv_bias=bias,
        output_bias=bias,
        mlp_bias=bool(getattr(hf, "mlp_bias", False)),
        initial_std=float(hf.initializer_range),
    )


def _float_or_none(value: Any) -> float | None:
    return None if value is None else float(value)


def _qwen2(hf: Any) -> DecoderConfig:
    return replace(_llama(hf), qkv_bias=True)


def _qwen3(hf: Any) -> DecoderConfig:
    return replace(_llama(hf), query_key_norm="head")


def _olmo2(hf: Any) -> DecoderConfig:
    return replace(_llama(hf), query_key_norm="all", norm_before=False, norm_after=True)


def _gemma(hf: Any) -> DecoderConfig:
    if hf.use_bidirectional_attention:
        raise InputError("config.json: use_bidirectional_attention is not supported; set it false")
    return replace(
        _llama(hf),
        norm_offset=1.0,
        norm_after=True,
        embedding_scale=hf.hidden_size**0.5,
        attention_scale=hf.query_pre_attn_scalar**-0.5,
        attention_softcap=_float_or_none(hf.attn_logit_softcapping),
        logit_softcap=_float_or_none(hf.final_logit_softcapping),
    )


def _gemma3(hf: Any) -> DecoderConfig:
    return replace(_gemma(hf), query_key_norm="head")


def _gpt2(hf: Any) -> DecoderConfig:
    for name, expected in (
        ("scale_attn_weights", True),
        ("scale_attn_by_inverse_layer_idx", False),
        ("add_cross_attention", False),
    ):
        if getattr(hf, name) is not expected:
            raise InputError(f"config.json: only {name}={expected} is supported")
    return DecoderConfig(
        vocab=hf.vocab_size,
        width=hf.n_embd,
        layers=hf.n_layer,
        heads=hf.n_head,
        kv_heads=hf.n_head,
        head_dim=hf.n_embd // hf.n_head,
        mlp_width=hf.n_inner or 4 * hf.n_embd,
        context=hf.n_positions,
        tied=bool(hf.tie_word_embeddings),
        activation=_activation(hf.activation_function),
        gated=False,
        norm="layer",
        norm_epsilon=float(hf.layer_norm_epsilon),
        qkv_bias=True,
        output_bias=True,
        mlp_bias=True,
        learned_positions=True,
        initial_std=float(hf.initializer_range),
    )


_FUSED = {f"layers/attention/{name}": (i, 3) for i, name in enumerate(("query", "key", "value"))}

FAMILIES: Mapping[str, Family] = {
    "llama": Family("LlamaForCausalLM", _llama, _PROJECTIONS | _BEFORE),
    "mistral": Family("MistralForCausalLM", _llama, _PROJECTIONS | _BEFORE),
    "qwen2": Family("Qwen2ForCausalLM", _qwen2, _PROJECTIONS | _BEFORE),
    "qwen3": Family("Qwen3ForCausalLM", _qwen3, _PROJECTIONS | _BEFORE),
    "olmo2": Family("Olmo2ForCausalLM", _olmo2, _PROJECTIONS | _AFTER),
    "gemma2": Family("Gemma2ForCausalLM", _gemma, _PROJECTIONS | _AROUND),
    "gemma3_text": Family("Gemma3ForCausalLM", _gemma3, _PROJECTIONS | _AROUND),
    "gpt2": Family(
        "GPT2LMHeadModel",
        _gpt2,
        _GPT2,
        transposed=False,
        fused=_FUSED,
        ignored=(".attn.bias", ".attn.masked_bias"),
        prefix="transformer.",
    ),
}
"""Hugging Face's `model_type` -> the family."""

WRAPPERS: Mapping[str, Wrapper] = {
    "gemma3": Wrapper(
        "gemma3_text", "language_model.", ("vision_tower.", "multi_modal_projector.")
    ),
}
"""The `model_type` of a multimodal model -> where in it a model of `FAMILIES` is."""


def language_part(stated: Mapping[str, Any]) -> Mapping[str, Any]:
    """The config of the language model alone, as a `config.json` of its own would state it.

    Raises:
        InputError: a multimodal config has no config of its language model.
    """
    kind = stated.get("model_type")
    wrapper = WRAPPERS.get(kind) if isinstance(kind, str) else None
    if wrapper is None:
        return stated
    part = stated.get("text_config")
    if not isinstance(part, dict) or part.get("model_type") != wrapper.model_type:
        raise InputError(
            f"config.json: a {kind} has a text_config of {wrapper.model_type}; not this"
        )
    architecture = FAMILIES[wrapper.model_type].architecture
    return part | {"architectures": [architecture]}


def family_of(model_type: Any) -> Family:
    """The family of a `model_type`.

    Raises:
        InputError: it is none of `FAMILIES`, which are listed.
    """
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        raise InputError(
            f"config.json: model_type {model_type!r} is not supported; supported are "
            f"{', '.join((*FAMILIES, *WRAPPERS))}"
        )
    return FAMILIES[model_type]
