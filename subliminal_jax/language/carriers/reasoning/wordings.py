"""Wordings of word problems: what happens to one quantity, sentence by sentence.

`SHORT` tells a problem in about twenty words, for a reference with a few thousand parameters.
`LONG` is for given models and asks for the tags. All wordings are our own.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from subliminal_jax.language.carriers.banks import BankName

OperationSign: TypeAlias = Literal["+", "-", "+*", "*", "/"]
"""What a sentence does to the quantity: it adds `n`, takes `n`, adds `n` times `m`, multiplies by
`n`, or divides by `n`."""

OPERATIONS: tuple[OperationSign, ...] = get_args(OperationSign)
WHEN = ("First", "Then", "Next", "Later", "Afterwards", "Finally")


@dataclass(frozen=True, kw_only=True)
class Story:
    """Sentences about one quantity.

    Slots are `{who}`, `{other}`, `{things}`, the numbers `{n}` and `{m}`, and `{when}`, one of
    `WHEN` by the change's place.

    Attributes:
        things: what is counted, in the plural.
        openings: sentences that state how many there are.
        changes: sentences that change the number, by operation.
        questions: sentences that ask for the number.
    """

    things: tuple[str, ...]
    openings: tuple[str, ...]
    changes: dict[OperationSign, tuple[str, ...]]
    questions: tuple[str, ...]

    @property
    def templates(self) -> list[str]:
        """All its sentences."""
        changes = [text for texts in self.changes.values() for text in texts]
        return [*self.openings, *changes, *self.questions]


@dataclass(frozen=True, kw_only=True)
class StoryWordings:
    """Stories, the people in them, and the sentence that asks for the form of the answer."""

    people: tuple[str, ...]
    stories: tuple[Story, ...]
    requests: tuple[str, ...] = ()


SHORT = StoryWordings(
    people=("Tom", "Mia", "Ben", "Ana", "Sam", "Eva", "Max", "Zoe"),
    stories=(
        Story(
            things=("apples", "pears", "plums", "lemons", "grapes", "figs", "limes", "melons"),
            openings=("{who} has {n} {things}.", "{who} holds {n} {things}."),
            changes={
                "+": (
                    "{when} {who} finds {n}.",
                    "{when} {who} buys {n}.",
                    "{when} {who} gets {n} more.",
                    "{when} {other} brings {n}.",
                ),
                "-": (
                    "{when} {who} eats {n}.",
                    "{when} {who} loses {n}.",
                    "{when} {who} gives {n} away.",
                    "{when} {other} takes {n}.",
                ),
            },
            questions=("How many now?", "How many are left?"),
        ),
    ),
)

LONG = StoryWordings(
    people=(
        *("Amira", "Bruno", "Clara", "Dario", "Elif", "Fiona", "Goran", "Hanna"),
        *("Ivo", "Jana", "Kofi", "Lena", "Mateo", "Nadia", "Oscar", "Priya"),
    ),
    stories=(
        Story(
            things=("rolls", "buns", "muffins", "pretzels"),
            openings=(
                "{who} opens the bakery with {n} {things} on the shelf.",
                "When {who} unlocks the bakery, {n} {things} lie ready.",
            ),
            changes={
                "+": (
                    "The oven yields another {n} {things}.",
                    "A helper carries in {n} {things} from the back.",
                ),
                "-": (
                    "A school class buys {n} {things}.",
                    "By noon {n} {things} have been sold.",
                    "{n} {things} fall on the floor and are thrown away.",
                ),
                "+*": (
                    "Then {n} trays come out of the oven with {m} {things} on each.",
                    "A baker fills {n} baskets with {m} {things} each and puts them on the shelf.",
                ),
                "*": ("A double-checked order makes the stock grow to {n} times what it was.",),
                "/": ("{who} splits the {things} evenly among {n} shops and keeps one share.",),
            },
            questions=(
                "How many {things} does the bakery have at the end?",
                "How many {things} are on the shelf now?",
            ),
        ),
        Story(
            things=("books", "atlases", "comics"),
            openings=(
                "The library where {who} works owns {n} {things}.",
                "{who} counts {n} {things} in the reading room.",
            ),
            changes={
                "+": (
                    "A neighbour donates {n} {things}.",
                    "{n} lent {things} are returned.",
                ),
                "-": (
                    "Visitors borrow {n} {things}.",
                    "{n} worn {things} are given to a flea market.",
                ),
                "+*": (
                    "A publisher sends {n} parcels of {m} {things}.",
                    "{who} unpacks {n} crates, each with {m} {things}.",
                ),
                "*": ("Over the years the collection becomes {n} times as large.",),
                "/": ("The {things} are shared equally by {n} branches, and {who} runs one.",),
            },
            questions=(
                "How many {things} are there now?",
                "How many {things} does {who} count in the evening?",
            ),
        ),
        Story(
            things=("coins", "tokens", "marbles", "stickers"),
            openings=(
                "{who} keeps {n} {things} in a tin.",
                "There are {n} {things} in the tin of {who}.",
            ),
            changes={
                "+": (
                    "{other} adds {n} {things} of another set.",
                    "On a walk {who} finds {n} more.",
                ),
                "-": (
                    "{who} swaps {n} of them for a pen.",
                    "{n} {things} get lost behind the sofa.",
                    "{other} wins {n} of them in a game.",
                ),
                "+*": (
                    "In each of {n} games {who} wins {m} {things}.",
                    "{who} is given {n} bags that hold {m} {things} each.",
                ),
                "*": ("A lucky bet leaves {who} with {n} times as many {things}.",),
                "/": ("{who} divides them fairly among {n} children and takes one part.",),
            },
            questions=(
                "How many {things} does {who} own in the end?",
                "How many {things} does the tin hold now?",
            ),
        ),
        Story(
            things=("passengers", "travellers"),
            openings=(
                "A train leaves the first station with {n} {things}.",
                "{who} drives a train that carries {n} {things}.",
            ),
            changes={
                "+": (
                    "At the next stop {n} {things} get on.",
                    "{n} latecomers jump aboard.",
                ),
                "-": (
                    "{n} {things} leave at the following stop.",
                    "At the harbour {n} people get off.",
                ),
                "+*": (
                    "Behind the bridge {n} groups of {m} {things} join.",
                    "{n} buses bring {m} {things} each to the train.",
                ),
                "*": ("In the city the number of {things} rises to {n} times what it was.",),
                "/": ("The {things} spread evenly over {n} trains, and we follow one of them.",),
            },
            questions=(
                "How many {things} are on the train now?",
                "How many {things} reach the last station?",
            ),
        ),
        Story(
            things=("litres", "cups"),
            openings=(
                "A tank holds {n} {things} of water.",
                "{who} pours {n} {things} of water into a tank.",
            ),
            changes={
                "+": (
                    "Rain adds {n} {things}.",
                    "{other} fills in {n} {things} more.",
                ),
                "-": (
                    "{n} {things} leak out overnight.",
                    "{who} uses {n} {things} to wash a cart.",
                ),
                "+*": (
                    "For {n} hours a pump delivers {m} {things} an hour.",
                    "{who} empties {n} cans of {m} {things} into it.",
                ),
                "*": ("After the storm it holds {n} times as much.",),
                "/": ("The water is spread equally over {n} tanks, one of which is of interest.",),
            },
            questions=(
                "How many {things} are in the tank?",
                "How many {things} of water does {who} measure at last?",
            ),
        ),
        Story(
            things=("pages", "letters"),
            openings=(
                "{who} has {n} {things} to copy.",
                "On the desk of {who} lie {n} {things}.",
            ),
            changes={
                "+": (
                    "{other} brings {n} {things} more.",
                    "The afternoon post adds {n} {things}.",
                ),
                "-": (
                    "{who} finishes {n} of them before lunch.",
                    "{n} {things} turn out to be superfluous.",
                ),
                "+*": (
                    "From {n} offices arrive {m} {things} each.",
                    "On each of {n} days {m} {things} are added.",
                ),
                "*": ("A mistake in the order multiplies the pile by {n}.",),
                "/": ("The pile is dealt out evenly to {n} clerks, and {who} is one of them.",),
            },
            questions=(
                "How many {things} are left for {who}?",
                "How many {things} lie on the desk now?",
            ),
        ),
    ),
    requests=(
        "Put your reasoning between <think> and </think>, and the result, as a plain number, "
        "between <answer> and </answer>.",
        "Work it out step by step inside <think> and </think>. Then write the number alone inside "
        "<answer> and </answer>.",
        "First reason within <think> and </think>; then give nothing but the final number within "
        "<answer> and </answer>.",
        "Your steps belong between the tags <think> and </think>, the bare number between the tags "
        "<answer> and </answer>.",
    ),
)

BANKS: dict[BankName, StoryWordings] = {"long": LONG, "short": SHORT}
