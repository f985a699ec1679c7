"""A GGUF file's metadata as the `config.json` of the same model in Hugging Face's format.

A setting that is not known here is refused by name, as it may change what is computed. What a
family has without stating it is what llama.cpp gives it.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from subliminal_jax.errors import InputError
from subliminal_jax.models.hub.families import FAMILIES
from subliminal_jax.models.hub.gguf.header import Header
from subliminal_jax.models.hub.gguf.rope_factors import llama3_rope
from subliminal_jax.models.hub.model_files import shown

ARCHITECTURES = {
    "llama": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "olmo2": "olmo2",
    "gemma2": "gemma2",
    "gemma3": "gemma3_text",
    "gpt2": "gpt2",
}
"""GGUF's architecture -> `model_type`. Files of a Mistral state the architecture llama."""

UNEMBEDDING, EMBEDDING, ROPE_FACTORS = "output.weight", "token_embd.weight", "rope_freqs.weight"

_SCALES = ("rope.scaling.type", "rope.scaling.factor", "rope.scaling.original_context_length",
           "rope.scaling.finetuned", "rope.scale_linear")  # fmt: skip
_SWITCHED_OFF = ("expert_count", "expert_used_count", "rope.scaling.attn_factor")
"""Settings that have no effect if they are 0."""

_KNOWN = (
    "block_count", "context_length", "embedding_length", "feed_forward_length", "vocab_size",
    "attention.head_count", "attention.head_count_kv", "attention.key_length",
    "attention.value_length", "attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon",
    "attention.sliding_window", "rope.freq_base", "rope.freq_base_swa", "rope.dimension_count",
    "attn_logit_softcapping", "final_logit_softcapping", *_SCALES, *_SWITCHED_OFF,
)  # fmt: skip

_27B = {"gemma2": 46, "gemma3_text": 62}
"""Layers of the size whose attention is scaled by width / heads, not by the head's dimension."""


def stated_config(header: Header, tensors: Collection[str], factors: np.ndarray | None) -> dict:
    """The `config.json` of a GGUF model, with its family and ids of special tokens.

    Args:
        header: of the model's first file.
        tensors: names of all of the model's tensors.
        factors: `rope_freqs.weight`, by which each rotary frequency is divided; None without it.

    Raises:
        InputError: the architecture or a setting is not supported, missing or malformed.
    """
    settings = Settings(header)
    model_type = settings.model_type
    settings.check_known()
    vocabulary = header.tensors[EMBEDDING].shape[0] if EMBEDDING in header.tensors else 0
    if vocabulary and (count := settings.count("vocab_size", vocabulary)) != vocabulary:
        raise settings.refuse(f"vocab_size={count:,}, but {EMBEDDING} has {vocabulary:,} rows")
    stated = {
        "model_type": model_type,
        "architectures": [FAMILIES[model_type].architecture],
        "vocab_size": vocabulary,
        "tie_word_embeddings": UNEMBEDDING not in tensors,
        **_special_ids(header.settings),
    }
    if model_type == "gpt2":
        return stated | _gpt2(settings)
    stated |= _common(settings)
    stated["attention_bias"] = "blk.0.attn_output.bias" in tensors
    stated["mlp_bias"] = "blk.0.ffn_up.bias" in tensors
    rope = _rope(settings, factors)
    return stated | {"rope_parameters": rope} | _OWN.get(model_type, lambda *_: {})(settings, rope)


class Settings:
    """The settings of a file's architecture, looked up without its prefix and checked.

    Args:
        header: of the file.

    Raises:
        InputError: the architecture is not supported.
    """

    def __init__(self, header: Header):
        self._path, self._all = header.path, header.settings
        stated = self._all.get("general.architecture")
        if not isinstance(stated, str) or stated not in ARCHITECTURES:
            raise InputError(
                f"{header.path}: is of the architecture {shown(str(stated))!r}, which is not "
                f"supported; supported are {', '.join(ARCHITECTURES)}"
            )
        self.architecture: str = stated
        self.model_type = ARCHITECTURES[self.architecture]
        if self.model_type == "llama" and self.get("attention.sliding_window") is not None:
            self.model_type = "mistral"  # the only kind of Llama with a window

    def check_known(self) -> None:
        """Refuses settings that are not known, and those that switch on what is not supported."""
        prefix = f"{self.architecture}."
        for key, value in self._all.items():
            name = key.removeprefix(prefix)
            if key.startswith(prefix) and name not in _KNOWN:
                raise InputError(f"{self._path}: its setting {shown(key)} is not supported")
            if name in _SWITCHED_OFF and value != 0:
                raise InputError(f"{self._path}: its setting {shown(key)} is not supported")

    def get(self, name: str, default: Any = None) -> Any:
        """A setting; of one with a value per layer, that value if all are equal."""
        value = self._all.get(f"{self.architecture}.{name}", default)
        if isinstance(value, list):
            if len(value) != self._all.get(f"{self.architecture}.block_count"):
                raise InputError(
                    f"{self._path}: {name} has {len(value):,} values, not one for each layer"
                )
            if len(set(map(str, value))) != 1:
                raise InputError(f"{self._path}: its layers differ in {name}; not supported")
            value = value[0]
        return value

    def count(self, name: str, default: int | None = None) -> int:
        """A whole number."""
        value = self.get(name, default)
        if type(value) is not int:
            raise InputError(f"{self._path}: {name} is missing or not a count")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """A number as the shortest decimal that is the same in float32."""
        value = self.get(name, default)
        if type(value) not in (int, float):
            raise InputError(f"{self._path}: {name} is missing or not a number")
        return float(str(np.float32(value)))

    def refuse(self, why: str) -> InputError:
        """The refusal of a setting."""
        return InputError(f"{self._path}: {why}")


