"""The networks of a study: the reference untouched, or with what was trained of it."""

from pathlib import Path

import jax

from subliminal_jax.keys import root_key
from subliminal_jax.language.reference import Reference
from subliminal_jax.language.settings import TuningConfig
from subliminal_jax.language.training.trainable import Network, begin, network
from subliminal_jax.language.training.trees import load_tree


def untouched(tuning: TuningConfig, reference: Reference) -> Network:
    """The reference itself, in the form of its students, so that one program serves all."""
    nothing = begin(tuning, reference.config, reference.params, root_key(0))
    return network(tuning, reference.config, reference.params, nothing)


def trained_networks(
    tuning: TuningConfig, reference: Reference, path: Path, places: list[int]
) -> list[Network]:
    """Some of the networks in a file, by their places in it."""
    every = load_tree(path)
    trained = [jax.tree.map(lambda leaf: leaf[place], every) for place in places]  # noqa: B023
    return [network(tuning, reference.config, reference.params, one) for one in trained]
