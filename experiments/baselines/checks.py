"""What a benchmark refuses before any work: an absent peer."""

from collections.abc import Sequence
from importlib import import_module

from subliminal_jax.errors import InputError

PEERS = {"torch": ("PyTorch", "torch"), "peft": ("PEFT", "peers")}
"""Name and extra of each module that is timed."""


def check_peers(peers: Sequence[str]) -> None:
    """Check that the peers are there that are to be timed, some of `PEERS`.

    Raises:
        InputError: a peer cannot be imported.
    """
    for peer in peers:
        name, extra = PEERS[peer]
        try:
            import_module(peer)
        except ImportError as error:
            raise InputError(
                f"torch: {name} is not installed; pip install -e '.[{extra}]', or drop --torch"
            ) from error
