"""What a network says to some prompts, sampled by all hosts together."""

from collections.abc import Sequence

from subliminal_jax.execution import hosts
from subliminal_jax.language.reference import Reference
from subliminal_jax.language.training.trainable import Network
from subliminal_jax.models.sampling.prefill import Request
from subliminal_jax.models.sampling.sampler import Sampler
from subliminal_jax.models.sampling.settings import Sampling


def sampler_of(reference: Reference, network: Network, sampling: Sampling, batch: int) -> Sampler:
    """A sampler of a reference, or of a network made of it, on this host alone."""
    params, adapter = reference.here(network)
    return Sampler(
        reference.config,
        params,
        sampling,
        stop_ids=reference.chat.stop_ids,
        batch=batch,
        vocab=reference.chat.size,
        adapter=adapter,
    )


def said_to(
    reference: Reference,
    network: Network,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    batch: int,
) -> list[tuple[str, bool]]:
    """The text that each prompt is answered with, and whether it came to its end.

    The text is empty where the tokenizer lacks one of the tokens. Each host samples a part of them,
    which every one gets. All hosts must call it.

    Args:
        reference: who is asked, with `network`.
        network: parameters and adapter.
        prompts: ids, one row each.
        sampling: how to draw.
        batch: rows at a time.
    """
    sampler = sampler_of(reference, network, sampling, batch)
    requests = [Request(number, tuple(prompt)) for number, prompt in enumerate(prompts)]
    done = list(sampler.stream(hosts.mine(requests), among=requests))
    said = reference.chat.texts(one.tokens.tolist() for one in done)
    own = [(one.number, text, one.stopped) for one, (text, _) in zip(done, said, strict=True)]
    every: dict[int, tuple[str, bool]] = {}
    for part in hosts.from_all(own):
        every |= {number: (text, stopped) for number, text, stopped in part}
    return [every[request.number] for request in requests]
