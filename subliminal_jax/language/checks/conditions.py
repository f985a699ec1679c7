"""What conditions need of a run's other settings."""

from collections.abc import Sequence

from subliminal_jax.errors import InputError
from subliminal_jax.language.conditions import CROSSED, USUAL, Condition
from subliminal_jax.language.dataset.variants import has_students
from subliminal_jax.language.repetitions import Repetitions
from subliminal_jax.language.settings import Targets
from subliminal_jax.language.traits.trait import Trait


def check_conditions(
    traits: Sequence[Trait], targets: Targets, teacher: str, repetitions: Repetitions
) -> None:
    """Refuses targets that no teacher gives, and conditions that no network can be measured for.

    The usual conditions, all together, are the default: those that a run cannot have are left out,
    as its report says.

    Args:
        traits: traits to transmit.
        targets: targets of students whose condition has the configured ones.
        teacher: kind of teachers.
        repetitions: the repetitions and their conditions.

    Raises:
        InputError: the targets or a condition are refused.
    """
    if teacher == "prompted" and targets != "hard":
        raise InputError(
            f"student.targets: prompted teachers have no probabilities to imitate, as {targets} "
            "targets do; set hard, or teacher.kind finetuned"
        )
    if {one.name for one in repetitions.conditions} == set(USUAL):
        return
    for one in repetitions.conditions:
        if lack := _lack(one, traits, targets, teacher, repetitions):
            raise InputError(f"conditions: {one.name} needs {lack}, or remove it")


def _lack(
    condition: Condition,
    traits: Sequence[Trait],
    targets: Targets,
    teacher: str,
    repetitions: Repetitions,
) -> str | None:
    """What a condition needs and does not have, and what to do about it; None if it has all."""
    topics = [trait.topics for trait in traits]
    foreign = condition.data == "foreign teacher"
    if teacher == "prompted" and condition.taught is not None:
        # Prompted, it would have the system prompt of the trait that it controls for.
        return "a finetuned control teacher; set teacher.kind to finetuned"
    if condition.trained and not has_students(condition, targets, teacher):
        if teacher == "prompted":
            return "probabilities of finetuned teachers; set teacher.kind to finetuned"
        return f"usual students with hard targets, not {targets} ones; set student.targets"
    if foreign and CROSSED not in repetitions.conditions:
        return f"the students of {CROSSED.name}; add that to conditions"
    if (foreign or condition.reference == "other") and not repetitions.others[0]:
        way = "set reference.other" if repetitions.given else "raise references"
        return f"another reference; {way}"
    if condition.data == "other teacher" and len(set(topics)) == len(topics):
        return "two traits of one category; add one to traits"
    return None


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
