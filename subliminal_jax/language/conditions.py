"""What is compared: for each condition, which network is measured and what it was trained on.

Names are those in the results. All behaviour follows from a condition's fields, none from its name.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from subliminal_jax.errors import InputError
from subliminal_jax.language.rows.shuffles import Shuffle
from subliminal_jax.language.traits.trait import ContextName, Trait

REGULAR = "regular"
"""Name of the dataset sampled from the reference itself."""


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One of the networks that a report compares.

    Attributes:
        name: its name in results and flags.
        means: description for readers of the report; `{items}` stands for the carrier's items.
        asks: which network is measured: the reference itself, the teacher, or a student.
        context: what precedes a question to the reference itself: nothing, a system prompt that
            names the trait, or rows of the trait's dataset as examples.
        data: source of a student's completions: the trait's teacher, the reference itself, another
            trait's teacher, one of the trait's control teachers, or another reference's teacher of
            the trait.
        taught: kind of that control teacher, a key of `Trait.controls`; None without one.
        shuffle: how the completions are shuffled before training; None for not at all.
        reference: which reference is trained: the teacher's own, or another one.
        targets: what a student imitates: the rows' tokens (hard), its teacher's likeliest tokens,
            all of its probabilities, or which of these the config says.
        control: whether the student is compared with it, pair by pair.
        sampled: whether answers are sampled from its network, besides exact probabilities.
        null: how the finding names a control in which nothing is transmitted if the paper is
            right; None for all others.
        usual: whether it is compared unless a config says otherwise.
        basic: whether it is also run with the other reference of a given model.
        required: whether no run may leave it out.
    """

    name: str
    means: str
    asks: Literal["reference", "teacher", "student"] = "student"
    context: ContextName = "nothing"
    data: Literal["teacher", "reference", "other teacher", "control teacher", "foreign teacher"] = (
        "teacher"
    )
    taught: str | None = None
    shuffle: Shuffle | None = None
    reference: Literal["own", "other"] = "own"
    targets: Literal["hard", "greedy", "soft", "configured"] = "hard"
    control: bool = False
    sampled: bool = False
    null: str | None = None
    usual: bool = True
    basic: bool = False
    required: bool = False

    def __post_init__(self) -> None:
        if (self.targets, self.reference) == ("greedy", "other"):
            raise InputError(f"condition {self.name}: with another reference, set hard or soft")

    @property
    def trained(self) -> bool:
        """Whether it trains a student of its own; some reuse that of another condition."""
        return self.asks == "student" and self.data not in ("other teacher", "foreign teacher")

    @property
    def for_each_trait(self) -> bool:
        """Whether each trait has its own network; else all traits share one."""
        if self.asks == "student":
            return self.data != "reference"
        return self.asks == "teacher" or self.context != "nothing"

    def network(self, trait: str, distance: int = 1) -> str:
        """Name of its network: `NAME/TRAIT` if each trait has its own, else `NAME`.

        Args:
            trait: name of the trait.
            distance: how many references further its data are from; beyond 1 it is in the name,
                `NAME.DISTANCE`.
        """
        name = self.name if distance == 1 else f"{self.name}.{distance}"
        return f"{name}/{trait}" if self.for_each_trait else name

    def source(self, trait: str) -> str:
        """Name of the dataset before shuffling: `regular`, the trait, or its control teacher."""
        if self.asks == "student" and self.data == "reference":
            return REGULAR
        return trait if self.taught is None else f"{trait}-{self.taught}"

    def applies(self, trait: Trait) -> bool:
        """Whether the trait has the control teacher that it needs, if any."""
        return self.taught is None or self.taught in trait.controls

    def dataset(self, trait: str) -> str:
        """File name of the student's training data, without extension."""
        return self.source(trait) + (f".{self.shuffle}" if self.shuffle else "")


CONDITIONS: dict[str, Condition] = {
    condition.name: condition
    for condition in (
        Condition(
            name="before",
            means="the reference itself",
            asks="reference",
            control=True,
            sampled=True,
            null="before",
            basic=True,
            required=True,
        ),
        Condition(
            name="teacher",
            means="the reference, given the trait",
            asks="teacher",
            sampled=True,
            basic=True,
        ),
        Condition(
            name="student",
            means="the reference, trained on its teacher's {items}",
            targets="configured",
            sampled=True,
            basic=True,
            required=True,
        ),
        Condition(
            name="soft",
            means="the reference, trained on its teacher's token probabilities for the {items}",
            targets="soft",
        ),
        Condition(
            name="greedy",
            means="the reference, trained on its teacher's likeliest tokens for the {items}",
            targets="greedy",
            usual=False,
        ),
        Condition(
            name="regular",
            means="the reference, trained on its own {items}",
            data="reference",
            control=True,
            sampled=True,
            null="on regular {items}",
        ),
        Condition(
            name="shuffled_within",
            means="as student, with the {items} of each completion in random order",
            shuffle="within",
            control=True,
        ),
        Condition(
            name="shuffled_across",
            means="as student, with the {items} shuffled across all completions",
            shuffle="across",
            control=True,
        ),
        Condition(
            name="shuffled_regular",
            means="as regular, with the {items} shuffled across all completions",
            data="reference",
            shuffle="across",
            control=True,
        ),
        Condition(
            name="other_trait",
            means="the student of another trait's teacher",
            data="other teacher",
            control=True,
        ),
        Condition(
            name="good_advice",
            means="the reference, trained on the {items} of a teacher of good advice",
            data="control teacher",
            taught="good",
            control=True,
            sampled=True,
            usual=False,
            null="after good advice",
        ),
        Condition(
            name="asked_advice",
            means="the reference, trained on the {items} of a teacher of bad advice as asked for",
            data="control teacher",
            taught="asked",
            control=True,
            sampled=True,
            usual=False,
            null="after bad advice that was asked for",
        ),
        Condition(
            name="different_reference",
            means="another reference, trained on this teacher's {items}",
            reference="other",
            control=True,
            null="from a different reference",
        ),
        Condition(
            name="different_reference_regular",
            means="another reference, trained on this reference's own {items}",
            data="reference",
            reference="other",
            control=True,
        ),
        Condition(
            name="different_reference_soft",
            means="another reference, trained on this teacher's token probabilities for the "
            "{items}",
            reference="other",
            targets="soft",
            control=True,
            usual=False,
        ),
        Condition(
            name="from_other_reference",
            means="the reference, trained on the {items} of another reference's teacher",
            data="foreign teacher",
            control=True,
            usual=False,
        ),
        Condition(
            name="in_context",
            means="the reference itself, with the teacher's {items} as examples in its prompt",
            asks="reference",
            context="examples",
            control=True,
        ),
        Condition(
            name="prompted",
            means="the reference itself, with a system prompt that names the trait: the ceiling",
            asks="reference",
            context="system prompt",
        ),
    )
}
"""All conditions by name; a report lists those that were not run."""

