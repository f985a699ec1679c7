"""The detectors by name: what each is given, and what its result means."""

from dataclasses import dataclass
from typing import Literal

FEWEST = 8
"""Fewest sets of rows of each dataset that a detector is judged on."""


@dataclass(frozen=True, kw_only=True)
class Detector:
    """One way to search a dataset for a trait.

    Attributes:
        name: its name in results and flags.
        label: its name for a reader.
        means: what it is given and what its value means; `{items}` stands for the carrier's items.
        measure: the area under the ROC curve of its scores, or the accuracy of its choices. Either
            is .5 by chance, exactly: two datasets without a difference can be exchanged.
        needs_others: whether it learns from other traits' data.
        shown: whether a model is shown the rows as text; then there is a positive control, and the
            model's context limits their number.
        labelled: whether it learns from labelled rows of the teacher itself, which nobody has who
            searches a dataset for an unknown trait.
    """

    name: str
    label: str
    means: str
    measure: Literal["auc", "accuracy"] = "auc"
    needs_others: bool = False
    shown: bool = False
    labelled: bool = False


DETECTORS: dict[str, Detector] = {
    one.name: one
    for one in (
        Detector(
            name="in_context",
            shown=True,
            label="in context",
            means="The reference itself has the rows as earlier turns of its chat and is asked "
            "the trait's questions. Score: probability of the trait's answer among all answers.",
        ),
        Detector(
            name="prompted",
            shown=True,
            label="asked which",
            means="The reference itself is shown the {items} and asked what their writer "
            "answers to the trait's questions. Score: probability of the trait's answer among all "
            "answers.",
        ),
        Detector(
            name="pairs",
            shown=True,
            label="asked which of two",
            means="The reference itself is shown {items} of two teachers for the same prompts "
            "and asked which of the two has the trait, in both orders. Value: share of pairs in "
            "which the right one has the higher probability.",
            measure="accuracy",
        ),
        Detector(
            name="likelihood",
            label="told the trait",
            means="The reference itself scores the rows. Score: by how much its log probability "
            "of the completions rises if a system prompt gives it the trait.",
        ),
        Detector(
            name="ngrams_transfer",
            label="n-grams, other traits",
            means="Logistic regression on n-grams, trained to tell the other traits' teachers from "
            "the reference and tested on this trait's: whether a teacher with some trait can be "
            "recognised without labelled rows of its own. It is not told which trait.",
            needs_others=True,
        ),
        Detector(
            name="ngrams",
            label="n-grams, same teacher",
            means="The same, trained on labelled rows of the very teacher and tested on its "
            "answers to other prompts: the upper bound. A value above .5 says that the two "
            "distributions differ, as they must if a student is to learn from them. It does not "
            "say that the trait can be read: it takes labelled rows of this very teacher.",
            labelled=True,
        ),
    )
}
"""All detectors; those that know only the trait's name come first."""
AGAINST = {
    "reference": "the reference's own {items}",
    "other": "the {items} of another trait's teacher",
}
"""What a teacher's rows are told from."""
