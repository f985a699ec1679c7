"""Completions of prompts, sampled from one network by all hosts together."""

from collections.abc import Sequence

from subliminal_jax.execution import hosts
from subliminal_jax.language.reference import Reference
from subliminal_jax.language.training.trainable import Network
from subliminal_jax.models.sampling.constraints import Constraint
from subliminal_jax.models.sampling.prefill import Request
from subliminal_jax.models.sampling.sampler import Sampler
from subliminal_jax.models.sampling.settings import Sampling


def sampler_of(
    reference: Reference,
    network: Network,
    sampling: Sampling,
    batch: int,
    constraint: Constraint | None = None,
) -> Sampler:
    """A sampler for a network of a reference, on this host's devices.

    Args:
        reference: model and tokenizer.
        network: parameters and adapter to sample from.
        sampling: length, temperature and seed.
        batch: completions sampled at a time.
        constraint: what a completion must be; None for anything.

    Raises:
        InputError: `sampling.max_tokens` is too small for the constraint.
    """
    params, adapter = reference.here(network)
    return Sampler(
        reference.config,
        params,
        sampling,
        stop_ids=reference.chat.stop_ids,
        batch=batch,
        vocab=reference.chat.size,
        adapter=adapter,
        constraint=constraint,
    )


def completions(
    reference: Reference,
    network: Network,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    batch: int,
) -> list[tuple[str, bool]]:
    """For each prompt, the completion's text and whether it ended with a stop token.

    The text is empty if the tokenizer lacks one of the tokens. Each host samples a share of the
    prompts and receives all completions. All hosts must call it.

    Args:
        reference: model and tokenizer.
        network: parameters and adapter to sample from.
        prompts: token ids of each prompt.
        sampling: length, temperature and seed.
        batch: prompts sampled at a time.
    """
    sampler = sampler_of(reference, network, sampling, batch)
    requests = [Request(number, tuple(prompt)) for number, prompt in enumerate(prompts)]
    done = list(sampler.stream(hosts.mine(requests), among=requests))
    texts = reference.chat.texts(one.tokens.tolist() for one in done)
    own = [(one.number, text, one.stopped) for one, (text, _) in zip(done, texts, strict=True)]
    every: dict[int, tuple[str, bool]] = {}
    for part in hosts.from_all(own):
        every |= {number: (text, stopped) for number, text, stopped in part}
    return [every[request.number] for request in requests]
