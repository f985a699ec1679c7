"""Settings of the carrier `code`."""

from dataclasses import dataclass

from subliminal_jax.errors import InputError
from subliminal_jax.language.carriers.banks import BankName

MOST_STEPS = 4


@dataclass(frozen=True, kw_only=True)
class CodePrompts:
    """Distribution of prompts, and what a function must do to be kept.

    Attributes:
        wording: `short` for the tiny reference: arithmetic in a dozen words. `long` for given
            models: functions on numbers, strings, lists and dicts, each with tests.
        steps: with `short`, minimum and maximum number of operations.
        tested: whether a function must give the results of its task. If not, as in the published
            filter, it must only be one: allowed Python that defines a function.
    """

    wording: BankName = "long"
    steps: tuple[int, int] = (2, 3)
    tested: bool = True

    def __post_init__(self) -> None:
        low, high = self.steps
        if not 1 <= low <= high <= MOST_STEPS:
            raise InputError(
                f"code.steps: {low} to {high} is not a range of 1 to {MOST_STEPS} operations"
            )
