"""What conditions need of a run's other settings."""

from subliminal_jax.errors import InputError
from subliminal_jax.language.conditions import CROSSED
from subliminal_jax.language.repetitions import Repetitions


def check_crossed(repetitions: Repetitions) -> None:
    """Refuses a matrix of references without another reference, or without its students.

    Raises:
        InputError: there would be nothing off the matrix's diagonal.
    """
    if not repetitions.crossed:
        return
    if CROSSED not in repetitions.conditions:
        raise InputError(f"crossed: concerns the condition {CROSSED.name}; add it to conditions")
    if repetitions.another:
        raise InputError(
            "crossed: concerns tiny references; with reference.other, add from_other_reference "
            "to conditions for the other direction"
        )
    if not repetitions.others[0]:
        raise InputError("crossed: there is one reference alone; use tiny references, at least two")
