"""Finetuning of all weights of a model, or of low-rank updates (LoRA)."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from subliminal_jax import losses
from subliminal_jax.batch import Batch, LossFn, Params, RandomKey, Scalar
from subliminal_jax.language.settings import TuningConfig
from subliminal_jax.language.training.answers import Apply, answer_logits, answer_loss
from subliminal_jax.models.decoder import forms, lora
from subliminal_jax.models.decoder.config import DecoderConfig
from subliminal_jax.models.decoder.token_loss import WORDS_AT_ONCE
from subliminal_jax.train import make_loss_fn

Network: TypeAlias = tuple[Any, Any]
"""Parameters and adapter, as a decoder takes them."""


def begin(tuning: TuningConfig, config: DecoderConfig, base: Any, key: RandomKey) -> Any:
    """The initial trained weights; with them, the model equals the base to the bit."""
    if tuning.weights == "full":
        return forms.stacked(base)
    return lora.init(config, lora_settings(tuning), key)


def network(tuning: TuningConfig, config: DecoderConfig, base: Any, trained: Any) -> Network:
    """The trained network, as parameters and adapter."""
    if tuning.weights == "full":
        return trained, None
    return base, lora.scaled(config, lora_settings(tuning), trained)


def merged(tuning: TuningConfig, config: DecoderConfig, base: Any, trained: Any) -> Params:
    """The trained network, as parameters with any adapter merged."""
    if tuning.weights == "full":
        return trained
    return lora.merge(config, lora_settings(tuning), base, trained)


def apply_of(
    tuning: TuningConfig,
    config: DecoderConfig,
    base: Any,
    ids: Any | None = None,
    prefix: Sequence[int] = (),
) -> Apply:
    """The logits as a function of the trained weights and the inputs.

    They are those of all tokens, or of those with these `ids`, `[v]`. The tokens `prefix` precede
    every text.
    """
    chosen = None if ids is None else jnp.asarray(ids)
    before = _tokens(prefix)

    def apply(trained: Params, reading: Any) -> jax.Array:
        params, adapter = network(tuning, config, base, trained)
        return answer_logits(config, params, reading, adapter, chosen, before)

    return apply


def token_loss_of(
    tuning: TuningConfig, config: DecoderConfig, base: Any, prefix: Sequence[int] = ()
) -> LossFn:
    """The cross-entropy of completion tokens; blockwise for a large vocabulary, to save memory.

    The tokens `prefix` precede every text.
    """
    if config.vocab <= WORDS_AT_ONCE:
        return make_loss_fn(apply_of(tuning, config, base, None, prefix), losses.cross_entropy)
    before = _tokens(prefix)

    def loss_fn(trained: Params, batch: Batch) -> tuple[Scalar, Scalar]:
        params, adapter = network(tuning, config, base, trained)
        return answer_loss(config, params, adapter, batch, before)

    return loss_fn


def _tokens(prefix: Sequence[int]) -> jax.Array | None:
    return jnp.asarray(prefix, jnp.int32) if prefix else None


def lora_settings(tuning: TuningConfig) -> lora.LoraConfig:
    """The settings of the adapter."""
    return lora.LoraConfig(rank=tuning.rank, alpha=tuning.alpha)
