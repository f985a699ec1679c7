"""What a benchmark refuses before any work: a place it must not write to, an absent peer."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from subliminal_jax.errors import InputError

PEERS = {"torch": ("PyTorch", "torch"), "peft": ("PEFT", "peers")}
"""Name and extra of each module that is timed."""


def check_before_work(out: Path | None, overwrite: bool, peers: Sequence[str]) -> None:
    """Check where the numbers go, and that the peers are there that are to be timed.

    Args:
        out: file for the numbers, or None.
        overwrite: whether it may exist.
        peers: some of `PEERS`.

    Raises:
        InputError: the file exists, its directory does not, or a peer cannot be imported.
    """
    if out is not None and out.exists() and not overwrite:
        raise InputError(f"out: {out} exists; add --overwrite, or choose another file")
    if out is not None and not out.parent.is_dir():
        raise InputError(f"out: the directory {out.parent} does not exist; make it first")
    for peer in peers:
        name, extra = PEERS[peer]
        try:
            import_module(peer)
        except ImportError as error:
            raise InputError(
                f"torch: {name} is not installed; pip install -e '.[{extra}]', or drop --torch"
            ) from error
