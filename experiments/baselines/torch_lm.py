"""A Qwen 2 in transformers on PyTorch, of the same shape as one of ours, with random weights."""

from collections.abc import Mapping, Sequence

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from subliminal_jax.models.decoder.config import DecoderConfig


class TorchLm:
    """The model, and the two things that are timed.

    Attributes:
        parameters: how many numbers it is made of.
    """

    def __init__(self, config: DecoderConfig):
        """A random model in float32, in the library's default attention."""
        torch.manual_seed(0)
        self.model = Qwen2ForCausalLM(
            Qwen2Config(
                vocab_size=config.vocab,
                hidden_size=config.width,
                num_hidden_layers=config.layers,
                num_attention_heads=config.heads,
                num_key_value_heads=config.kv_heads,
                intermediate_size=config.mlp_width,
                max_position_embeddings=config.context,
                rope_parameters={"rope_type": "default", "rope_theta": config.kinds[0].theta},
                tie_word_embeddings=config.tied,
                bos_token_id=None,
                eos_token_id=None,
                pad_token_id=0,
            )
        )
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, weight_decay=1e-4)
        self.parameters = sum(leaf.numel() for leaf in self.model.parameters())

    def sample(
        self, prompts: Sequence[Sequence[int]], tokens: int
    ) -> tuple[int, Mapping[str, float]]:
        """Draw `tokens` tokens for each of the prompts, which are of one length."""
        self.model.eval()
        ids = torch.tensor(prompts)
        with torch.inference_mode():
            out = self.model.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=True, top_k=0, top_p=1.0,
                temperature=1.0, min_new_tokens=tokens, max_new_tokens=tokens,
            )  # fmt: skip
        return out[:, ids.shape[1] :].numel(), {}

    def train(self, sequences: int, length: int, steps: int) -> tuple[int, Mapping[str, float]]:
        """Steps of AdamW on random tokens, every position learnt."""
        self.model.train()
        generator = torch.Generator().manual_seed(0)
        ids = torch.randint(
            0, self.model.config.vocab_size, (sequences, length + 1), generator=generator
        )
        loss = torch.zeros(())
        for _ in range(steps):
            logits = self.model(ids[:, :-1], use_cache=False).logits
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        return steps * sequences * length, {"loss": loss.item()}
