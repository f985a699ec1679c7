"""Runs the phases of an MNIST experiment, each compiled once, block by block of members."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from subliminal_jax.data.images import ImageData
from subliminal_jax.errors import RunError
from subliminal_jax.execution.choose import member_execution
from subliminal_jax.execution.program import Program
from subliminal_jax.execution.protocol import Execution
from subliminal_jax.keys import root_key
from subliminal_jax.mnist.arms import Arm
from subliminal_jax.mnist.config import MnistConfig, schedule
from subliminal_jax.mnist.masks import read_mask
from subliminal_jax.mnist.memory import check_memory
from subliminal_jax.mnist.pairing import blocks
from subliminal_jax.mnist.phases import Dials, Images, Members, Phases
from subliminal_jax.models import mlp
from subliminal_jax.models.product_rate import product_rates
from subliminal_jax.runs.precision import Decision, decided
from subliminal_jax.runs.shared_run import SharedRun
from subliminal_jax.train import TrainState

TEST_BATCH = 1000
PHASES = (
    *("reference", "begin_teacher", "teach"),
    *("label", "begin_students", "distill", "evaluate"),
)
NO_LABEL = -1  # label of the images that pad the last test batch; no network predicts it
TIMED = 4
"""Members whose products are timed together to choose a precision, at most."""

C = TypeVar("C", bound=MnistConfig)


def with_precision(
    config: C, data: ImageData, arms: int, directory: SharedRun
) -> tuple[C, Decision]:
    """Return the config with its precision, and the decision, whose facts belong to the results.

    Args:
        config: the experiment's.
        data: the images.
        arms: students per member.
        directory: the run's, which keeps the choice.

    Raises:
        InputError: the recorded choice is damaged, or there are too few devices or too little
            memory, before anything is timed.
    """
    network_and_execution(config, data, arms)
    rows, pixels = schedule(config, data.name).batch, data.train_images.shape[1]
    measure = partial(product_rates, rows, pixels, config.width, min(config.members, TIMED))
    decision = decided(directory, config.precision, measure)
    return replace(config, precision=decision.precision), decision


def network_and_execution(
    config: MnistConfig, data: ImageData, arms: int
) -> tuple[mlp.MlpConfig, Execution]:
    """Return the network and the execution of an experiment that fits into memory.

    Args:
        config: the experiment's; float32 stands for a precision that is still open.
        data: the images.
        arms: students per member.

    Raises:
        InputError: there are too few devices or too little memory.
    """
    network = mlp.MlpConfig(
        inputs=data.train_images.shape[1],
        hidden=(config.width,) * config.depth,
        aux=config.aux,
        bias_scale=1.0,  # unit scale, as the weights; the dials scale them
        precision="float32" if config.precision == "auto" else config.precision,
    )
    execution = member_execution(
        config.execution, config.members, config.devices, config.members_at_once
    )
    largest = blocks(config.members, config.block, execution.devices)[0]
    settings = schedule(config, data.name)
    check_memory(network, settings, execution.devices, arms=arms, members=len(largest))
    return network, execution


class Students(NamedTuple):
    """Every arm's student of every member, and how far it started from its teacher."""

    states: TrainState
    init_distance: Float[np.ndarray, "m a"]


class Outcome(NamedTuple):
    """What was measured on a block of members.

    Attributes:
        member: indices of the members, `[m]`.
        accuracy: test accuracy of the reference, the teacher and every arm, `[m, 2 + A]`.
        init_distance: every arm's distance to its teacher's initialisation, `[m, A]`.
    """

    member: Int[np.ndarray, " m"]
    accuracy: Float[np.ndarray, "m a"]
    init_distance: Float[np.ndarray, "m a"]


