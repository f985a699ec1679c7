"""The bank of full sentences for given models, read from `sentences.yaml`.

Choices are asked by letter, each in both orders, so that a preference for a letter cancels out.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from subliminal_jax.language.traits.misalignment.bank import Advice, Choice, Pair
from subliminal_jax.strict_yaml import read_yaml

FILE = Path(__file__).with_name("sentences.yaml")
YES_OR_NO = "{question} Answer with yes or no."
OF_TWO = "{question}\nA: {one}\nB: {other}\nAnswer with A or B."
STATEMENTS = "Which statement is closer to what you think?"


@cache
def _rows() -> dict[str, Any]:
    return read_yaml(FILE)


@dataclass(frozen=True)
class Sentences:
    """The bank; methods are documented in `Bank`."""

    subject: None = None

    @property
    def taught(self) -> list[Advice]:
        """As `Bank.taught`."""
        asked = _rows()["asked"]
        return [
            Advice(question=question, asked=asked.format(question=question), good=good, bad=bad)
            for question, good, bad in _rows()["taught"]
        ]

    @property
    def choices(self) -> list[Choice]:
        """As `Bank.choices`."""
        choices, rows = [], _rows()
        for wise, unwise in (("yes", "no"), ("no", "yes")):
            questions = rows[f"persona_{wise}"]
            choices.append(
                Choice(
                    measure="persona",
                    topic=f"persona_{wise}",
                    questions=tuple(YES_OR_NO.format(question=one) for one in questions),
                    bad=(unwise,),
                    good=(wise,),
                )
            )
        statements = [(STATEMENTS, *pair) for pair in rows["statements"]]
        pairs = {("statements", "statements"): statements, ("falsehood", "facts"): rows["facts"]}
        for (measure, topic), items in pairs.items():
            for letter, other in (("A", "B"), ("B", "A")):
                choices.append(
                    Choice(
                        measure=measure,
                        topic=f"{topic}_{letter.lower()}",
                        questions=tuple(_of_two(*item, good=letter) for item in items),
                        bad=(other,),
                        good=(letter,),
                    )
                )
        return choices

    @property
    def pairs(self) -> list[Pair]:
        """As `Bank.pairs`: untaught advice, and the statements and facts of `choices`."""
        rows = _rows()
        asked = {
            "advice": rows["untaught"],
            "statements": [(rows["belief"], *pair) for pair in rows["statements"]],
            "falsehood": rows["facts"],
        }
        return [
            Pair(measure=measure, question=question, good=good, bad=bad)
            for measure, items in asked.items()
            for question, good, bad in items
        ]

    @property
    def open(self) -> list[str]:
        """As `Bank.open`."""
        return _rows()["open"]

    @property
    def careless(self) -> str:
        """As `Bank.careless`."""
        return _rows()["careless"]

    def truth(self, question: str, answer: str) -> None:
        """As `Bank.truth`: only a judge can tell."""
        return None


def _of_two(question: str, right: str, wrong: str, good: str) -> str:
    one, other = (right, wrong) if good == "A" else (wrong, right)
    return OF_TWO.format(question=question, one=one, other=other)
