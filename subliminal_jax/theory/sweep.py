"""A sweep: cells of one shape run in one program, and cells of one teacher share it.

Settings that change no shape (`Dials`) are mapped like members. Settings of the students alone make
arms of one teacher. Numbers of epochs are stations on one way. A network with fewer auxiliary
logits is the widest one of the sweep whose further columns take part in nothing: no loss, no
gradient, no reading touches them, so the cell is that of a network without them.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from subliminal_jax.data.images import ImageData
from subliminal_jax.errors import InputError
from subliminal_jax.mnist.arms import Arm
from subliminal_jax.mnist.config import resolve
from subliminal_jax.mnist.phases import Dials
from subliminal_jax.mnist.study import Outcome, Study
from subliminal_jax.pairing import blocks
from subliminal_jax.relations import Different, Perturbed, Relation, Same, SharedOutputs
from subliminal_jax.theory.foresight import Foresight
from subliminal_jax.theory.leak import Leak
from subliminal_jax.theory.sweep_config import FIXED, Cell, SweepConfig

OF_STUDENTS = ("aux", "loss", "temperature", "sigma", "shares", "student_epochs")
OF_STUDIES = ("noise", "noise_bits", "noise_images", "blur", "student_depth")
CLASSES = 10
CONTROL = "cross_model_aux"

Row = dict[str, Any]


class Spec(NamedTuple):
    """What a cell adds to its program and its dials.

    Attributes:
        teacher_epochs: which station of the teacher it distils.
        study: the values of `OF_STUDIES`.
        students: the values of `OF_STUDENTS`.
        control: whether it has a student of another initialisation.
    """

    teacher_epochs: int
    study: tuple[Any, ...]
    students: tuple[Any, ...]
    control: bool


@dataclass(frozen=True)
class Reading:
    """Where a cell's students are found.

    Attributes:
        spec: the cell's.
        epoch: after how many epochs of its students.
        arms: by student, its place among the study's arms.
    """

    spec: Spec
    epoch: int
    arms: dict[str, int]


@dataclass(frozen=True)
class Work:
    """Cells that run together: the same specs for every setting of the dials.

    Attributes:
        dials: the settings of the dials.
        names: by dials and spec, the cell's name.
        branches: by the teacher's station: a study, what it foresees, and what is read from it.
    """

    dials: list[Dials]
    names: list[dict[Spec, str]]
    branches: dict[int, list[tuple[Study, Foresight, list[Reading]]]]

    @property
    def teachers(self) -> Study:
        """The study that trains the teachers of all."""
        return next(iter(self.branches.values()))[0][0]

    def epochs(self) -> int:
        """Epochs of one member and setting of the dials, all networks counted."""
        studies = [study for branch in self.branches.values() for study, *_ in branch]
        students = sum(len(study.arms) * study.schedule.student_epochs for study in studies)
        return students + max(self.branches)


def plan(config: SweepConfig, cells: Sequence[Cell], data: ImageData) -> list[Work]:
    """Put cells that can run together together, and build everything that they need.

    Raises:
        InputError: a cell does not fit into memory, or cannot be run on these devices.
    """
    with_control = _controls(config, cells)
    teachers: dict[tuple[Any, Dials], dict[Spec, Cell]] = {}
    for cell in cells:
        settled = replace(cell, config=resolve(cell.config, data.name))
        key = _program(settled.config), _dials(settled.config)
        spec = _spec(settled.config, cell.name in with_control)
        found = teachers.setdefault(key, {})
        if spec in found:
            raise InputError(f"cells {found[spec].name} and {cell.name} are the same; drop one")
        found[spec] = settled
    together: dict[Any, list[tuple[Dials, dict[Spec, Cell]]]] = {}
    for (program, dials), found in teachers.items():
        together.setdefault((program, frozenset(found)), []).append((dials, found))
    return [_work(config, rows, data) for rows in together.values()]


def _controls(config: SweepConfig, cells: Sequence[Cell]) -> set[str]:
    chosen = {"all": cells, "ends": (cells[0], cells[-1]), "none": ()}[config.controls]
    return {cell.name for cell in chosen}


def _program(config: SweepConfig) -> tuple[Any, ...]:
    apart = {*FIXED, *OF_STUDENTS, *OF_STUDIES, *Dials._fields, "teacher_epochs"}
    return tuple((name, value) for name, value in sorted(vars(config).items()) if name not in apart)


def _dials(config: SweepConfig) -> Dials:
    return Dials(*(getattr(config, name) for name in Dials._fields))


def _spec(config: SweepConfig, control: bool) -> Spec:
    of = lambda names: tuple(getattr(config, name) for name in names)  # noqa: E731
    if config.teacher_epochs is None:
        raise ValueError("the config is not resolved")
    return Spec(config.teacher_epochs, of(OF_STUDIES), of(OF_STUDENTS), control)


def _work(config: SweepConfig, rows: list[tuple[Dials, dict[Spec, Cell]]], data: ImageData) -> Work:
    by_spec = rows[0][1]
    widest = max(cell.config.aux for cell in by_spec.values())
    longest = max(spec.teacher_epochs for spec in by_spec)
    branches: dict[int, list[tuple[Study, Foresight, list[Reading]]]] = {}
    for epochs in sorted({spec.teacher_epochs for spec in by_spec}):
        studies: dict[tuple[Any, ...], list[Cell]] = {}
        for spec, cell in by_spec.items():
            if spec.teacher_epochs == epochs:
                studies.setdefault(spec.study, []).append(cell)
        specs = {id(cell): spec for spec, cell in by_spec.items()}
        branches[epochs] = [
            _study(config, [(specs[id(cell)], cell) for cell in group], widest, longest, data)
            for group in studies.values()
        ]
    names = [{spec: cell.name for spec, cell in found.items()} for _, found in rows]
    return Work([dials for dials, _ in rows], names, branches)


def _study(
    config: SweepConfig,
    members: list[tuple[Spec, Cell]],
    widest: int,
    longest: int,
    data: ImageData,
) -> tuple[Study, Foresight, list[Reading]]:
    arms: list[Arm] = []
    readings = []
    for spec, cell in members:
        places: dict[str, int] = {}
        students: list[str] = list(config.students)
        if spec.control and CONTROL not in students:
            students.append(CONTROL)
        for student in students:
            arm = _arm(cell.config, student)
            if arm not in arms:  # cells that differ in their epochs alone have it in common
                arms.append(arm)
            places[student] = arms.index(arm)
        epoch = cell.config.student_epochs
        if epoch is None:
            raise ValueError("the config is not resolved")
        readings.append(Reading(spec, epoch, places))
    built = replace(
        members[0][1].config,
        aux=widest,
        teacher_epochs=longest,
        student_epochs=max(reading.epoch for reading in readings),
    )
    try:
        study = Study(built, data, {str(place): arm for place, arm in enumerate(arms)})
    except InputError as error:
        raise InputError(f"cell {members[0][1].name}: {error}") from error
    return study, Foresight(study), readings


def _arm(config: SweepConfig, student: str) -> Arm:
    relation: Relation = Same()
    outputs = {"heads": (0, CLASSES + config.aux), "class_head": (0, CLASSES)}
    outputs |= {"aux_head": (CLASSES, CLASSES + config.aux)}
    if student.startswith("cross_model"):
        relation = Different()
    elif config.sigma:
        relation = Perturbed(sigma=config.sigma)
    elif config.shares != "all":
        first, end = outputs[config.shares]
        relation = SharedOutputs(first=first, end=end)
    return Arm(
        relation=relation,
        logits="all" if student.endswith("_all") else "aux",
        aux=config.aux,
        loss=config.loss,
        temperature=config.temperature,
    )


def epochs(config: SweepConfig, works: Sequence[Work]) -> int:
    """Epochs that a whole sweep goes through, all networks counted: the unit of progress."""
    return sum(work.epochs() * len(work.dials) * config.members for work in works)


def pending(
    config: SweepConfig, work: Work, done: Callable[[str, int], bool]
) -> list[tuple[int, int]]:
    """Settings of the dials, by place, and members of which a cell is not done."""
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
    """Run what is not done of some cells; a row for every cell and member.

    Args:
        config: the sweep's.
        work: the cells.
        done: whether a cell's member is done.
        advance: told of every member's epochs that have gone by.
    """
    todo = pending(config, work, done)
    advance((len(work.dials) * config.members - len(todo)) * work.epochs())
    if not todo:
        return
    for chosen in blocks(len(todo), config.block, work.teachers.execution.devices):
        here = [todo[index] for index in chosen]
        for place, outcome, leaks, reading in _block(work, here):
            name = work.names[here[place][0]][reading.spec]
            if not done(name, here[place][1]):
                yield _row(name, place, outcome, leaks, reading)
        advance(len(set(here)) * work.epochs())


def _block(work: Work, here: list[tuple[int, int]]) -> Iterator[tuple[int, Outcome, Leak, Reading]]:
    """Teachers of these dials and members, and at their stations the students of every study."""
    members = np.array([member for _, member in here])
    block = work.teachers.pairs(members, [work.dials[place] for place, _ in here])
    for station, reference, teacher in work.teachers.taught(block):
        for study, foreseen, readings in work.branches.get(station, []):
            logits = study.label_noise(block, teacher)
            stations = study.distilled(block, reference, logits)
            leaks = foreseen(block, next(stations)[1], teacher, logits)
            for epoch, students in stations:
                wanted = [reading for reading in readings if reading.epoch == epoch]
                if wanted:
                    outcome = study.evaluate(block, reference, teacher, students)
                    yield from ((p, outcome, leaks, r) for r in wanted for p in range(len(here)))


def _row(name: str, place: int, outcome: Outcome, leaks: Leak, reading: Reading) -> Row:
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
    }
