"""Arms: the students of a member, by initialisation, imitated logits and loss."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from subliminal_jax.errors import InputError
from subliminal_jax.mnist.config import LossName
from subliminal_jax.mnist.relations import RELATIONS, Different, Relation, Same

ChosenLogits: TypeAlias = Literal["aux", "all"]


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One student of every member.

    Attributes:
        relation: how its initialisation relates to its teacher's.
        logits: which of the teacher's logits it is trained on.
        aux: number of auxiliary logits, the first ones, that exist for it; None for all.
        loss: of these logits; None for the config's loss.
        temperature: of both softmaxes; None for the config's temperature.

    Raises:
        InputError: the relation is not in the registry, so that its kind may mean two things.
    """

    relation: Relation
    logits: ChosenLogits = "aux"
    aux: int | None = None
    loss: LossName | None = None
    temperature: float | None = None

    def __post_init__(self) -> None:
        if RELATIONS.get(self.relation.kind) is not type(self.relation):
            raise InputError(
                f"{self.relation.kind!r} is not the kind of a {type(self.relation).__name__} in "
                "mnist.relations.RELATIONS; add the relation there, under a kind of its own"
            )


# The paper's four students (figure 10), beside the reference and the teacher.
PAPER_ARMS = {
    "student_aux": Arm(relation=Same(), logits="aux"),
    "student_all": Arm(relation=Same(), logits="all"),
    "cross_model_aux": Arm(relation=Different(), logits="aux"),
    "cross_model_all": Arm(relation=Different(), logits="all"),
}
