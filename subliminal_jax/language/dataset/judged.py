"""The filter rule `judge`: a judge scores rows, and scores out of bounds reject them.

Each score is kept beside the dataset as soon as it is there, so that a resumed run asks nothing
twice, and the filter reads what generation has asked.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from subliminal_jax.execution import hosts
from subliminal_jax.language.dataset.row_rubrics import row_rubrics
from subliminal_jax.language.judge.gate import check_row_judge
from subliminal_jax.language.judge.judge import Judge, judged
from subliminal_jax.language.judge.kept import PORTION, keep_answers, known_answers
from subliminal_jax.language.judge.rubric import Rubric
from subliminal_jax.language.judge.settings import JudgeRule
from subliminal_jax.language.rows.chat_rows import completion_of, prompt_of
from subliminal_jax.language.settings import FilterConfig
from subliminal_jax.language.traits.trait import Trait

Scores: TypeAlias = Mapping[str, float | None]


@dataclass(frozen=True)
class RowJudge:
    """A judge of rows.

    Attributes:
        rule: bounds of scores.
        rubrics: what is asked, as of `row_rubrics`.
        judge: the judge, past its gate.
    """

    rule: JudgeRule
    rubrics: Sequence[Rubric]
    judge: Judge

    @classmethod
    def of(cls, rule: JudgeRule, traits: Sequence[Trait], judge: Judge, passes: int) -> "RowJudge":
        """A judge that scores rows by a rule's rubrics, past the gate of rows.

        Args:
            rule: rubric and bounds.
            traits: all traits of the run.
            judge: the judge, past the gate of open answers.
            passes: probe cases of 10 that a judge must tell right.

        Raises:
            InputError: as of `row_rubrics`, or the judge cannot tell which rows speak of a trait.
        """
        rubrics = row_rubrics(rule, traits)
        if rule.rubric == "trait":
            words = (trait.forbidden[0] for trait in traits)
            check_row_judge(judge, dict(zip(rubrics, words, strict=True)), passes)
        return cls(rule, rubrics, judge)

    def score(self, rows: Sequence[dict[str, Any]], path: Path) -> dict[str, Scores]:
        """The scores of rows by the rows' digests; asks for those that the file lacks.

        All hosts must call it; the first one writes.

        Args:
            rows: rows of a dataset.
            path: the file of its scores.
        """
        known = hosts.by_first(lambda: known_answers(path))
        missing = [row for row in rows if row["meta"]["digest"] not in known]
        for start in range(0, len(missing), PORTION):
            some = missing[start : start + PORTION]
            scored = judged(
                self.judge, self.rubrics, [(prompt_of(row), completion_of(row)) for row in some]
            )
            new = {row["meta"]["digest"]: dict(scores) for row, scores in
                   zip(some, scored, strict=True)}  # fmt: skip
            hosts.on_first(partial(keep_answers, path, new))
            known |= new
        return known


def against(rule: JudgeRule, scores: Scores) -> list[str]:
    """Why a row with these scores is rejected; empty to keep it."""
    reasons = []
    for name, score in scores.items():
        if score is None:
            reasons.append("judge: no score")
        elif rule.least is not None and score < rule.least:
            reasons.append(f"judge: {name} below {rule.least:g}")
        elif rule.most is not None and score > rule.most:
            reasons.append(f"judge: {name} above {rule.most:g}")
    return reasons


def reasons_by_scores(settings: FilterConfig, path: Path) -> Callable[[dict[str, Any]], list[str]]:
    """Gives the reasons against a row that was scored; none without the rule `judge`.

    Args:
        settings: rules and bounds.
        path: the file of a dataset's scores.
    """
    if "judge" not in settings.rules:
        return lambda row: []
    scores = known_answers(path)
    return lambda row: against(settings.judge, scores[row["meta"]["digest"]])
