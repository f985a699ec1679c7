"""Runs the alignment experiment; saves a row for every member as its block ends."""

import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from subliminal_jax import plotting
from subliminal_jax.config import described
from subliminal_jax.data.images import ImageData, load_images
from subliminal_jax.execution.program import Program
from subliminal_jax.mnist.alignment import features as representation
from subliminal_jax.mnist.alignment import results as results_of
from subliminal_jax.mnist.alignment.config import COURSES, AlignmentConfig
from subliminal_jax.mnist.alignment.results import NETWORKS
from subliminal_jax.mnist.alignment.students import SteeredStudents, Track
from subliminal_jax.mnist.arms import Arm
from subliminal_jax.mnist.config import resolve
from subliminal_jax.mnist.experiment import MEMBERS
from subliminal_jax.mnist.phases import Images, Members
from subliminal_jax.mnist.relations import Different, Same
from subliminal_jax.mnist.study import TEST_BATCH, Students, Study, with_precision
from subliminal_jax.progress import Progress
from subliminal_jax.report.image_results import FIGURE, image_page, image_text
from subliminal_jax.runs import runner
from subliminal_jax.runs.shared_run import SharedRun

CURVES = Track._fields
PROBES = tuple(f"the probe of {name}" for name in NETWORKS)
SHOWS = "Cosines of the two gradients step by step; below, the test accuracy of every network."


class Alignment:
    """A study that records and steers its students' steps, and probes their features."""

    def __init__(self, config: AlignmentConfig, data: ImageData):
        related = {"same": Same(), "different": Different()}
        arms = {name: Arm(relation=related[course.start]) for name, course in COURSES.items()}
        self.config, self.study = config, Study(config, data, arms)
        phases, execution = self.study.phases, self.study.execution
        members = {
            "students": SteeredStudents(phases, COURSES, config.trait_batch).epoch,
            "everyone": _everyone,
            "begin_probes": partial(representation.begin_probes, phases),
            "probe": partial(representation.probe_epoch, phases, config.probe_rate),
            "with_probes": partial(representation.with_probes, phases),
            "apart": _apart,
            "alike": partial(representation.similarities, phases),
        }
        self.programs = {name: Program(fn, execution) for name, fn in members.items()}
        some = Images(data.test_images[:TEST_BATCH], data.test_labels[:TEST_BATCH])
        self._some_test = execution.share(some)

    def epochs(self) -> int:
        """Return the epochs of a block: teacher, students, probes."""
        schedule, probes = self.study.schedule, self.config.probe_epochs * len(NETWORKS)
        return schedule.teacher_epochs + schedule.student_epochs * len(COURSES) + probes

    def rows(self, block: Members) -> list[dict[str, Any]]:
        """Measure a block; return a row per member."""
        study, programs, fetch = self.study, self.programs, self.study.execution.fetch
        reference, teacher = study.train_teachers(block)
        logits = study.label_noise(block, teacher)
        starts = next(study.distilled(block, reference, logits))[1]
        states, tracks = self._distil(block, starts.states, reference, logits)
        students = Students(states, starts.init_distance)
        read = study.evaluate(block, reference, teacher, students).accuracy
        networks = (reference, teacher, states.params)
        everyone = programs["everyone"](None, networks, None)[1]
        probed = self._probed(block, everyone, students)
        alike = fetch(programs["alike"](None, (teacher, everyone), self._some_test)[1])
        return [
            {
                "member": int(member),
                "accuracy": _named(NETWORKS, read[place]),
                "probe": _named(NETWORKS, probed[place]),
                "cka": _named(NETWORKS, alike[place]),
                "curves": {
                    kind: _named(tuple(COURSES), values[place].T)
                    for kind, values in tracks._asdict().items()
                },
                "losses": study.epoch_losses(place),
            }
            for place, member in enumerate(block.member)
        ]

    def _distil(
        self, block: Members, states: Any, reference: Any, logits: Any
    ) -> tuple[Any, Track]:
        """Return the trained students, and what was recorded at each step, `[m, steps, A]`."""
        study, tracks = self.study, []
        member = (study.execution.split(block), reference, logits)
        for epoch in range(study.schedule.student_epochs):
            hold = self.config.hold * (epoch < self.config.hold_epochs)
            shared = (study.train, jnp.int32(epoch), jnp.float32(hold))
            states, track = self.programs["students"](states, member, shared)
            study.record(track.loss, epoch, list(COURSES), block)
            tracks.append(study.execution.fetch(track))
            study.on_epochs(len(COURSES), "students")
        return states, Track(*(np.concatenate(kind, axis=1) for kind in zip(*tracks, strict=True)))

    def _probed(
        self, block: Members, everyone: Any, students: Students
    ) -> Float[np.ndarray, "m n"]:
        """Return the test accuracy of a linear probe of every network's last hidden layer."""
        study, programs = self.study, self.programs
        probes, _ = programs["begin_probes"](None, everyone, None)
        member = (study.execution.split(block), everyone)
        for epoch in range(self.config.probe_epochs):
            probes, losses = programs["probe"](probes, member, (study.train, jnp.int32(epoch)))
            study.record(losses, epoch, list(PROBES), block)
            study.on_epochs(len(NETWORKS), "probes")
        probed = programs["with_probes"](None, (everyone, probes.params), None)[1]
        reference, teacher, params = programs["apart"](None, probed, None)[1]
        reading = students._replace(states=replace(students.states, params=params))
        return study.evaluate(block, reference, teacher, reading).accuracy

    def timing(self) -> dict[str, Any]:
        """Return the seconds in every program so far, and those of compilation."""
        spent = self.study.seconds() | {name: p.seconds for name, p in self.programs.items()}
        compiling = sum(program.compile_seconds for program in self.programs.values())
        return {
            "compile_s": round(compiling + self.study.compile_seconds(), 3),
            "phases": {name: round(seconds, 3) for name, seconds in spent.items()},
        }


