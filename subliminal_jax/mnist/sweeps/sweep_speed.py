"""Speed of a sweep: its useful FLOP/s as a share of the machine's matrix rate."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

from subliminal_jax.data.images import ImageData
from subliminal_jax.mnist.sweeps.cells import Work
from subliminal_jax.mnist.sweeps.speed import MatrixRate, paper_products
from subliminal_jax.mnist.sweeps.speed import useful_flop as flop_of_study
from subliminal_jax.report.tables import GIGA, Table


def useful_flop(work: Work, data: ImageData) -> Counter[str]:
    """Return the FLOP of each phase for one member at one setting of the dials, by `FORMULA`.

    The teacher trains once. At each of its epochs that a cell needs, the students of every study
    train, and are evaluated at every epoch that a cell reads.
    """
    flop: Counter[str] = Counter()
    for branch in work.branches.values():
        for study, _, readings in branch:
            config, arms = replace(study.config, members=1), len(study.arms)
            teachers = flop_of_study(config, study.network, data, arms)
            students = flop_of_study(config, study.phases.student_network, data, arms)
            flop["teach"] = teachers["teach"]
            flop["label"] += teachers["label"]
            flop["distill"] += students["distill"]
            flop["evaluate"] += students["evaluate"] * len({r.epoch for r in readings})
    return flop


@dataclass
class SweepSpeed:
    """Useful FLOP of a sweep in this process, and the matrix rate measured in between.

    Attributes:
        works: all programs of the sweep.
        data: the images.
        flop: useful FLOP so far, by phase.
    """

    works: Sequence[Work]
    data: ImageData
    flop: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        teachers = self.works[0].teachers
        products = paper_products(teachers.network, teachers.schedule.batch)
        self._rate = MatrixRate(teachers.execution, products, dtype=teachers.network.precision)

    def measure(self) -> None:
        """Measure the matrix rate once."""
        self._rate.measure()

    def ran(self, work: Work, pairs: int) -> None:
        """Add the FLOP of `pairs` pairs of a member and a setting of the dials."""
        self.flop += Counter({k: pairs * v for k, v in useful_flop(work, self.data).items()})

    def seconds(self) -> dict[str, float]:
        """Return the time in the programs of each phase so far; leak scores are a phase."""
        spent: dict[str, float] = {}
        for work in self.works:
            for study, foreseen, _ in chain.from_iterable(work.branches.values()):
                for name, took in (study.seconds() | {"foresee": foreseen.seconds}).items():
                    spent[name] = spent.get(name, 0.0) + took
        return {name: round(took, 3) for name, took in spent.items()}

    def summary(self) -> dict[str, Any] | None:
        """Return FLOP, seconds and rates; None if nothing was left to run."""
        if not self.flop:
            return None
        product, rate = self._rate.best()
        phases = {
            name: {"flop": self.flop[name], "seconds": took}
            for name, took in self.seconds().items()
            if self.flop[name]
        }
        whole = {"flop": self.flop.total(), "seconds": sum(self.seconds().values())}
        return {
            "phases": phases | {"whole run": whole},
            "matrix_rate": {
                "precision": self.works[0].teachers.network.precision,
                "product": str(product),
                "flop_per_s": rate,
            },
        }


def table(speed: Mapping[str, Any]) -> Table:
    """Return the rates as a table."""
    rate = speed["matrix_rate"]
    rows = []
    for name, phase in speed["phases"].items():
        per_second = phase["flop"] / max(phase["seconds"], 1e-3)
        rows.append(
            (
                name,
                f"{phase['flop'] / 1e12:.3g}",
                f"{phase['seconds']:.1f}",
                f"{per_second / GIGA:.1f}",
                f"{per_second / rate['flop_per_s']:.1%}",
            )
        )
    return Table(
        "Speed of this run, without compilation",
        ("phase", "useful TFLOP", "seconds", "GFLOP/s", "of the matrix rate"),
        tuple(rows),
        f"The matrix rate, {rate['flop_per_s'] / GIGA:.1f} GFLOP/s, is that of "
        f"{rate['precision']} products of {rate['product']} under XLA on the same devices, the "
        "fastest tried, measured before and after each program. Only matrix products that the "
        "result needs are counted.",
    )
