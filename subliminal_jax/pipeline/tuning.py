"""What finetuning changes: all weights of a model, or low-rank updates beside them."""

from typing import Any, Literal, TypeAlias

import jax

from subliminal_jax.batch import Params, RandomKey
from subliminal_jax.models import lora
from subliminal_jax.models.decoder_config import DecoderConfig
from subliminal_jax.pipeline.config import TuningConfig
from subliminal_jax.pipeline.finetune import Apply, answers

Network: TypeAlias = tuple[Any, Any]
"""Parameters and adapter, as a decoder takes them."""
Weights: TypeAlias = Literal["lora", "full"]


def begin(tuning: TuningConfig, config: DecoderConfig, base: Any, key: RandomKey) -> Any:
    """What is trained, before its first step: with it, the model is the base to the bit."""
    if tuning.weights == "full":
        return base
    return lora.init(config, _settings(tuning), key)


def network(tuning: TuningConfig, config: DecoderConfig, base: Any, trained: Any) -> Network:
    """The network that has been trained."""
    if tuning.weights == "full":
        return trained, None
    return base, lora.scaled(config, _settings(tuning), trained)


def apply_of(tuning: TuningConfig, config: DecoderConfig, base: Any) -> Apply:
    """The logits of what is trained."""

    def apply(trained: Params, reading: Any) -> jax.Array:
        params, adapter = network(tuning, config, base, trained)
        return answers(config, params, reading, adapter)

    return apply


def _settings(tuning: TuningConfig) -> lora.LoraConfig:
    return lora.LoraConfig(rank=tuning.rank, alpha=tuning.alpha)
