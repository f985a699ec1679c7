"""What is compared: for each condition, which network is asked, and what it was trained on.

The names are those of the results. Nothing else gives a condition's name a meaning.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from subliminal_jax.errors import InputError
from subliminal_jax.language.rows.shuffles import Shuffle
from subliminal_jax.language.traits.trait import Trait

REGULAR = "regular"
"""The name of the dataset that the reference itself has written."""


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One of the networks that a report compares.

    Attributes:
        name: in results and flags.
        means: the same in words, for a reader.
        asks: who is asked: the reference as it is, the teacher, or a student.
        told: what an untrained reference reads before a question: nothing, a system prompt that
            names the trait, or rows of the trait's dataset as examples.
        data: whose completions a student is trained on: those of the trait's teacher, of the
            reference itself, or of another trait's teacher.
        shuffle: how these completions are shuffled before training, if they are.
        reference: which reference is trained: the teacher's own, or another one.
        targets: what a student imitates: what the config says, or all of its teacher's
            probabilities.
    """

    name: str
    means: str
    asks: Literal["reference", "teacher", "student"] = "student"
    told: Literal["nothing", "system prompt", "examples"] = "nothing"
    data: Literal["teacher", "reference", "other teacher"] = "teacher"
    shuffle: Shuffle | None = None
    reference: Literal["own", "other"] = "own"
    targets: Literal["configured", "soft"] = "configured"

    @property
    def trained(self) -> bool:
        """Whether a student is trained for it; the student of another trait is another's."""
        return self.asks == "student" and self.data != "other teacher"

    @property
    def for_each_trait(self) -> bool:
        """Whether there is one network for each trait; else all traits have it in common."""
        if self.asks == "student":
            return self.data != "reference"
        return self.asks == "teacher" or self.told != "nothing"

    def network(self, trait: str) -> str:
        """The name of its network, `NAME/TRAIT` where there is one for each trait."""
        return f"{self.name}/{trait}" if self.for_each_trait else self.name

    def source(self, trait: str) -> str:
        """The name of the dataset whose teacher's answers it is about."""
        common = self.asks == "student" and self.data == "reference"
        return REGULAR if common else trait

    def dataset(self, trait: str) -> str:
        """The name of the dataset that a student is trained on, without its extension."""
        return self.source(trait) + (f".{self.shuffle}" if self.shuffle else "")


CONDITIONS: dict[str, Condition] = {
    condition.name: condition
    for condition in (
        Condition(name="before", means="the reference as it is", asks="reference"),
        Condition(name="teacher", means="the reference made to have the trait", asks="teacher"),
        Condition(name="student", means="the reference, trained on its teacher's {items}"),
        Condition(
            name="soft",
            means="the reference, trained on its teacher's probabilities of the {items}",
            targets="soft",
        ),
        Condition(
            name="regular",
            means="the reference, trained on {items} of the reference itself",
            data="reference",
        ),
        Condition(
            name="shuffled_within",
            means="as student, the {items} of each answer in random order",
            shuffle="within",
        ),
        Condition(
            name="shuffled_across",
            means="as student, the {items} of all answers exchanged at random",
            shuffle="across",
        ),
        Condition(
            name="shuffled_regular",
            means="as regular, the {items} of all answers exchanged at random",
            data="reference",
            shuffle="across",
        ),
        Condition(
            name="other_trait",
            means="the student of another trait's teacher",
            data="other teacher",
        ),
        Condition(
            name="different_reference",
            means="another reference, trained on this teacher's {items}",
            reference="other",
        ),
        Condition(
            name="different_reference_regular",
            means="another reference, trained on this reference's own {items}",
            data="reference",
            reference="other",
        ),
        Condition(
            name="in_context",
            means="the reference, shown the teacher's {items} in place of training on them",
            asks="reference",
            told="examples",
        ),
        Condition(
            name="prompted",
            means="the reference under a system line that names the trait: the ceiling",
            asks="reference",
            told="system prompt",
        ),
    )
}
"""Every condition that a report should have; it lists those that were not run."""

BEFORE, STUDENT, PROMPTED = CONDITIONS["before"], CONDITIONS["student"], CONDITIONS["prompted"]


def chosen_conditions(names: Sequence[str]) -> list[Condition]:
    """The named conditions.

    Raises:
        InputError: a name is unknown or given twice, or `before` or `student` is missing.
    """
    for name in names:
        if name not in CONDITIONS:
            raise InputError(f"conditions: there is no {name!r}; choose of {', '.join(CONDITIONS)}")
    if len(set(names)) < len(names):
        raise InputError("conditions: one is named twice")
    if "student" not in names or "before" not in names:
        raise InputError("conditions: `before` and `student` cannot be left out")
    return [CONDITIONS[name] for name in names]


def asked_network(
    condition: Condition, trait: Trait, traits: Sequence[Trait], prompted: bool
) -> str | None:
    """The name of the network that a condition asks for a trait; None if there is none.

    Args:
        condition: which.
        trait: what the network is asked for.
        traits: all of the run; the next one of the same topics is the other trait.
        prompted: whether teachers are made by a system prompt.
    """
    if condition.asks == "teacher" and prompted:
        return PROMPTED.network(trait.name)
    if condition.asks == "student" and condition.data == "other teacher":
        names = [one.name for one in traits if one.topics == trait.topics]
        if len(names) < 2:
            return None
        return STUDENT.network(names[(names.index(trait.name) + 1) % len(names)])
    return condition.network(trait.name)


def trait_of(network: str) -> str:
    """The trait in the name of a network of one trait."""
    return network.partition("/")[2]


def meanings(items: str) -> Mapping[str, str]:
    """What each condition means, for a carrier whose completions hold such items."""
    return {name: one.means.format(items=items) for name, one in CONDITIONS.items()}
