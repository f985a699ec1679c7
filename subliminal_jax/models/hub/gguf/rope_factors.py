"""The settings of Llama 3's rotary frequencies, found from the factors that a GGUF file stores."""

from typing import Any

import numpy as np

from subliminal_jax.errors import InputError

CONTEXTS = (8192, 4096, 2048, 16384, 32768, 65536, 131072)
"""Contexts before they were made longer; Llama 3's is the first."""

LOW, HIGH = 1.0, 4.0
"""Llama 3's, in every published model."""


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
    for context in CONTEXTS:
        expected = factors(theta, head, highest, context)
        if expected.shape == stored.shape and np.allclose(expected, stored, rtol=1e-5, atol=0):
            return {
                "rope_type": "llama3",
                "factor": float(str(np.float32(highest))),
                "low_freq_factor": LOW,
                "high_freq_factor": HIGH,
                "original_max_position_embeddings": context,
            }
    raise InputError(
        "rope_freqs.weight holds factors that Llama 3's rule for a longer context does not give; "
        "they are not supported"
    )


def factors(theta: float, head: int, factor: float, context: int) -> np.ndarray:
    """`[head / 2]`: Llama 3's factors. A slow frequency is divided by `factor`, a fast one kept."""
    frequencies = theta ** -(np.arange(0, head, 2, dtype=np.float64) / head)
    turns = context * frequencies / (2 * np.pi)
    kept = np.clip((turns - LOW) / (HIGH - LOW), 0.0, 1.0)
    return 1.0 / ((1.0 - kept) / factor + kept)