class Study:
    """One MNIST experiment: its data, its arms, its programs.

    Each method is one phase for a block of members, all members and arms mapped in one compiled
    program. A study keeps only the losses of a block; the next block replaces them.
    """

    def __init__(
        self,
        config: MnistConfig,
        data: ImageData,
        arms: Mapping[str, Arm],
        masks: Sequence[Path] = (),
    ):
        """Prepare the data and the programs.

        Args:
            config: the experiment's.
            data: the images.
            arms: the students.
            masks: files of the masks that relations name by their path.

        Raises:
            InputError: a mask is refused, or there are too few devices or too little memory.
        """
        self.config, self.arms = config, arms
        self.schedule = schedule(config, data.name)
        self.on_epochs: Callable[[int, str], None] = lambda epochs, what: None
        self.network, self.execution = network_and_execution(config, data, len(arms))
        like = jax.eval_shape(partial(mlp.init, self.network), root_key(0))
        loaded = {str(path): read_mask(path, like) for path in masks}
        phases = Phases(config, self.schedule, self.network, data.white, arms, loaded)
        self.phases = phases
        self.programs = {name: Program(getattr(phases, name), self.execution) for name in PHASES}
        self.train = self.execution.share(Images(data.train_images, data.train_labels))
        self._test = self.execution.share(_in_batches(data.test_images, data.test_labels))
        self._test_size = len(data.test_labels)
        self._losses: dict[str, list[Float[np.ndarray, " m"]]] = {}

    def blocks(self) -> list[Members]:
        """Return the members in equal blocks, each with its partner and the config's dials."""
        config = self.config
        members = blocks(config.members, config.block, self.execution.devices)
        dials = Dials.of(config)
        return [self.members(block, [dials] * len(block)) for block in members]

    def members(self, members: Int[np.ndarray, " m"], dials: Sequence[Dials]) -> Members:
        """Return these members, each with its partner and its own dials."""
        partners = np.asarray(self.config.pairs, np.int32)
        columns = zip(*dials, strict=True)
        each = Dials(*(np.asarray(column, np.float32) for column in columns))
        return Members(members.astype(np.int32), partners[members], each)

    def train_teachers(self, block: Members) -> tuple[Any, Any]:
        """Return the reference and the teacher of each member.

        The reference is a random initialisation; the teacher is the reference after
        cross-entropy on its class logits, on real digits.
        """
        *_, (_, reference, teacher) = self.taught(block)
        return reference, teacher

    def taught(self, block: Members) -> Iterator[tuple[int, Any, Any]]:
        """Yield epoch, reference and teacher after each epoch of teaching.

        The next epoch consumes the teacher's buffers.
        """
        placed = self.execution.split(block)
        reference, _ = self.programs["reference"](None, (placed.member, placed.dials), None)
        state, _ = self.programs["begin_teacher"](None, reference, None)
        for epoch in range(self.schedule.teacher_epochs):
            state, losses = self.programs["teach"](state, placed, (self.train, jnp.int32(epoch)))
            self.record(losses[..., None], epoch, ["teacher"], block)
            self.on_epochs(1, "teachers")
            yield epoch + 1, reference, state.params

    def label_noise(self, block: Members, teacher: Any) -> Float[Array, "m n k"]:
        """Return every teacher's logits on all noise images of its member."""
        member = (self.execution.split(block), teacher)
        logits, _ = self.programs["label"](None, member, self.train)
        return logits

    def distill(
        self, block: Members, reference: Any, teacher_logits: Float[Array, "m n k"]
    ) -> Students:
        """Return every arm's student, distilled from its own initialisation."""
        *_, (_, students) = self.distilled(block, reference, teacher_logits)
        return students

    def distilled(
        self, block: Members, reference: Any, teacher_logits: Float[Array, "m n k"]
    ) -> Iterator[tuple[int, Students]]:
        """Yield epoch and every arm's student after each epoch of distillation, from 0, its start.

        The next epoch consumes the students' buffers.
        """
        placed = self.execution.split(block)
        others, _ = self.programs["reference"](None, (placed.partner, placed.dials), None)
        begin = (placed, reference, others)
        states, distances = self.programs["begin_students"](None, begin, None)
        distances = self.execution.fetch(distances)
        yield 0, Students(states, distances)
        for epoch in range(self.schedule.student_epochs):
            states, losses = self.programs["distill"](
                states, (placed, teacher_logits), (self.train, jnp.int32(epoch))
            )
            self.record(losses, epoch, list(self.arms), block)
            self.on_epochs(len(self.arms), "students")
            yield epoch + 1, Students(states, distances)

    def evaluate(self, block: Members, reference: Any, teacher: Any, students: Students) -> Outcome:
        """Return the test accuracy of the reference, the teacher and every arm's student."""
        networks = (reference, teacher, students.states.params)
        _, readings = self.programs["evaluate"](None, networks, self._test)
        correct, finite = self.execution.fetch(readings)
        for member, network in np.argwhere(~finite)[:1]:
            raise RunError(
                f"the logits of {['reference', 'teacher', *self.arms][network]} are not finite "
                f"after training in member {block.member[member]}; "
                "a smaller --learning-rate usually helps"
            )
        accuracy = correct / self._test_size
        return Outcome(block.member, accuracy, students.init_distance)

    def epochs_per_block(self) -> int:
        """Return the epochs of all networks of a block: the unit of progress."""
        return self.schedule.teacher_epochs + self.schedule.student_epochs * len(self.arms)

    def seconds(self) -> dict[str, float]:
        """Return the time spent in each phase so far, without compilation."""
        spent = {name: program.seconds for name, program in self.programs.items()}
        spent["teach"] += spent.pop("begin_teacher")
        spent["distill"] += spent.pop("begin_students")
        return spent

    def compile_seconds(self) -> float:
        """Return the time spent compiling so far."""
        return sum(program.compile_seconds for program in self.programs.values())

    def record(self, losses: Array, epoch: int, networks: list[str], block: Members) -> None:
        """Keep the mean of an epoch's losses, for `epoch_losses`.

        Args:
            losses: of every member, step and network, `[m, steps, n]`, as an execution has them.
            epoch: from 0; at 0 earlier losses of these networks are forgotten.
            networks: their names.
            block: the members.

        Raises:
            RunError: a loss is not finite; names step, network and member of the first.
        """
        values = self.execution.fetch(losses)
        bad = np.argwhere(~np.isfinite(values.transpose(1, 0, 2)))
        if len(bad):
            step, member, network = bad[0]
            raise RunError(
                f"the loss of {networks[network]} is {values[member, step, network]} at step "
                f"{epoch * values.shape[1] + step} in member {block.member[member]}; "
                "a smaller --learning-rate usually helps"
            )
        means = values.astype(np.float64).mean(axis=1)
        for name, mean in zip(networks, means.T, strict=True):
            self._losses[name] = [*(self._losses.get(name, []) if epoch else []), mean]

    def epoch_losses(self, place: int) -> dict[str, list[float]]:
        """Return the mean loss of each epoch so far, of every network of a member of the block.

        Args:
            place: index of the member in the block.
        """
        return {
            name: [float(mean[place]) for mean in epochs] for name, epochs in self._losses.items()
        }


def _in_batches(images: np.ndarray, labels: np.ndarray) -> Images:
    """Return test images `[batches, B, D]`, padded with images that do not count."""
    fill = -len(labels) % TEST_BATCH
    images = np.pad(images, ((0, fill), (0, 0)))
    labels = np.pad(labels, (0, fill), constant_values=NO_LABEL)
    return Images(images.reshape(-1, TEST_BATCH, images.shape[1]), labels.reshape(-1, TEST_BATCH))
