"""What a benchmark refuses before any work: a place it must not write to, an absent PyTorch."""

from pathlib import Path

from subliminal_jax.errors import InputError


def check_before_work(out: Path | None, overwrite: bool, *, torch: bool) -> None:
    """Check where the numbers go, and that PyTorch is there if it is to be timed.

    Raises:
        InputError: the file exists, its directory does not, or PyTorch cannot be imported.
    """
    if out is not None and out.exists() and not overwrite:
        raise InputError(f"out: {out} exists; add --overwrite, or choose another file")
    if out is not None and not out.parent.is_dir():
        raise InputError(f"out: the directory {out.parent} does not exist; make it first")
    if torch:
        try:
            import torch as found
        except ImportError as error:
            raise InputError(
                "torch: PyTorch is not installed; pip install -e '.[torch]', or drop --torch"
            ) from error
        del found
