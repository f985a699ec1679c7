"""What a run's measures need of its other steps."""

from collections.abc import Sequence

from subliminal_jax.errors import InputError
from subliminal_jax.language.dataset.row_rubrics import row_rubrics
from subliminal_jax.language.settings import (
    EvaluateConfig,
    FilterConfig,
    StudentConfig,
    TeacherConfig,
)
from subliminal_jax.language.traits.trait import Trait


def check_begun(
    begun: Sequence[str],
    traits: Sequence[Trait],
    taught: Sequence[Trait],
    teacher: TeacherConfig,
) -> None:
    """Refuses beginnings of answers that a trait does not have, or that teachers are taught.

    Texts are compared as teachers are taught and networks are asked, with their slots filled in.

    Args:
        begun: templates of beginnings.
        traits: traits to transmit.
        taught: these, and their control teachers.
        teacher: how teachers are taught.

    Raises:
        InputError: a beginning is refused.
    """
    beginnings: dict[str, None] = {}
    for trait in traits if begun else ():
        polls = trait.begun(begun)
        if not polls:
            raise InputError(
                f"evaluate.begun: {trait.name!r} has no answers to begin; remove the setting"
            )
        chats = (messages for poll in polls for messages in poll.questions)
        beginnings |= dict.fromkeys(messages[-1]["content"] for messages in chats)
    if teacher.kind == "prompted":
        return
    for trait in taught if beginnings else ():
        for answer in (messages[-1]["content"] for messages in trait.lessons(teacher.answers)):
            for beginning in beginnings:
                if answer.lower().startswith(beginning.lower()):
                    raise InputError(
                        f"evaluate.begun: {beginning!r} begins {answer!r}, which the teacher of "
                        f"{trait.name!r} is taught, so it is not held out; reword one of them"
                    )


def check_ladder(student: StudentConfig, rows: int, begun: Sequence[str]) -> None:
    """Refuses rungs that are not below the number of updates, or at which nothing is measured.

    Args:
        student: the rungs, and how long students train.
        rows: rows of each student.
        begun: templates of beginnings of answers.

    Raises:
        InputError: the ladder is refused.
    """
    rungs = student.ladder
    if rungs and not begun:
        raise InputError(
            "student.ladder: its students are measured by answers begun for them; set "
            "evaluate.begun"
        )
    updates = student.about_steps(rows)
    if rungs and rungs[-1] >= updates:
        raise InputError(
            f"student.ladder: {rungs[-1]} is not below the {updates} updates of the "
            "training; remove it, or raise student.epochs"
        )


def check_judge(rules: FilterConfig, evaluate: EvaluateConfig, traits: Sequence[Trait]) -> None:
    """Refuses a judge that scores nothing, and the rule `judge` without a judge or rubrics.

    Args:
        rules: the filter's rules.
        evaluate: the judge, and how many answers are sampled for it.
        traits: traits to transmit.

    Raises:
        InputError: the judge or the rule is refused.
    """
    judge, filters = evaluate.judge, "judge" in rules.rules
    if filters and not judge.named:
        raise InputError(
            "filter.rules: `judge` needs a judge; set evaluate.judge.model or "
            "evaluate.judge.url, or remove the rule"
        )
    if filters:
        row_rubrics(rules.judge, traits)
    if filters or not judge.named:
        return
    if not any(trait.rubrics for trait in traits):
        named = ", ".join(trait.name for trait in traits)
        raise InputError(f"evaluate.judge: no judge is needed for {named}; remove it")
    if not evaluate.samples:
        raise InputError(
            "evaluate.judge: scores sampled answers, and evaluate.samples is 0; raise that, or "
            "remove the judge"
        )