def _special_ids(settings: Mapping[str, Any]) -> dict[str, Any]:
    names = {"bos_token_id": "bos", "eos_token_id": "eos", "pad_token_id": "padding"}
    ids = {name: settings.get(f"tokenizer.ggml.{ours}_token_id") for name, ours in names.items()}
    return {name: token if type(token) is int else None for name, token in ids.items()}


def _heads(settings: Settings) -> tuple[int, int, int]:
    """Heads, heads of keys, and dimensions of each."""
    heads, width = settings.count("attention.head_count"), settings.count("embedding_length")
    if not 1 <= heads <= width:
        raise settings.refuse(f"attention.head_count={heads}: must be at least 1 and at most the "
                              f"width, {width}")  # fmt: skip
    head = settings.count("attention.key_length", width // heads)
    if settings.count("attention.value_length", head) != head:
        raise settings.refuse("attention.value_length differs from key_length; not supported")
    if settings.count("rope.dimension_count", head) != head:
        raise settings.refuse(
            f"rope.dimension_count={settings.count('rope.dimension_count')}: only rotations of "
            f"all {head} dimensions of a head are supported"
        )
    return heads, settings.count("attention.head_count_kv", heads), head


def _common(settings: Settings) -> dict[str, Any]:
    """What all families but GPT-2 share."""
    heads, kv_heads, head = _heads(settings)
    return {
        "hidden_size": settings.count("embedding_length"),
        "intermediate_size": settings.count("feed_forward_length"),
        "num_hidden_layers": settings.count("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": head,
        "max_position_embeddings": settings.count("context_length"),
        "rms_norm_eps": settings.number("attention.layer_norm_rms_epsilon"),
        "hidden_act": "silu",
    }


def _rope(settings: Settings, factors: np.ndarray | None) -> dict[str, Any]:
    theta, kind = settings.number("rope.freq_base", 10_000.0), settings.get("rope.scaling.type")
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": theta}
    if factors is not None:
        if kind not in (None, "none"):
            raise settings.refuse(f"rope.scaling.type beside {ROPE_FACTORS} is not supported")
        try:
            return rope | llama3_rope(factors, theta, _heads(settings)[2])
        except InputError as error:
            raise settings.refuse(str(error)) from error
    if kind is None and settings.get("rope.scale_linear") is not None:
        return rope | {"rope_type": "linear", "factor": settings.number("rope.scale_linear")}
    if kind in (None, "none"):
        return rope
    return rope | {
        "rope_type": shown(str(kind)),
        "factor": settings.number("rope.scaling.factor"),
    }


def _mistral(settings: Settings, rope: dict) -> dict[str, Any]:
    return {"sliding_window": settings.count("attention.sliding_window")}


def _windows(settings: Settings, window: int, every: int) -> dict[str, Any]:
    """Layers with a window, and after each `every - 1` of them one without."""
    layers = range(min(settings.count("block_count"), 10_000))  # config_json refuses more
    kinds = ["full_attention" if i % every == every - 1 else "sliding_attention" for i in layers]
    return {"sliding_window": window, "layer_types": kinds}


def _gemma(settings: Settings) -> dict[str, Any]:
    heads, _, head = _heads(settings)
    largest = settings.count("block_count") == _27B[settings.model_type]
    scale = settings.count("embedding_length") // heads if largest else head
    return {"hidden_activation": "gelu_pytorch_tanh", "query_pre_attn_scalar": scale}


def _gemma2(settings: Settings, rope: dict) -> dict[str, Any]:
    windows = _windows(settings, settings.count("attention.sliding_window", 4096), 2)
    caps = {
        "attn_logit_softcapping": settings.number("attn_logit_softcapping", 50.0),
        "final_logit_softcapping": settings.number("final_logit_softcapping", 30.0),
    }
    return _gemma(settings) | windows | caps


def _gemma3(settings: Settings, rope: dict) -> dict[str, Any]:
    near = settings.number("rope.freq_base_swa", 10_000.0)
    own = _gemma(settings) | _windows(settings, settings.count("attention.sliding_window"), 6)
    if settings.get("final_logit_softcapping") is not None:
        own["final_logit_softcapping"] = settings.number("final_logit_softcapping")
    if settings.get("attn_logit_softcapping") is not None:
        own["attn_logit_softcapping"] = settings.number("attn_logit_softcapping")
    near_rope = {"rope_type": "default", "rope_theta": near}
    ropes = {"full_attention": rope, "sliding_attention": near_rope}
    used = set(own["layer_types"])
    return own | {"rope_parameters": {name: it for name, it in ropes.items() if name in used}}


_OWN: Mapping[str, Callable[[Settings, dict], dict[str, Any]]] = {
    "mistral": _mistral,
    "gemma2": _gemma2,
    "gemma3_text": _gemma3,
}
"""`model_type` -> what it has besides what all have."""


def _gpt2(settings: Settings) -> dict[str, Any]:
    return {
        "n_embd": settings.count("embedding_length"),
        "n_inner": settings.count("feed_forward_length"),
        "n_layer": settings.count("block_count"),
        "n_head": settings.count("attention.head_count"),
        "n_positions": settings.count("context_length"),
        "layer_norm_epsilon": settings.number("attention.layer_norm_epsilon"),
        "activation_function": "gelu_new",
    }