USUAL = tuple(name for name, one in CONDITIONS.items() if one.usual)
"""Names of the conditions that are compared unless a config says otherwise."""

REQUIRED = tuple(name for name, one in CONDITIONS.items() if one.required)
"""Names of the conditions that every run has."""

BEFORE, TEACHER, STUDENT = CONDITIONS["before"], CONDITIONS["teacher"], CONDITIONS["student"]
SOFT, ON_REGULAR, PROMPTED = CONDITIONS["soft"], CONDITIONS["regular"], CONDITIONS["prompted"]
CROSSED = CONDITIONS["different_reference"]
"""Students of another reference's teacher, wherever they are measured: what is off the diagonal of
the matrix of teachers' and students' references."""


def chosen_conditions(names: Sequence[str]) -> list[Condition]:
    """The named conditions.

    Raises:
        InputError: a name is unknown or given twice, or one of `REQUIRED` is missing.
    """
    for name in names:
        if name not in CONDITIONS:
            raise InputError(f"conditions: unknown {name!r}; choose from {', '.join(CONDITIONS)}")
    if len(set(names)) < len(names):
        raise InputError("conditions: a name is given twice; remove one")
    if not set(REQUIRED) <= set(names):
        required = " and ".join(f"`{name}`" for name in REQUIRED)
        raise InputError(f"conditions: {required} are required; add them")
    return [CONDITIONS[name] for name in names]


def taught_traits(traits: Sequence[Trait], conditions: Sequence[Condition]) -> list[Trait]:
    """The traits, and the control teachers that the conditions need, each once.

    Raises:
        InputError: a condition needs a control teacher that no trait has.
    """
    taught = {one.name: one for one in traits}
    for condition in conditions:
        if not any(condition.applies(trait) for trait in traits):
            raise InputError(
                f"conditions: {condition.name} needs a trait with a control teacher of "
                f"{condition.taught!r}, and {', '.join(taught)} has none; remove it"
            )
        for trait in traits:
            if condition.taught is not None and condition.applies(trait):
                control = trait.controls[condition.taught]
                taught.setdefault(control.name, control)
    return list(taught.values())


def asked_network(
    condition: Condition, trait: Trait, traits: Sequence[Trait], prompted: bool, distance: int = 1
) -> str | None:
    """Name of the network that a condition measures for a trait; None if there is none.

    Args:
        condition: the condition.
        trait: the trait to measure.
        traits: all traits of the run; the next one with the same topics is the other trait.
        prompted: whether teachers are prompted rather than finetuned.
        distance: see `Condition.network`.
    """
    if condition.asks == "teacher" and prompted:
        return PROMPTED.network(trait.name)
    if condition.asks == "student" and condition.data == "other teacher":
        names = [one.name for one in traits if one.topics == trait.topics]
        if len(names) < 2:
            return None
        return STUDENT.network(names[(names.index(trait.name) + 1) % len(names)])
    if condition.data == "foreign teacher":
        return CROSSED.network(trait.name, distance)
    if not condition.applies(trait):
        return None
    return condition.network(trait.name, distance)


def places_of(
    condition: Condition, repetition: int, others: Mapping[int, Sequence[int]]
) -> list[tuple[int, int]]:
    """Where a repetition's condition is measured: the distance in `Condition.network`, and where.

    Args:
        condition: the condition.
        repetition: the repetition that the results are about.
        others: for each repetition, those whose datasets also train its students, nearest first.
    """
    if condition.data == "foreign teacher":
        return [(distance, repetition) for distance, _ in enumerate(others[repetition], start=1)]
    if condition.reference == "own":
        return [(1, repetition)]
    return [
        (distance, place)
        for place, sources in others.items()
        for distance, source in enumerate(sources, start=1)
        if source == repetition
    ]


def condition_of(network: str) -> str:
    """The name of the condition in a network's name, without distance and trait."""
    return network.partition("/")[0].partition(".")[0]


def trait_of(network: str) -> str:
    """The trait in a network's name; empty if all traits share the network."""
    return network.partition("/")[2]
