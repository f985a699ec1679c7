"""The settings of Llama 3's rotary frequencies, found from the factors that a GGUF file stores."""

from typing import Any

import numpy as np

from subliminal_jax.errors import InputError
from subliminal_jax.models.decoder.config import LayerKind, RopeScaling
from subliminal_jax.models.decoder.rope import frequencies

CONTEXTS = (8192, 4096, 2048, 16384, 32768, 65536, 131072)
"""Contexts before they were made longer; Llama 3's is the first."""


def llama3_rope(stored: np.ndarray, theta: float, head: int) -> dict[str, Any]:
    """The `rope_parameters` that give the stored factors.

    Args:
        stored: `[head / 2]`, by which each rotary frequency is divided.
        theta: the base of the frequencies.
        head: dimensions of a head.

    Raises:
        InputError: no settings of Llama 3's rule give these factors.
    """
    highest = float(stored.max(initial=1.0))
    plain = frequencies(LayerKind(theta=theta), head)
    for context in CONTEXTS:
        scaling = RopeScaling(kind="llama3", factor=highest, original_context=context)
        slowed = frequencies(LayerKind(theta=theta, scaling=scaling), head)
        if slowed.shape == stored.shape and np.allclose(stored * slowed, plain, rtol=1e-5, atol=0):
            return {
                "rope_type": "llama3",
                "factor": float(str(np.float32(highest))),
                "low_freq_factor": scaling.low,
                "high_freq_factor": scaling.high,
                "original_max_position_embeddings": context,
            }
    raise InputError(
        "rope_freqs.weight holds factors that Llama 3's rule for a longer context does not give; "
        "they are not supported"
    )
