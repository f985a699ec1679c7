"""Our configs from those of Hugging Face's families, which have transformers' defaults filled in.

Each function reads what its family's model in transformers reads, and nothing else: a setting that
transformers ignores for a family has no effect here either.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from subliminal_jax.errors import InputError
from subliminal_jax.models.decoder.config import DecoderConfig, LayerKind, RopeScaling

_ACTIVATIONS = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
}

_ROPE_KEYS = {
    "default": (),
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor"),
}
"""Rope type -> the settings that it reads, besides the base."""

_INERT_ROPE_KEYS = ("rope_type", "type", "rope_theta", "original_max_position_embeddings")
"""Settings that every rope type may have; the original context matters to llama3 alone."""

_NEUTRAL = {"partial_rotary_factor": 1, "factor": 1, "attention_factor": 1}
"""Settings that a rope type may have without reading them, if they have this value."""


def _scaling(rope: Mapping[str, Any]) -> RopeScaling | None:
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind not in _ROPE_KEYS:
        raise InputError(
            f"config.json: rope type {kind!r} is not supported; supported are "
            f"{', '.join(_ROPE_KEYS)}"
        )
    for key, value in rope.items():
        known = key in _INERT_ROPE_KEYS or key in _ROPE_KEYS[kind]
        if not known and value is not None and value != _NEUTRAL.get(key):
            raise InputError(
                f"config.json: {key}={value!r} is not supported with the rope type {kind}; remove "
                "it, or name the type that it belongs to"
            )
    if kind == "default":
        return None
    if kind == "linear":
        return RopeScaling(kind="linear", factor=float(rope["factor"]))
    return RopeScaling(
        kind="llama3",
        factor=float(rope["factor"]),
        low=float(rope["low_freq_factor"]),
        high=float(rope["high_freq_factor"]),
        original_context=int(rope["original_max_position_embeddings"]),
    )


def _kind(rope: Mapping[str, Any], window: int | None = None) -> LayerKind:
    if "rope_theta" not in rope:
        raise InputError(
            "config.json: rope_parameters has no rope_theta; this family has one for all layers"
        )
    return LayerKind(window=window, theta=float(rope["rope_theta"]), scaling=_scaling(rope))


def _kinds_by_layer(
    hf: Any, nested_rope: bool = False
) -> tuple[tuple[LayerKind, ...], tuple[int, ...]]:
    """The kinds of layers that `layer_types` names, and which each layer is."""
    names = sorted(set(hf.layer_types))
    if not set(names) <= {"sliding_attention", "full_attention"} or len(hf.layer_types) != (
        hf.num_hidden_layers
    ):
        raise InputError(
            f"config.json: layer_types has {len(hf.layer_types)} entries of {', '.join(names)}; "
            f"expected {hf.num_hidden_layers} of sliding_attention, full_attention"
        )
    if "sliding_attention" in names and hf.sliding_window is None:
        raise InputError(
            "config.json: layer_types names sliding_attention and there is no sliding_window; "
            "set it, or name full_attention"
        )
    kinds = []
    for name in names:
        rope = hf.rope_parameters[name] if nested_rope else hf.rope_parameters
        kinds.append(_kind(rope, hf.sliding_window if name == "sliding_attention" else None))
    return tuple(kinds), tuple(names.index(name) for name in hf.layer_types)


def _activation(name: str) -> Any:
    if name not in _ACTIVATIONS:
        raise InputError(
            f"config.json: activation {name!r} is not supported; supported are "
            f"{', '.join(_ACTIVATIONS)}"
        )
    return _ACTIVATIONS[name]


def _common(
    hf: Any,
    kinds: Sequence[LayerKind],
    pattern: Sequence[int] = (0,),
    activation: str = "hidden_act",
    bias: bool | None = None,
) -> DecoderConfig:
    """What all families but GPT-2 share.

    Args:
        hf: the config.
        kinds: the kinds of layers.
        pattern: which of them each layer is.
        activation: the setting that names the activation.
        bias: whether all four projections of attention have biases. None: as the config says.
    """
    heads, kv_heads = hf.num_attention_heads, hf.num_key_value_heads
    bias = bool(hf.attention_bias) if bias is None else bias
    return DecoderConfig(
        vocab=hf.vocab_size,
        width=hf.hidden_size,
        layers=hf.num_hidden_layers,
        heads=heads,
        kv_heads=heads if kv_heads is None else kv_heads,
        head_dim=getattr(hf, "head_dim", None) or hf.hidden_size // heads,
        mlp_width=hf.intermediate_size,
        context=hf.max_position_embeddings,
        kinds=tuple(kinds),
        pattern=tuple(pattern),
        tied=bool(hf.tie_word_embeddings),
        activation=_activation(getattr(hf, activation)),
        norm_epsilon=float(hf.rms_norm_eps),
        qkv_bias=bias,
        output_bias=bias,
        initial_std=float(hf.initializer_range),
    )


def llama(hf: Any) -> DecoderConfig:
    """A Llama; settings of a window have no effect."""
    return replace(_common(hf, [_kind(hf.rope_parameters)]), mlp_bias=bool(hf.mlp_bias))


def mistral(hf: Any) -> DecoderConfig:
    """A Mistral: one window for all layers, and no biases whatever the config says."""
    return _common(hf, [_kind(hf.rope_parameters, hf.sliding_window)], bias=False)


def qwen2(hf: Any) -> DecoderConfig:
    """A Qwen 2: query, key and value always have biases, the output never."""
    return replace(_common(hf, *_kinds_by_layer(hf), bias=False), qkv_bias=True)


def qwen3(hf: Any) -> DecoderConfig:
    """A Qwen 3: queries and keys are normed by head."""
    return replace(_common(hf, *_kinds_by_layer(hf)), query_key_norm="head")


def olmo2(hf: Any) -> DecoderConfig:
    """An OLMo 2: norms after attention and MLP; queries and keys normed over all heads at once."""
    config = _common(hf, [_kind(hf.rope_parameters)])
    return replace(config, query_key_norm="all", norm_before=False, norm_after=True)


def gemma2(hf: Any) -> DecoderConfig:
    """A Gemma 2: norms on either side, soft caps, scaled embeddings."""
    return _gemma(hf)


def gemma3(hf: Any) -> DecoderConfig:
    """The language model of a Gemma 3: rotations by kind of layer, queries and keys normed."""
    if hf.attn_logit_softcapping is not None:
        raise InputError(
            "config.json: attn_logit_softcapping has no effect on a gemma3_text in transformers; "
            "set it to null"
        )
    return replace(_gemma(hf, nested_rope=True), query_key_norm="head")


def _gemma(hf: Any, nested_rope: bool = False) -> DecoderConfig:
    if hf.use_bidirectional_attention:
        raise InputError(
            "config.json: use_bidirectional_attention is not supported; set it to false"
        )
    if not hf.query_pre_attn_scalar > 0:
        raise InputError(
            f"config.json: query_pre_attn_scalar={hf.query_pre_attn_scalar}: must be above 0"
        )
    return replace(
        _common(hf, *_kinds_by_layer(hf, nested_rope), activation="hidden_activation"),
        norm_offset=1.0,
        norm_after=True,
        embedding_scale=hf.hidden_size**0.5,
        attention_scale=hf.query_pre_attn_scalar**-0.5,
        attention_softcap=_float_or_none(hf.attn_logit_softcapping),
        logit_softcap=_float_or_none(hf.final_logit_softcapping),
    )


def _float_or_none(value: Any) -> float | None:
    return None if value is None else float(value)


def gpt2(hf: Any) -> DecoderConfig:
    """A GPT-2: learned positions, layer norms, biases everywhere."""
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
        mlp_width=4 * hf.n_embd if hf.n_inner is None else hf.n_inner,
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
