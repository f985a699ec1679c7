"""What a benchmark refuses before any work: a place it must not write to, an absent PyTorch."""

from pathlib import Path

from subliminal_jax.errors import InputError


def check_before_work(
    out: Path | None, overwrite: bool, *, torch: bool, peft: bool = False
) -> None:
    """Check where the numbers go, and that PyTorch is there if it is to be timed.

    Args:
        out: file for the numbers, or None.
        overwrite: whether it may exist.
        torch: whether PyTorch is timed.
        peft: whether PEFT is.

    Raises:
        InputError: the file exists, its directory does not, or what is timed cannot be imported.
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
    if peft:
        try:
            import peft as found
        except ImportError as error:
            raise InputError(
                "torch: PEFT is not installed; pip install -e '.[peers]', or drop --torch"
            ) from error
        del found
