"""The supported families of Hugging Face models, and the names of their weights.

An entry of `FAMILIES` is one family. To add another of the same kind, add an entry.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from subliminal_jax.errors import InputError
from subliminal_jax.models.decoder.config import DecoderConfig
from subliminal_jax.models.hub import family_configs

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
    """A multimodal model, of which only the language model is supported.

    Its config holds the language model's config as `text_config`.

    Attributes:
        model_type: of the language model.
        prefix: of the names of the language model's tensors.
        others: prefixes of the names of all other tensors.
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
        fused: modules of ours that share one of theirs -> (part, parts).
        ignored: suffixes of the names of stored buffers, which are not parameters.
        prefix: of their names; files may leave it out.
        architecture: the class that `config.json` names.
        wrapper: the multimodal model that this one is part of, or None.
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


_FUSED = {f"layers/attention/{name}": (i, 3) for i, name in enumerate(("query", "key", "value"))}

FAMILIES: Mapping[str, Family] = {
    "llama": Family("LlamaForCausalLM", family_configs.llama, _PROJECTIONS | _BEFORE),
    "mistral": Family("MistralForCausalLM", family_configs.mistral, _PROJECTIONS | _BEFORE),
    "qwen2": Family("Qwen2ForCausalLM", family_configs.qwen2, _PROJECTIONS | _BEFORE),
    "qwen3": Family("Qwen3ForCausalLM", family_configs.qwen3, _PROJECTIONS | _BEFORE),
    "olmo2": Family("Olmo2ForCausalLM", family_configs.olmo2, _PROJECTIONS | _AFTER),
    "gemma2": Family("Gemma2ForCausalLM", family_configs.gemma2, _PROJECTIONS | _AROUND),
    "gemma3_text": Family("Gemma3ForCausalLM", family_configs.gemma3, _PROJECTIONS | _AROUND),
    "gpt2": Family(
        "GPT2LMHeadModel",
        family_configs.gpt2,
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

    The multimodal config decides whether its embeddings are tied.

    Raises:
        InputError: a multimodal config has no config of its language model.
    """
    kind = stated.get("model_type")
    wrapper = WRAPPERS.get(kind) if isinstance(kind, str) else None
    if wrapper is None:
        return stated
    part = stated.get("text_config")
    if not isinstance(part, dict) or part.get("model_type") != wrapper.model_type:
        raise InputError(f"config.json: text_config of a {kind} must be a {wrapper.model_type}")
    architecture = FAMILIES[wrapper.model_type].architecture
    tied = bool(stated.get("tie_word_embeddings", True))
    return part | {"architectures": [architecture], "tie_word_embeddings": tied}


def family_of(model_type: Any) -> Family:
    """The family of a `model_type`.

    Raises:
        InputError: it is not one of `FAMILIES`; lists those that are.
    """
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        raise InputError(
            f"config.json: model_type {repr(model_type)[:80]} is not supported; supported are "
            f"{', '.join((*FAMILIES, *WRAPPERS))}"
        )
    return FAMILIES[model_type]
