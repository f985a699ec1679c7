"""Untrusted `config.json` files: bounded and checked before transformers adds its defaults.

A setting that transformers reads and we do not is refused by name, unless it has its default value.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from subliminal_jax.errors import InputError
from subliminal_jax.models.decoder.config import DecoderConfig
from subliminal_jax.models.hub.families import WRAPPERS, Family, family_of, language_part

MOST_LAYERS = 10_000
"""A hundred times the deepest published model; lists of this length are cheap."""

MOST = 2**31 - 1
"""The limit on every other count: the longest axis of an array."""

_LONGEST_MESSAGE = 400

_LAYERS = ("num_hidden_layers", "n_layer")
_COUNTS = (
    *_LAYERS, "vocab_size", "hidden_size", "intermediate_size", "num_attention_heads",
    "num_key_value_heads", "head_dim", "max_position_embeddings", "n_embd", "n_head", "n_inner",
    "n_positions", "original_max_position_embeddings", "sliding_window_pattern",
)  # fmt: skip

_READ = (
    *_COUNTS, "tie_word_embeddings", "hidden_act", "hidden_activation", "activation_function",
    "rms_norm_eps", "layer_norm_epsilon", "attention_bias", "mlp_bias", "initializer_range",
    "rope_parameters", "rope_scaling", "rope_theta", "rope_local_base_freq",
    "partial_rotary_factor", "sliding_window", "use_sliding_window", "max_window_layers",
    "layer_types", "query_pre_attn_scalar", "attn_logit_softcapping", "final_logit_softcapping",
    "use_bidirectional_attention", "scale_attn_weights", "scale_attn_by_inverse_layer_idx",
    "add_cross_attention",
)  # fmt: skip

_OLD_SPELLINGS = (
    "rope_scaling", "rope_theta", "rope_local_base_freq", "partial_rotary_factor",
    "original_max_position_embeddings", "sliding_window_pattern", "head_dim",
)  # fmt: skip
"""Settings that transformers accepts although its config of the family does not list them."""

_RATES = ("attention_dropout", "resid_pdrop", "embd_pdrop", "attn_pdrop")
_HARMLESS = (
    "transformers_version", "architectures", "output_hidden_states", "return_dict", "dtype",
    "chunk_size_feed_forward", "is_encoder_decoder", "id2label", "label2id", "problem_type",
    "use_cache", "pad_token_id", "bos_token_id", "eos_token_id", "pretraining_tp",
    "summary_type", "summary_use_proj", "summary_activation", "summary_proj_to_labels",
    "summary_first_dropout", "reorder_and_upcast_attn", *_RATES,
)  # fmt: skip
"""Settings that do not change what a trained language model computes."""

_REFUSED = ("quantization_config", "compression_config", "per_layer_config")
"""Settings outside transformers' configs that change what is computed, unless they are null."""


def translate(stated: Mapping[str, Any]) -> tuple[Family, DecoderConfig]:
    """The family and our config of a `config.json`; of a multimodal model, its language model's.

    Raises:
        InputError: the architecture or one of its settings is not supported, or malformed.
    """
    _check_refused(stated)
    wrapper, stated = WRAPPERS.get(str(stated.get("model_type"))), language_part(stated)
    _check_refused(stated)
    family = replace(family_of(stated.get("model_type")), wrapper=wrapper)
    for name in _COUNTS:
        _check_count(name, stated.get(name))
    for name in _RATES:
        if type(rate := stated.get(name, 0.0)) not in (int, float, type(None)):
            kind = type(rate).__name__
            raise InputError(f"config.json: is malformed: {name} is a {kind}, not a number")
    types = stated.get("layer_types")
    if types is not None and (not isinstance(types, list) or len(types) > MOST_LAYERS):
        raise InputError(f"config.json: layer_types is not a list of at most {MOST_LAYERS:,} names")
    try:
        return family, family.translate(_filled_in(stated))
    except InputError as error:
        raise InputError(_line(error)) from error
    except Exception as error:  # whatever transformers raises for malformed values
        raise InputError(f"config.json: is malformed: {_line(error)}") from error


def _check_refused(stated: Mapping[str, Any]) -> None:
    for name in _REFUSED:
        if stated.get(name) is not None:
            what = "quantised weights are" if name != "per_layer_config" else f"{name} is"
            raise InputError(f"config.json: {what} not supported")


def _check_count(name: str, value: Any) -> None:
    if value is None:
        return
    if not isinstance(value, int) or isinstance(value, bool):
        raise InputError(
            f"config.json: is malformed: {name} is a {type(value).__name__}, not a count"
        )
    most = MOST_LAYERS if name in _LAYERS else MOST
    if not 1 <= value <= most:
        shown = f"{value:,}" if abs(value) < 10**30 else "a number of more than 30 digits"
        raise InputError(f"config.json: {name}={shown}: must be at least 1 and at most {most:,}")


def _filled_in(stated: Mapping[str, Any]) -> Any:
    """Transformers' config of a language model, from those settings alone that have an effect."""
    from transformers import AutoConfig  # takes a second to import

    model_type = stated["model_type"]
    defaults = type(AutoConfig.for_model(model_type))
    fields = {field.name: field for field in dataclasses.fields(defaults)}
    known = {*fields, *_OLD_SPELLINGS, *defaults.attribute_map} & set(_READ)
    for name in fields.keys() - {*_READ, *_HARMLESS}:
        if name in stated and stated[name] != fields[name].default:
            raise InputError(f"config.json: {name} is not supported; remove it")
    filled = AutoConfig.for_model(model_type, **{k: v for k, v in stated.items() if k in known})
    if "layer_types" not in fields:
        _check_all_alike(stated, filled)
    if hasattr(filled, "rope_parameters"):
        filled.standardize_rope_params()  # as in the model: settings beside the dictionary win
    return filled


def _check_all_alike(stated: Mapping[str, Any], filled: Any) -> None:
    """Refuses `layer_types` that differ within a family whose layers are all alike.

    Transformers ignores them in its masks, but not in its KV cache.
    """
    window = getattr(filled, "sliding_window", None)
    kind = "full_attention" if window is None else "sliding_attention"
    if stated.get("layer_types") not in (None, [kind] * filled.num_hidden_layers):
        raise InputError(
            f"config.json: layer_types: all layers of a {filled.model_type} are of {kind}; "
            "remove it"
        )
    ignored = stated.get("sliding_window")
    if window is None and ignored is not None and ignored < filled.max_position_embeddings:
        raise InputError(
            f"config.json: sliding_window={ignored}: a {filled.model_type} has no windows; set it "
            "to null"
        )


def _line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= _LONGEST_MESSAGE else text[:_LONGEST_MESSAGE] + "..."
