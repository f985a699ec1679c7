"""The repetitions of an experiment: their seeds, their references, and what they compare."""

from subliminal_jax.execution.protocol import Execution
from subliminal_jax.language.conditions import Condition
from subliminal_jax.language.config import LmConfig
from subliminal_jax.language.reference import Reference, given_reference, other_reference
from subliminal_jax.language.tiny.reference import tiny_reference
from subliminal_jax.language.training.devices import compute_of


class Repetitions:
    """The repetitions of an experiment, each an index.

    Args:
        config: settings of the experiment, with its precision.
        execution: devices that hold the references.

    Attributes:
        own: those that results are about.
        every: these, and if `reference.other` is set as many more, of that other reference.
        others: for each repetition, those whose datasets also train its students, nearest first.
    """

    def __init__(self, config: LmConfig, execution: Execution):
        self._config, self._execution = config, execution
        self.own = range(config.references)
        self.every = range(config.references * (1 if config.reference.other is None else 2))
        self.others = {repetition: config.others(repetition) for repetition in self.every}
        self._references: dict[int, Reference] = {}

    def seed(self, repetition: int) -> int:
        """Seed of a repetition; runs with nearby seeds share some repetitions' seeds."""
        return self._config.seed + repetition % len(self.own)

    def label(self, repetition: int) -> str:
        """Name of a repetition in results: its seed, marked if it has the other reference."""
        return f"{self.seed(repetition)}{'' if repetition in self.own else ' other'}"

    def compared(self, repetition: int) -> list[Condition]:
        """The conditions to compare; few of them with the other reference of a given model."""
        every = self._config.compared
        if repetition in self.own:
            return every
        return [one for one in every if one.basic or one.reference == "other"]

    def reference(self, repetition: int) -> Reference:
        """The repetition's reference, pretrained here or given; loaded once."""
        given = self._config.reference.model is not None
        index = repetition // len(self.own) if given else repetition
        if index not in self._references:
            self._references[index] = self._load(repetition)
        return self._references[index]

    def _load(self, repetition: int) -> Reference:
        config, settings = self._config, self._config.reference
        if settings.model is None:
            return tiny_reference(
                settings,
                config.world,
                self.seed(repetition),
                config.fixed_precision,
                config.save_seconds,
            )
        make = given_reference if repetition in self.own else other_reference
        compute = compute_of(config.fixed_precision, config.attention, config.remat)
        return make(settings.model, settings, self._execution, compute)
