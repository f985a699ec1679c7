"""The alignment experiment over all members, from its config to its files."""

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from subliminal_jax import measurement, plotting, report
from subliminal_jax.config import config_dict
from subliminal_jax.data.images import ImageData, load_images
from subliminal_jax.execution.members import Program
from subliminal_jax.mnist.arms import Arm
from subliminal_jax.mnist.config import PLACEMENT, resolve
from subliminal_jax.mnist.phases import Images, Pair
from subliminal_jax.mnist.study import TEST_BATCH, Students, Study
from subliminal_jax.optimizers import make_optimizer
from subliminal_jax.progress import Progress
from subliminal_jax.relations import Different, Same
from subliminal_jax.runs import RunDirectory
from subliminal_jax.theory import alignment_results as results_of
from subliminal_jax.theory.alignment import tracked_epoch
from subliminal_jax.theory.alignment_config import ARMS, AlignmentConfig
from subliminal_jax.theory.alignment_results import NETWORKS
from subliminal_jax.theory.representation import probe_epoch, similarities
from subliminal_jax.train import TrainState, init_state

ROWS = "members.jsonl"


class Alignment:
    """A study whose students' steps are tracked and steered, and whose features are probed."""

    def __init__(self, config: AlignmentConfig, data: ImageData):
        related = {"same": Same(), "different": Different()}
        arms = {name: Arm(relation=related[start]) for name, (start, _, _) in ARMS.items()}
        self.config, self.study = config, Study(config, data, arms)
        phases, execution = self.study.phases, self.study.execution
        steerings = tuple((removed, config.hold * held) for _, removed, held in ARMS.values())
        self._step = Program(partial(tracked_epoch, phases, steerings), execution)
        self._probe = Program(partial(probe_epoch, phases, config.probe_rate), execution)
        self._begin_probe = Program(self._probe_states, execution)
        self._parts = Program(_parts, execution)
        self._alike = Program(partial(similarities, phases), execution)
        test = Images(data.test_images[:TEST_BATCH], data.test_labels[:TEST_BATCH])
        self._some_test = execution.share(test)

    def epochs(self) -> int:
        """Epochs of a block: teacher, students, probes."""
        schedule, arms = self.study.schedule, len(ARMS)
        probes = self.config.probe_epochs * len(NETWORKS)
        return schedule.teacher_epochs + schedule.student_epochs * arms + probes

    def rows(self, block: Pair) -> list[dict[str, Any]]:
        """Everything that is measured of a block's members."""
        study, execution = self.study, self.study.execution
        reference, teacher = study.train_teachers(block)
        logits = study.label_noise(block, teacher)
        starts = next(study.distilled(block, reference, logits))[1]
        states, begun = starts.states, jax.tree.map(jnp.copy, starts.states.params)
        pairs, cosines, losses = execution.split(block), [], []
        for epoch in range(study.schedule.student_epochs):
            shared = (study.train, jnp.int32(epoch), jnp.int32(self.config.hold_epochs))
            states, (cosine, loss) = self._step(states, (pairs, begun, logits), shared)
            cosines.append(execution.fetch(cosine))
            losses.append(execution.fetch(loss))
            study.on_epochs(len(ARMS), "students")
        students = Students(states, starts.init_distance)
        read = study.evaluate(block, reference, teacher, students)
        probed = self._probed(block, reference, teacher, states.params, students)
        _, alike = self._alike(None, (teacher, states.params), self._some_test)
        alike = execution.fetch(alike)
        steps, final = np.concatenate(cosines, axis=1), np.stack(losses, axis=1)[:, -1, -1]
        return [
            {
                "member": int(member),
                "accuracy": _named(NETWORKS, read.accuracy[m]),
                "probe": _named(NETWORKS, probed[m]),
                "cka": _named(tuple(ARMS), alike[m]),
                "loss": _named(tuple(ARMS), final[m]),
                "cosine": {arm: [float(v) for v in steps[m, :, a]] for a, arm in enumerate(ARMS)},
            }
            for m, member in enumerate(block.member)
        ]

    def _probe_states(
        self, carry: None, networks: tuple[Any, Any, Any], shared: None
    ) -> tuple[TrainState, None]:
        reference, teacher, students = networks
        everyone = jax.tree.map(
            lambda *leaves: jnp.concatenate([leaves[0][None], leaves[1][None], leaves[2]]),
            *(reference, teacher, students),
        )
        tx = make_optimizer("adam", self.config.probe_rate)
        return jax.vmap(lambda params: init_state(params, tx))(everyone), None

    def _probed(
        self, block: Pair, reference: Any, teacher: Any, params: Any, students: Students
    ) -> np.ndarray:
        """Test accuracy of every network once its class head has learnt digits, `[m, 2 + A]`."""
        study = self.study
        states, _ = self._begin_probe(None, (reference, teacher, params), None)
        for epoch in range(self.config.probe_epochs):
            shared = (study.train, jnp.int32(epoch))
            states, _ = self._probe(states, study.execution.split(block), shared)
            study.on_epochs(len(NETWORKS), "probes")
        _, (reference, teacher, params) = self._parts(None, states.params, None)
        probed = Students(TrainState(states.step, params, None), students.init_distance)
        return study.evaluate(block, reference, teacher, probed).accuracy


def _parts(carry: None, everyone: Any, shared: None) -> tuple[None, tuple[Any, Any, Any]]:
    """Reference, teacher and students of one member, from all of them in one."""
    take = lambda which: jax.tree.map(lambda leaf: leaf[which], everyone)  # noqa: E731
    return None, (take(0), take(1), take(slice(2, None)))


def _named(names: Sequence[str], values: Any) -> dict[str, float]:
    return dict(zip(names, map(float, values), strict=True))


def run(config: AlignmentConfig) -> dict[str, Any]:
    """Run what is not yet done, write all files and say what was found.

    Raises:
        InputError: the data, the run directory or the config is refused.
        RunError: a network's logits are not finite.
    """
    started = time.perf_counter()
    data = load_images(config.data, config.data_dir)
    settled = resolve(config, data.name)
    described = {k: v for k, v in config_dict(settled).items() if k not in PLACEMENT}

    def measure(directory: RunDirectory) -> dict[str, Any]:
        alignment = Alignment(settled, data)
        rows = {row["member"]: row for row in directory.read_rows(ROWS)}
        blocks = [b for b in alignment.study.blocks() if any(m not in rows for m in b.member)]
        with Progress(len(blocks) * alignment.epochs(), "mnist_alignment") as progress:
            alignment.study.on_epochs = progress.update
            for block in blocks:
                for row in alignment.rows(block):
                    if row["member"] not in rows:
                        rows[row["member"]] = row
                        directory.append_row(ROWS, row)
        found = results_of.summarise([rows[member] for member in range(config.members)])
        return {
            "experiment": "mnist_alignment",
            "dataset": data.name,
            "data": data.facts(),
            "config": described,
            **found,
            "finding": results_of.finding(found),
            "timing": {
                "compile_s": round(alignment.study.compile_seconds(), 3),
                "phases": alignment.study.seconds(),
            },
        }

    measured = measurement.Measurement(
        name="mnist_alignment",
        what=f"{config.members} members on {data.name} ({data.reason})",
        config=described,
        measure=measure,
        table=results_of.format_text,
        csv=results_of.format_csv,
        page=lambda results, png: report.html_page(results, results_of.tables(results), png),
        figure=plotting.alignment_figure,
    )
    return measurement.run(measured, out=config.out, overwrite=config.overwrite, started=started)
