"""Loads the networks of a study: the reference itself, and trained ones from a file."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from subliminal_jax import ensemble
from subliminal_jax.keys import root_key
from subliminal_jax.language.reference import Reference
from subliminal_jax.language.settings import TuningConfig
from subliminal_jax.language.training.trainable import Network, begin, network
from subliminal_jax.language.training.trees import load_tree


def untrained_network(tuning: TuningConfig, reference: Reference) -> Network:
    """The reference, in the same form as its students, so that all can share one program."""
    initial = begin(tuning, reference.config, reference.params, root_key(0))
    return network(tuning, reference.config, reference.params, initial)


def trained_networks(
    tuning: TuningConfig, reference: Reference, path: Path, places: list[int]
) -> list[Network]:
    """The networks at these indices of a file, in this order."""
    every = load_tree(path)
    return [
        network(tuning, reference.config, reference.params, ensemble.member(every, place))
        for place in places
    ]


def named_networks(
    tuning: TuningConfig, reference: Reference, files: Mapping[Path, Sequence[str]]
) -> dict[str, Network]:
    """All networks of some files by name, given the names of each file's in order."""
    networks: dict[str, Network] = {}
    for path, names in files.items():
        trained = trained_networks(tuning, reference, path, list(range(len(names))))
        networks |= dict(zip(names, trained, strict=True))
    return networks
