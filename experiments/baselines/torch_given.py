"""A given model in transformers on PyTorch, and an adapter of PEFT on it."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def load(files: Path, dtype: torch.dtype) -> Any:
    """Return the model of a directory, or of a GGUF file."""
    single = files.suffix == ".gguf"
    where = {"gguf_file": files.name} if single else {}
    place = files.parent if single else files
    return AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32, **where).to(dtype)


class TorchSampler:
    """Sampling from the model, with weights of the precision."""

    def __init__(self, files: Path, precision: str):
        self._model = load(files, DTYPES[precision]).eval()

    def sample(
        self, prompts: Sequence[Sequence[int]], tokens: int
    ) -> tuple[int, Mapping[str, float]]:
        """Draw `tokens` tokens for each of the prompts, which are of one length."""
        ids = torch.tensor(prompts)
        with torch.inference_mode():
            out = self._model.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=True, top_k=0, top_p=1.0,
                temperature=1.0, min_new_tokens=tokens, max_new_tokens=tokens, pad_token_id=0,
            )  # fmt: skip
        return out[:, ids.shape[1] :].numel(), {}


class TorchTrainer:
    """Steps of Adam on an adapter of all projections.

    In bfloat16 the weights stay float32, under autocast, as PyTorch recommends.
    """

    def __init__(self, files: Path, precision: str, rank: int):
        model = load(files, torch.float32)
        lora = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=list(PROJECTIONS))
        self._model = get_peft_model(model, lora).train()
        trained = [leaf for leaf in self._model.parameters() if leaf.requires_grad]
        self._optimizer = torch.optim.Adam(trained, lr=1e-4)
        bfloat16 = precision == "bfloat16"
        self._context = lambda: torch.autocast("cpu", torch.bfloat16) if bfloat16 else nullcontext()

    def train(
        self, ids: np.ndarray, learnt: int, among: int, steps: int
    ) -> tuple[int, Mapping[str, float]]:
        """Learn the last `learnt` of the ids `[rows, length + 1]` among the first `among` ids."""
        tokens = torch.tensor(ids, dtype=torch.long)
        loss = torch.zeros(())
        for _ in range(steps):
            with self._context():
                out = self._model(tokens[:, :-1], use_cache=False, logits_to_keep=learnt)
                logits = out.logits[..., :among].float()
                loss = torch.nn.functional.cross_entropy(
                    logits.flatten(0, 1), tokens[:, -learnt:].flatten()
                )
            self._optimizer.zero_grad()
            loss.backward()
            self._optimizer.step()
        return steps * tokens[:, :-1].numel(), {"loss": loss.item()}
