"""Runs a sweep: cells of equal shapes share a program, cells of equal teachers also the teacher.

Settings that change no shape (`Dials`) are mapped like members. Cells that differ only in their
students' settings are arms of one teacher. Cells that differ only in epochs are read from one
training run, after the epochs that each asks for. All networks have the auxiliary logits of the
widest cell; in a narrower cell no loss, gradient or accuracy depends on the surplus columns, so its
results are those of a network without them.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from subliminal_jax.data.images import ImageData
from subliminal_jax.errors import InputError
from subliminal_jax.mnist.arms import PAPER_ARMS, Arm
from subliminal_jax.mnist.config import resolve
from subliminal_jax.mnist.pairing import blocks
from subliminal_jax.mnist.phases import Dials
from subliminal_jax.mnist.relations import Perturbed, Relation, Same, SharedOutputs
from subliminal_jax.mnist.study import Outcome, Study
from subliminal_jax.mnist.sweeps.config import CONTROL, FIXED, Cell, SweepConfig
from subliminal_jax.mnist.sweeps.student_leaks import StudentLeaks
from subliminal_jax.runs.runner import Row
from subliminal_jax.theory.leak import Leak

_STUDENT_SETTINGS = ("aux", "loss", "temperature", "sigma", "shares", "student_epochs")
_STUDY_SETTINGS = ("noise", "noise_bits", "noise_images", "blur", "student_depth")
CLASSES = 10


class Spec(NamedTuple):
    """A cell's settings beyond those of its program and its dials.

    Attributes:
        teacher_epochs: epochs after which its teacher is distilled.
        study: the values of `_STUDY_SETTINGS`.
        students: the values of `_STUDENT_SETTINGS`.
        control: whether it has a student of another initialisation.
    """

    teacher_epochs: int
    study: tuple[Any, ...]
    students: tuple[Any, ...]
    control: bool


@dataclass(frozen=True)
class Reading:
    """Where a cell's students are found in a study.

    Attributes:
        spec: of the cell.
        epoch: epochs after which its students are evaluated.
        arms: by student, the index of its arm in the study.
    """

    spec: Spec
    epoch: int
    arms: dict[str, int]


@dataclass(frozen=True)
class Work:
    """Cells that run in one program: the same specs at every setting of the dials.

    Attributes:
        dials: the settings of the dials.
        names: for each setting of the dials, the cells' names by spec.
        branches: by the teacher's epochs: each study of its students, with its leak scores and the
            cells that are read from it.
    """

    dials: list[Dials]
    names: list[dict[Spec, str]]
    branches: dict[int, list[tuple[Study, StudentLeaks, list[Reading]]]]

    @property
    def teachers(self) -> Study:
        """The study that trains the teachers of all cells."""
        return next(iter(self.branches.values()))[0][0]

    def epochs(self) -> int:
        """Epochs of one member at one setting of the dials, summed over its networks."""
        studies = [study for branch in self.branches.values() for study, *_ in branch]
        students = sum(len(study.arms) * study.schedule.student_epochs for study in studies)
        return students + max(self.branches)


def plan(config: SweepConfig, cells: Sequence[Cell], data: ImageData) -> list[Work]:
    """Group cells that can share a program, and build the studies of each group.

    Raises:
        InputError: two cells are equal, or a cell does not fit into memory or on these devices.
    """
    with_control = _controls(config, cells)
    teachers: dict[tuple[Any, Dials], dict[Spec, Cell]] = {}
    for cell in cells:
        settled = replace(cell, config=resolve(cell.config, data.name))
        key = _program(settled.config), Dials.of(settled.config)
        spec = _spec(settled.config, cell.name in with_control)
        by_spec = teachers.setdefault(key, {})
        if spec in by_spec:
            raise InputError(f"cells {by_spec[spec].name} and {cell.name} are the same; drop one")
        by_spec[spec] = settled
    together: dict[Any, list[tuple[Dials, dict[Spec, Cell]]]] = {}
    for (program, dials), by_spec in teachers.items():
        together.setdefault((program, frozenset(by_spec)), []).append((dials, by_spec))
    return [_work(config, rows, data) for rows in together.values()]


def _controls(config: SweepConfig, cells: Sequence[Cell]) -> set[str]:
    chosen = {"all": cells, "ends": (cells[0], cells[-1]), "none": ()}[config.controls]
    return {cell.name for cell in chosen}


def _program(config: SweepConfig) -> tuple[Any, ...]:
    skip = {*FIXED, *_STUDENT_SETTINGS, *_STUDY_SETTINGS, *Dials._fields, "teacher_epochs"}
    return tuple((name, value) for name, value in sorted(vars(config).items()) if name not in skip)


def _spec(config: SweepConfig, control: bool) -> Spec:
    of = lambda names: tuple(getattr(config, name) for name in names)
    if config.teacher_epochs is None:
        raise ValueError("the config is not resolved")
    return Spec(config.teacher_epochs, of(_STUDY_SETTINGS), of(_STUDENT_SETTINGS), control)


def _work(config: SweepConfig, rows: list[tuple[Dials, dict[Spec, Cell]]], data: ImageData) -> Work:
    by_spec = rows[0][1]
    widest = max(cell.config.aux for cell in by_spec.values())
    longest = max(spec.teacher_epochs for spec in by_spec)
    branches: dict[int, list[tuple[Study, StudentLeaks, list[Reading]]]] = {}
    for epochs in sorted({spec.teacher_epochs for spec in by_spec}):
        studies: dict[tuple[Any, ...], list[tuple[Spec, Cell]]] = {}
        for spec, cell in by_spec.items():
            if spec.teacher_epochs == epochs:
                studies.setdefault(spec.study, []).append((spec, cell))
        branches[epochs] = [
            _study(config, group, widest, longest, data) for group in studies.values()
        ]
    names = [{spec: cell.name for spec, cell in cells.items()} for _, cells in rows]
    return Work([dials for dials, _ in rows], names, branches)


def _study(
    config: SweepConfig,
    cells: list[tuple[Spec, Cell]],
    widest: int,
    longest: int,
    data: ImageData,
) -> tuple[Study, StudentLeaks, list[Reading]]:
    arms: list[Arm] = []
    readings = []
    for spec, cell in cells:
        places: dict[str, int] = {}
        students: list[str] = list(config.students)
        if spec.control and CONTROL not in students:
            students.append(CONTROL)
        for student in students:
            arm = _arm(cell.config, student)
            if arm not in arms:  # cells that differ only in epochs share an arm
                arms.append(arm)
            places[student] = arms.index(arm)
        epoch = cell.config.student_epochs
        if epoch is None:
            raise ValueError("the config is not resolved")
        readings.append(Reading(spec, epoch, places))
    built = replace(
        cells[0][1].config,
        aux=widest,
        teacher_epochs=longest,
        student_epochs=max(reading.epoch for reading in readings),
    )
    try:
        study = Study(built, data, {str(place): arm for place, arm in enumerate(arms)})
    except InputError as error:
        raise InputError(f"cell {cells[0][1].name}: {error}") from error
    return study, StudentLeaks(study), readings


def _arm(config: SweepConfig, student: str) -> Arm:
    paper = PAPER_ARMS[student]
    relation: Relation = paper.relation
    outputs = {"heads": (0, CLASSES + config.aux), "class_head": (0, CLASSES)}
    outputs |= {"aux_head": (CLASSES, CLASSES + config.aux)}
    if relation == Same() and config.sigma:
        relation = Perturbed(sigma=config.sigma)
    elif relation == Same() and config.shares != "all":
        first, end = outputs[config.shares]
        relation = SharedOutputs(first=first, end=end)
    return Arm(
        relation=relation,
        logits=paper.logits,
        aux=config.aux,
        loss=config.loss,
        temperature=config.temperature,
    )


def epochs(config: SweepConfig, works: Sequence[Work]) -> int:
    """Epochs of a whole sweep, summed over members and networks: the unit of progress."""
    return sum(work.epochs() * len(work.dials) * config.members for work in works)


def pending(
    config: SweepConfig, work: Work, done: Callable[[str, int], bool]
) -> list[tuple[int, int]]:
    """Pairs of a dials index and a member of which at least one cell is not done."""
    return [
        (place, member)
        for place, names in enumerate(work.names)
        for member in range(config.members)
        if not all(done(name, member) for name in names.values())
    ]


def measure(
    config: SweepConfig,
    work: Work,
    done: Callable[[str, int], bool],
    advance: Callable[[int], None],
) -> Iterator[Row]:
    """Run the missing members of some cells; yields one row per cell and member.

    Args:
        config: of the sweep.
        work: the cells.
        done: whether a member of a named cell is done.
        advance: called with the number of epochs that have passed since its last call.
    """
    todo = pending(config, work, done)
    advance((len(work.dials) * config.members - len(todo)) * work.epochs())
    if not todo:
        return
    for chosen in blocks(len(todo), config.block, work.teachers.execution.devices):
        block = [todo[index] for index in chosen]
        for place, measured, reading in _run_block(work, block):
            name = work.names[block[place][0]][reading.spec]
            if not done(name, block[place][1]):
                yield _row(name, place, measured, reading)
        advance(len(set(block)) * work.epochs())


class _Measured(NamedTuple):
    """What was measured on a block of members in a cell; the losses are those of its epochs."""

    outcome: Outcome
    leaks: Leak
    losses: list[dict[str, list[float]]]


def _run_block(
    work: Work, dials_and_members: list[tuple[int, int]]
) -> Iterator[tuple[int, _Measured, Reading]]:
    """Train a block's teachers and the students of every study; yields index, results, cell."""
    members = np.array([member for _, member in dials_and_members])
    dials = [work.dials[place] for place, _ in dials_and_members]
    block = work.teachers.members(members, dials)
    for teacher_epochs, reference, teacher in work.teachers.taught(block):
        for study, leaks_of, readings in work.branches.get(teacher_epochs, []):
            logits = study.label_noise(block, teacher)
            distilled = study.distilled(block, reference, logits)
            leaks = leaks_of(block, next(distilled)[1], teacher, logits)
            for epoch, students in distilled:
                wanted = [reading for reading in readings if reading.epoch == epoch]
                if wanted:
                    outcome = study.evaluate(block, reference, teacher, students)
                    taught = [work.teachers.epoch_losses(i)["teacher"] for i in range(len(dials))]
                    losses = [
                        study.epoch_losses(i) | {"teacher": one} for i, one in enumerate(taught)
                    ]
                    measured = _Measured(outcome, leaks, losses)
                    yield from ((i, measured, r) for r in wanted for i in range(len(dials)))


def _row(name: str, place: int, measured: _Measured, reading: Reading) -> Row:
    outcome, leaks, losses = measured.outcome, measured.leaks, measured.losses[place]
    accuracy, distance = outcome.accuracy[place], outcome.init_distance[place]
    return {
        "cell": name,
        "member": int(outcome.member[place]),
        "accuracy": {"reference": float(accuracy[0]), "teacher": float(accuracy[1])}
        | {student: float(accuracy[2 + arm]) for student, arm in reading.arms.items()},
        "init_distance": {student: float(distance[arm]) for student, arm in reading.arms.items()},
        "leak": {
            student: {score: float(all_[place, arm]) for score, all_ in leaks._asdict().items()}
            for student, arm in reading.arms.items()
        },
        "losses": {"teacher": losses["teacher"]}
        | {student: losses[str(arm)] for student, arm in reading.arms.items()},
    }
