"""The `config.json` of a model of ours, in the first family that can express it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from subliminal_jax.errors import InputError
from subliminal_jax.models.decoder.config import Compute, DecoderConfig, LayerKind
from subliminal_jax.models.hub.config_json import translate
from subliminal_jax.models.hub.families import FAMILIES

_ACTIVATIONS = {"silu": "silu", "gelu": "gelu", "gelu_tanh": "gelu_pytorch_tanh"}


def describe(config: DecoderConfig) -> dict[str, Any]:
    """A Hugging Face config that reads back as `config`, of the first family that can.

    Raises:
        InputError: no family has such a model.
    """
    for model_type, family in FAMILIES.items():
        stated = {"model_type": model_type, "architectures": [family.architecture]}
        stated |= _gpt2(config) if model_type == "gpt2" else _llama(config, model_type)
        try:
            _, read = translate(stated)
        except InputError:
            continue
        if is_same_model(read, config):
            return stated
    raise InputError(
        f"no family of {', '.join(FAMILIES)} has this model's combination of settings; "
        "it cannot be written as a Hugging Face directory"
    )


def is_same_model(one: DecoderConfig, other: DecoderConfig) -> bool:
    """Whether two configs are one model, whatever their `compute` and the order of `kinds`."""
    return _plain(one) == _plain(other)


def _plain(config: DecoderConfig) -> DecoderConfig:
    used = list(dict.fromkeys(config.layer_kinds))
    return replace(
        config,
        kinds=tuple(config.kinds[kind] for kind in used),
        pattern=tuple(used.index(kind) for kind in config.layer_kinds),
        attention_scale=config.scale,
        compute=Compute(),
    )


def _common(config: DecoderConfig) -> dict[str, Any]:
    return {
        "vocab_size": config.vocab,
        "tie_word_embeddings": config.tied,
        "initializer_range": config.initial_std,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
    }


def _llama(config: DecoderConfig, model_type: str) -> dict[str, Any]:
    kinds = {
        "full_attention" if kind.window is None else "sliding_attention": kind
        for kind in config.kinds
    }
    windows = [kind.window for kind in config.kinds if kind.window is not None]
    ropes = {name: _rope(kind) for name, kind in kinds.items()}
    by_layer = model_type == "gemma3_text"
    sliding = {
        "sliding_window": windows[0] if windows else None,
        "use_sliding_window": bool(windows),
        "layer_types": [
            "full_attention" if config.kinds[kind].window is None else "sliding_attention"
            for kind in config.layer_kinds
        ],
    }
    if model_type in ("llama", "olmo2"):
        sliding = {}
    elif model_type == "mistral":  # all layers are alike
        sliding = {"sliding_window": windows[0] if windows else None}
    scale = config.scale**-2
    return _common(config) | sliding | {
        "hidden_size": config.width,
        "intermediate_size": config.mlp_width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "max_position_embeddings": config.context,
        "hidden_act": _ACTIVATIONS[config.activation],
        "hidden_activation": _ACTIVATIONS[config.activation],
        "rms_norm_eps": config.norm_epsilon,
        "attention_bias": config.output_bias,
        "mlp_bias": config.mlp_bias,
        "rope_parameters": ropes if by_layer else next(iter(ropes.values())),
        "query_pre_attn_scalar": round(scale),
        "attn_logit_softcapping": config.attention_softcap,
        "final_logit_softcapping": config.logit_softcap,
    }  # fmt: skip


def _rope(kind: LayerKind) -> Mapping[str, Any]:
    scaling = kind.scaling
    if scaling is None:
        return {"rope_type": "default", "rope_theta": kind.theta}
    rope = {"rope_type": scaling.kind, "rope_theta": kind.theta, "factor": scaling.factor}
    if scaling.kind == "linear":
        return rope
    return rope | {
        "low_freq_factor": scaling.low,
        "high_freq_factor": scaling.high,
        "original_max_position_embeddings": scaling.original_context,
    }


def _gpt2(config: DecoderConfig) -> dict[str, Any]:
    return _common(config) | {
        "n_embd": config.width,
        "n_layer": config.layers,
        "n_head": config.heads,
        "n_inner": config.mlp_width,
        "n_positions": config.context,
        "activation_function": {"gelu_tanh": "gelu_new"}.get(config.activation, config.activation),
        "layer_norm_epsilon": config.norm_epsilon,
    }
