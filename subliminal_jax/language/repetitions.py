"""The repetitions of an experiment: their seeds, and what they compare."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from subliminal_jax.language.conditions import Condition


def unit_of(model: str | None) -> str:
    """What results count, in the singular: `reference`; of a given model `seed`.

    Tiny references are pretrained one by one, so each is a unit. The units of a given model are the
    seeds of teacher, rows and students.

    Args:
        model: the given model; None for tiny references.
    """
    return "reference" if model is None else "seed"


def units_text(count: int, model: str | None) -> str:
    """The number of units: `6 references (tiny)`, `3 seeds of one model (smollm2)`."""
    units = f"{count} {unit_of(model)}{'s' * (count > 1)}"
    return f"{units} (tiny)" if model is None else f"{units} of one model ({model})"


@dataclass(frozen=True, kw_only=True)
class Repetitions:
    """The repetitions of an experiment, each an index.

    Attributes:
        count: those that results are about.
        first_seed: seed of the first one.
        given: whether all have one given reference, not each its own tiny one.
        another: whether as many more follow, of the other reference (`reference.other`).
        crossed: whether students train on the rows of all other references, not of the next alone.
        conditions: conditions to compare.
    """

    count: int
    first_seed: int
    given: bool
    another: bool
    crossed: bool
    conditions: Sequence[Condition]

    @property
    def own(self) -> range:
        """Those that results are about."""
        return range(self.count)

    @property
    def every(self) -> range:
        """These, and if another reference is set as many more, of that one."""
        return range(self.count * (2 if self.another else 1))

    def seed(self, repetition: int) -> int:
        """Seed of a repetition; runs with nearby seeds share some repetitions' seeds."""
        return self.first_seed + repetition % self.count

    def label(self, repetition: int) -> str:
        """Name of a repetition in results: its seed, marked if it has the other reference."""
        return f"{self.seed(repetition)}{'' if repetition in self.own else ' other'}"

    def compared(self, repetition: int) -> list[Condition]:
        """The conditions to compare; few of them with the other reference of a given model."""
        if repetition in self.own:
            return list(self.conditions)
        return [one for one in self.conditions if one.basic or one.reference == "other"]

    @cached_property
    def others(self) -> dict[int, list[int]]:
        """For each repetition, those whose datasets also train its students, the next one first."""
        return {repetition: self._others(repetition) for repetition in self.every}

    def _others(self, repetition: int) -> list[int]:
        if self.given:  # the other reference's repetitions follow
            return [(repetition + self.count) % (2 * self.count)] if self.another else []
        most = self.count if self.crossed else min(2, self.count)
        return [(repetition + step) % self.count for step in range(1, most)]
