"""Step 1, the references of an experiment: each is loaded or pretrained once."""

from typing import Any

from subliminal_jax.execution.protocol import Execution
from subliminal_jax.language.reference import Reference, given_reference, other_reference
from subliminal_jax.language.repetitions import Repetitions
from subliminal_jax.language.settings import ReferenceConfig
from subliminal_jax.language.tiny.corpus import World
from subliminal_jax.language.tiny.reference import tiny_reference
from subliminal_jax.models.decoder.config import Compute


class References:
    """The reference of each repetition.

    Args:
        repetitions: the experiment's repetitions.
        settings: settings of the reference, given or tiny.
        world: what a tiny reference is pretrained on.
        compute: how a model is computed; a tiny one takes its precision alone.
        execution: devices that hold the references.
        save_seconds: seconds between two checkpoints of a pretraining.

    Attributes:
        repetitions: the experiment's repetitions.
    """

    def __init__(
        self,
        repetitions: Repetitions,
        settings: ReferenceConfig,
        world: World,
        compute: Compute,
        execution: Execution,
        save_seconds: float,
    ):
        self.repetitions, self._settings, self._world = repetitions, settings, world
        self._compute, self._execution, self._save_seconds = compute, execution, save_seconds
        self._loaded: dict[int, Reference] = {}

    def of(self, repetition: int) -> Reference:
        """The repetition's reference, pretrained here or given; loaded once."""
        repetitions = self.repetitions
        index = repetition // repetitions.count if repetitions.given else repetition
        if index not in self._loaded:
            self._loaded[index] = self._load(repetition)
        return self._loaded[index]

    def origin(self, repetition: int) -> dict[str, Any]:
        """What every artifact of a repetition is made from: its seed, and its reference."""
        reference = self.of(repetition)
        return {
            "seed": self.repetitions.seed(repetition),
            "reference": dict(reference.parts) or reference.digest,
        }

    def _load(self, repetition: int) -> Reference:
        settings, compute = self._settings, self._compute
        if settings.model is None:
            seed = self.repetitions.seed(repetition)
            return tiny_reference(settings, self._world, seed, compute.dtype, self._save_seconds)
        make = given_reference if repetition in self.repetitions.own else other_reference
        return make(settings.model, settings, self._execution, compute)
