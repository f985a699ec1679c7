"""A decoder so small that it compiles in seconds, whose next token is far from certain."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from subliminal_jax.models.decoder import decoder
from subliminal_jax.models.decoder.config import DecoderConfig

CONFIG = DecoderConfig(
    vocab=37, width=16, layers=2, heads=3, kv_heads=3, head_dim=4, mlp_width=24, context=64,
    initial_std=0.5,
)  # fmt: skip
SHAPE = (40, 48)
"""Of the batch that the plain forward pass is compiled for."""


@partial(jax.jit, static_argnames="config")
def _init(config, key):
    return decoder.init(config, key)


def params(seed: int = 0):
    return _init(CONFIG, jax.random.key(seed))


@partial(jax.jit, static_argnames="config")
def _logits(config, params, tokens, adapter):
    return decoder.apply(config, params, tokens, None, adapter)


def next_logits(params, texts, adapter=None) -> list[np.ndarray]:
    """The logits behind each text, from one plain forward pass without any cache."""
    assert len(texts) <= SHAPE[0]
    tokens = np.zeros(SHAPE, np.int32)
    for row, text in enumerate(texts):
        tokens[row, : len(text)] = text
    logits = np.asarray(_logits(CONFIG, params, jnp.asarray(tokens), adapter))
    return [logits[row, len(text) - 1] for row, text in enumerate(texts)]


def greedy(params, prompts, steps, stop_ids=(), adapter=None) -> list[list[int]]:
    """The likeliest continuations, drawn the slow way."""
    texts, drawn = [list(prompt) for prompt in prompts], [[] for _ in prompts]
    for _ in range(steps):
        for row, logits in enumerate(next_logits(params, texts, adapter)):
            if not drawn[row] or drawn[row][-1] not in stop_ids:
                drawn[row].append(int(np.argmax(logits)))
                texts[row].append(drawn[row][-1])
    return drawn


def log_softmax(logits: np.ndarray) -> np.ndarray:
    logits = np.asarray(logits, np.float64)
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
