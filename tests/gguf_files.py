"""Small GGUF files, written from Hugging Face directories with the package's own writer."""

import json
from pathlib import Path

import gguf
import numpy as np
from safetensors.numpy import load_file
from tokenizers import Tokenizer

ARCHITECTURES = {"mistral": "llama", "gemma3_text": "gemma3"}
"""`model_type` -> GGUF's architecture, where the two differ."""


def write_gguf(
    path: Path,
    directory: Path,
    *,
    kind: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.F32,
    settings=(),
    more=None,
    **writer_options,
) -> Path:
    """The model of a directory as a GGUF file, as llama.cpp's converter writes it.

    Args:
        path: of the file.
        directory: with config.json and safetensors.
        kind: storage type of the matrices.
        settings: calls of further methods of the writer: (name, arguments).
        more: further tensors by GGUF's name.
        writer_options: of the writer.
    """
    stated = json.loads((directory / "config.json").read_text())
    model_type = stated["model_type"]
    architecture = ARCHITECTURES.get(model_type, model_type)
    writer = gguf.GGUFWriter(path, architecture, **writer_options)
    for name, value in _settings(stated).items():
        getattr(writer, f"add_{name}")(value)
    for name, *arguments in settings:
        getattr(writer, f"add_{name}")(*arguments)
    for name, values in {**tensors(directory, stated, architecture), **(more or {})}.items():
        block, _ = gguf.GGML_QUANT_SIZES[kind]
        plain = values.ndim < 2 or values.shape[-1] % block
        stored = gguf.GGMLQuantizationType.F32 if plain else kind
        writer.add_tensor(name, gguf.quantize(values, stored), raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _settings(stated: dict) -> dict:
    """The writer's methods and their arguments."""
    if stated["model_type"] == "gpt2":
        names = {"embedding_length": "n_embd", "block_count": "n_layer", "head_count": "n_head",
                 "context_length": "n_positions", "feed_forward_length": "n_inner",
                 "layer_norm_eps": "layer_norm_epsilon", "vocab_size": "vocab_size"}  # fmt: skip
        return {name: stated[theirs] for name, theirs in names.items()}
    names = {"embedding_length": "hidden_size", "block_count": "num_hidden_layers",
             "head_count": "num_attention_heads", "head_count_kv": "num_key_value_heads",
             "context_length": "max_position_embeddings", "key_length": "head_dim",
             "value_length": "head_dim", "feed_forward_length": "intermediate_size",
             "layer_norm_rms_eps": "rms_norm_eps", "vocab_size": "vocab_size",
             "sliding_window": "sliding_window", "attn_logit_softcapping": "attn_logit_softcapping",
             "final_logit_softcapping": "final_logit_softcapping"}  # fmt: skip
    found = {n: stated[t] for n, t in names.items() if stated.get(t) is not None}
    rope = stated["rope_parameters"]
    for ours, kind in (("rope_freq_base_swa", "sliding_attention"),
                       ("rope_freq_base", "full_attention")):  # fmt: skip
        if kind in rope:
            found[ours] = rope[kind]["rope_theta"]
    if "rope_theta" in rope:
        found["rope_freq_base"] = rope["rope_theta"]
    if stated["model_type"] in ("llama", "mistral") and stated.get("head_dim"):
        found["rope_dimension_count"] = stated["head_dim"]
    if stated["model_type"] in ("qwen2", "qwen3"):
        found.pop("sliding_window", None)
    return found


def tensors(directory: Path, stated: dict, architecture: str) -> dict[str, np.ndarray]:
    """A directory's tensors by GGUF's names, changed as llama.cpp's converter changes them."""
    number = {name: key for key, name in gguf.MODEL_ARCH_NAMES.items()}[architecture]
    layers = stated.get("num_hidden_layers") or stated["n_layer"]
    names = gguf.get_tensor_name_map(number, layers)
    found = {}
    for file in sorted(directory.glob("*.safetensors")):
        for name, values in load_file(file).items():
            values = values.astype(np.float32)
            if architecture == "llama" and (".q_proj." in name or ".k_proj." in name):
                key = "num_attention_heads" if ".q_proj." in name else "num_key_value_heads"
                heads = stated[key]
                halves = values.reshape(heads, 2, values.shape[0] // heads // 2, *values.shape[1:])
                values = halves.swapaxes(1, 2).reshape(values.shape)
            if architecture.startswith("gemma") and name.endswith("norm.weight"):
                values = values + 1
            if architecture == "gpt2" and values.ndim == 2 and ".h." in name:
                values = values.T
            found[names.get_name(name, (".weight", ".bias"))] = np.ascontiguousarray(values)
    return found


def byte_level_settings(tokenizer: Tokenizer, pre: str, template: str) -> dict:
    """The writer's methods and arguments that state a byte-level tokenizer and a chat template.

    Args:
        tokenizer: with ChatML's two control tokens.
        pre: GGUF's name of how it cuts text.
        template: of chats.
    """
    definition = json.loads(tokenizer.to_str())
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    kinds = gguf.TokenType
    added = {
        token["content"]: kinds.CONTROL if token["special"] else kinds.USER_DEFINED
        for token in definition["added_tokens"]
    }
    tokens = sorted(vocabulary, key=vocabulary.get)
    return {
        "tokenizer_model": "gpt2",
        "tokenizer_pre": pre,
        "token_list": tokens,
        "token_types": [added.get(token, kinds.NORMAL) for token in tokens],
        "token_merges": [" ".join(pair) for pair in definition["model"]["merges"]],
        "bos_token_id": vocabulary["<|im_start|>"],
        "eos_token_id": vocabulary["<|im_end|>"],
        "chat_template": template,
    }
