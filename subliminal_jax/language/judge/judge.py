"""The protocol of a judge."""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from subliminal_jax.language.judge.rubric import Rubric
from subliminal_jax.language.rows.chats import Messages


@runtime_checkable
class Judge(Protocol):
    """Gives scores from 0 to 100 for chats that end by asking for one."""

    @property
    def name(self) -> str:
        """Which model it is, for messages."""
        ...

    @property
    def described(self) -> Mapping[str, str]:
        """What identifies it, for results."""
        ...

    def scores(self, asked: Sequence[Messages]) -> list[float | None]:
        """The score for each chat; None where its reply is no number from 0 to 100.

        All hosts must call it.

        Raises:
            InputError: a chat exceeds the judge's context, or the judge cannot be asked.
        """
        ...


def judged(
    judge: Judge, rubrics: Sequence[Rubric], answers: Sequence[tuple[str, str]]
) -> list[Mapping[str, float | None]]:
    """The scores of each answer by rubric.

    Args:
        judge: the judge.
        rubrics: what it is asked.
        answers: questions with answers.
    """
    asked = [rubric.ask(*answer) for rubric in rubrics for answer in answers]
    scores = judge.scores(asked)
    names = [rubric.name for rubric in rubrics]
    by_rubric = [
        scores[start : start + len(answers)] for start in range(0, len(scores), len(answers))
    ]
    return [dict(zip(names, one, strict=True)) for one in zip(*by_rubric, strict=True)]