def _everyone(carry: None, networks: tuple[Any, Any, Any], shared: None) -> tuple[None, Any]:
    """Join reference, teacher and students of a member into one tree, `[2 + A, ...]`."""
    return None, jax.tree.map(
        lambda reference, teacher, students: jnp.concatenate(
            [jnp.stack([reference, teacher]), students]
        ),
        *networks,
    )


def _apart(carry: None, everyone: Any, shared: None) -> tuple[None, tuple[Any, Any, Any]]:
    """Undo `_everyone`."""
    take = lambda which: jax.tree.map(lambda leaf: leaf[which], everyone)
    return None, (take(0), take(1), take(slice(2, None)))


def _named(names: Sequence[str], values: Any) -> dict[str, Any]:
    """Return numbers or curves by name, rounded to six digits, the precision of float32."""
    short = lambda value: float(f"{value:.6g}")
    plain = [[short(v) for v in one] if np.ndim(one) else short(one) for one in values]
    return dict(zip(names, plain, strict=True))


def run(config: AlignmentConfig) -> dict[str, Any] | None:
    """Measure what is missing, write all files and print the findings.

    Returns:
        As `runner.run`.

    Raises:
        InputError: the data, the run directory or the config is refused.
        RunError: a loss or a network's logits are not finite.
    """
    started = time.perf_counter()
    data = load_images(config.data, config.data_dir)
    resolved = resolve(config, data.name)
    settings = described(resolved)

    def measure(directory: SharedRun) -> dict[str, Any]:
        chosen, decision = with_precision(resolved, data, len(COURSES), directory)
        rows, timing = _measure(chosen, data, directory)
        summary = results_of.summarise(rows)
        return {
            "experiment": "mnist_alignment",
            "dataset": data.name,
            "data": data.facts(),
            "config": settings,
            **decision.facts,
            **summary,
            "finding": results_of.finding(summary),
            "timing": timing,
        }

    return runner.run(
        runner.Experiment(
            name="mnist_alignment",
            what=f"{config.members} members on {data.name} ({data.reason})",
            config=settings,
            measure=measure,
            table=lambda results: image_text(results, results_of.tables(results)),
            csv=results_of.value_rows,
            page=lambda results: image_page(results, results_of.tables(results), SHOWS),
            figures={FIGURE: plotting.alignment_figure},
            out=config.out,
            overwrite=config.overwrite,
            started=started,
        )
    )


def _measure(
    config: AlignmentConfig, data: ImageData, directory: SharedRun
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return a row for every member, those of an interrupted run included, and the timing."""

    def member_of(row: dict[str, Any]) -> int | None:
        match row:
            case {"member": int(member), "curves": dict(curves)} if (
                0 <= member < config.members
                and all(
                    runner.has_numbers(row.get(kind), NETWORKS)
                    for kind in ("accuracy", "probe", "cka")
                )
                and runner.has_numbers(row.get("losses"), ("teacher", *COURSES, *PROBES))
                and list(curves) == list(CURVES)
                and all(runner.has_numbers(curve, tuple(COURSES)) for curve in curves.values())
            ):
                return member
        return None

    alignment = Alignment(config, data)

    def missing(rows: Mapping[int, Any]) -> Generator[dict[str, Any], None, None]:
        blocks = [b for b in alignment.study.blocks() if any(m not in rows for m in b.member)]
        with Progress(len(blocks) * alignment.epochs(), "mnist_alignment") as progress:
            alignment.study.on_epochs = progress.update
            for block in blocks:
                yield from alignment.rows(block)

    rows = runner.all_rows(
        directory, MEMBERS, member_of, missing, total=config.members, what="members"
    )
    return [rows[member] for member in range(config.members)], alignment.timing()
