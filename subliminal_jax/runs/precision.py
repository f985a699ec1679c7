"""The precision of a run's products: given, or the faster one at its start, which is recorded."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from subliminal_jax import files
from subliminal_jax.config import Precision, PrecisionSetting
from subliminal_jax.errors import InputError
from subliminal_jax.execution import hosts
from subliminal_jax.runs.shared_run import SharedRun, say

FILE = "precision.jsonl"
GAIN = 1.2
"""bfloat16 is chosen from this ratio of rates on; below it, rounding costs what products gain."""


@dataclass(frozen=True)
class Decision:
    """The precision of a run.

    Attributes:
        precision: of the operands of products.
        rates: FLOP/s measured for the choice, by precision; empty if it was given.
    """

    precision: Precision
    rates: Mapping[str, float]

    @property
    def facts(self) -> dict[str, Any]:
        """What results say of a choice; nothing if the precision was given."""
        if not self.rates:
            return {}
        return {"precision": {"chosen": self.precision, "flop_per_s": dict(self.rates)}}


def decided(
    directory: SharedRun,
    asked: PrecisionSetting,
    measure: Callable[[], Mapping[Precision, float]],
) -> Decision:
    """The precision that was asked for; for `auto` the one chosen when the run was started.

    Args:
        directory: the run's; it keeps the choice, which a resumed run reads.
        asked: the setting.
        measure: returns this machine's FLOP/s by precision, for products as in the run.

    Raises:
        InputError: the recorded choice is damaged.
    """
    if asked != "auto":
        return Decision(asked, {})
    if recorded := directory.read_rows(FILE):
        return _told(_read(directory, recorded), "chosen when the run was started")
    rates = hosts.from_first({str(name): rate for name, rate in measure().items()})
    chosen: Precision = "bfloat16" if rates["bfloat16"] >= GAIN * rates["float32"] else "float32"
    directory.append_row(FILE, {"chosen": chosen, "flop_per_s": rates})
    return _told(Decision(chosen, rates), "chosen now")


def recorded(run: Path) -> Precision:
    """The choice that a run directory keeps, read without opening the run.

    Raises:
        InputError: there is none.
    """
    rows = list(files.read_rows(run / FILE))
    if not rows or rows[0].get("chosen") not in get_args(Precision):
        raise InputError(f"{run / FILE}: has no choice of a precision; restore the file")
    return rows[0]["chosen"]


def _told(decision: Decision, when: str) -> Decision:
    fast = ", ".join(f"{rate / 1e9:,.1f} in {name}" for name, rate in decision.rates.items())
    say(f"precision: {decision.precision}, {when}; GFLOP/s of a product: {fast}")
    return decision


def _read(directory: SharedRun, rows: list[dict[str, Any]]) -> Decision:
    match rows:
        case [{"chosen": "float32" | "bfloat16" as chosen, "flop_per_s": dict(rates)}]:
            return Decision(chosen, rates)
    raise InputError(
        f"{directory.path / FILE}: is not one choice of a precision; restore the file, or start "
        "anew with --overwrite"
    )
