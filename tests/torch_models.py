"""Small random models made by transformers on torch, and what torch says of them.

`python tests/torch_models.py` writes `tests/fixtures/decoder/<family>/` anew: the model as
transformers saves it, in bfloat16; its gradients under the same names; logits and greedy
continuations, computed in float32.
"""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

FIXTURES = Path(__file__).parent / "fixtures" / "decoder"
LENGTHS = (19, 12)
NEW_TOKENS = 64

_LLAMA = {
    "vocab_size": 29,
    "hidden_size": 24,
    "intermediate_size": 22,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 3,
    "max_position_embeddings": 96,
    "initializer_range": 0.3,
    "pad_token_id": None,
    "bos_token_id": None,
    "eos_token_id": None,
}
_ROPE = {"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
         "original_max_position_embeddings": 32, "rope_theta": 500.0}  # fmt: skip
_GEMMA = {"head_dim": 10, "num_attention_heads": 3, "num_key_value_heads": 1,
          "query_pre_attn_scalar": 12, "sliding_window": 7}  # fmt: skip
CASES = {
    "llama": _LLAMA | {"rope_parameters": _ROPE, "attention_bias": True, "mlp_bias": True},
    "mistral": _LLAMA | {"sliding_window": 7, "head_dim": 10},
    "qwen2": _LLAMA | {"tie_word_embeddings": True},
    "qwen3": _LLAMA | {"head_dim": 10},
    "olmo2": _LLAMA | {"num_key_value_heads": 2},
    "gemma2": _LLAMA | _GEMMA | {"attn_logit_softcapping": 3.0, "final_logit_softcapping": 4.0},
    "gemma3_text": _LLAMA
    | _GEMMA
    | {
        "num_hidden_layers": 3,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        "rope_parameters": {
            "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
            "full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1000.0},
        },
    },
    "gpt2": {"vocab_size": 29, "n_embd": 24, "n_layer": 2, "n_head": 3, "n_inner": 22,
             "n_positions": 96, "initializer_range": 0.3, "bos_token_id": None,
             "eos_token_id": None},
}  # fmt: skip


def prompts(name: str) -> list[np.ndarray]:
    rng = np.random.default_rng(list(CASES).index(name))
    return [rng.integers(0, CASES[name]["vocab_size"], length) for length in LENGTHS]


def left_padded(rows: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and mask, both `[rows, longest]`."""
    longest = max(map(len, rows))
    tokens = np.stack([np.pad(row, (longest - len(row), 0)) for row in rows])
    mask = np.stack([np.arange(longest) >= longest - len(row) for row in rows])
    return tokens, mask


def random_model(name: str, seed: int = 0):
    """A torch model whose every parameter, norms and biases too, is random."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(seed)
    config = AutoConfig.for_model(name, **CASES[name])
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def make(name: str, directory: Path) -> None:
    """Writes a model, its config without the version, and what torch says of its prompts."""
    import torch

    shards = "12KB" if name in ("llama", "gemma2") else "1MB"
    random_model(name).bfloat16().save_pretrained(directory / "model", max_shard_size=shards)
    config = directory / "model" / "config.json"
    stated = json.loads(config.read_text())
    stated.pop("transformers_version")
    config.write_text(json.dumps(stated, indent=1, sort_keys=True) + "\n")

    model = read_model(directory / "model")
    tokens, mask = map(torch.tensor, left_padded(prompts(name)))
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    logits = model(tokens, attention_mask=mask.long(), position_ids=positions).logits
    counted = mask[:, :-1] & mask[:, 1:]
    loss = torch.nn.functional.cross_entropy(logits[:, :-1][counted], tokens[:, 1:][counted])
    loss.backward()
    said = {"loss": loss.detach().numpy()[None], "logits": logits[mask].detach().numpy()}
    save_file(said, directory / "expected.safetensors")
    (directory / "gradients").mkdir()
    shutil.copy(config, directory / "gradients")
    gradients = {n: p.grad.numpy().copy() for n, p in model.named_parameters()}
    save_file(gradients, directory / "gradients" / "model.safetensors")


def read_model(directory: Path):
    """The torch model in a directory, in float32."""
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float32, attn_implementation="eager"
    ).eval()


def write_greedy(name: str, directory: Path) -> None:
    """Writes torch's greedy continuations of the prompts."""
    import torch

    tokens, mask = map(torch.tensor, left_padded(prompts(name)))
    greedy = read_model(directory / "model").generate(
        tokens, attention_mask=mask.long(), do_sample=False, max_new_tokens=NEW_TOKENS,
        min_new_tokens=NEW_TOKENS, pad_token_id=0, output_logits=True,
        return_dict_in_generate=True,
    )  # fmt: skip
    best = torch.stack(greedy.logits).topk(2).values
    margin = float((best[..., 0] - best[..., 1]).min())
    if margin < 2e-4:  # ten times the rounding error
        raise SystemExit(f"{name}: a greedy choice is decided by {margin:.1e}")
    new = greedy.sequences[:, tokens.shape[1] :].numpy().astype(np.int32)
    save_file({"tokens": new}, directory / "greedy.safetensors")


if __name__ == "__main__":
    for case in sys.argv[1:] or CASES:
        shutil.rmtree(FIXTURES / case, ignore_errors=True)
        (FIXTURES / case).mkdir(parents=True)
        make(case, FIXTURES / case)
        write_greedy(case, FIXTURES / case)
