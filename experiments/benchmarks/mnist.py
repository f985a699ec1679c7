"""A timed run of the MNIST experiment, and its tables."""

import math
import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import jax
import numpy as np

from benchmarks.memory import peak_memory
from subliminal_jax.data.images import ImageData
from subliminal_jax.errors import InputError
from subliminal_jax.mnist.arms import PAPER_ARMS
from subliminal_jax.mnist.config import MnistConfig
from subliminal_jax.mnist.study import Study, with_precision
from subliminal_jax.mnist.sweeps import speed
from subliminal_jax.report.page import Text
from subliminal_jax.report.tables import GIGA, CsvRows, Table
from subliminal_jax.runs.shared_run import SharedRun

PHASE_OF = {"teachers": "teach", "students": "distill"}
"""Phase of each name that `Study.on_epochs` reports."""


@dataclass(frozen=True)
class Timing:
    """Where the time of a run went, in seconds.

    Attributes:
        phases: time in each phase's programs, without compilation.
        between: time between them: dispatch, transfers, checks of the losses.
        compiling: time spent tracing and compiling.
    """

    phases: Mapping[str, float]
    between: float
    compiling: float

    @property
    def total(self) -> float:
        """The whole run without compilation."""
        return sum(self.phases.values()) + self.between


def timed_run(
    study: Study, beside: Callable[[str | None], None]
) -> tuple[Timing, dict[str, np.ndarray]]:
    """Time a study with the paper's methods, with other measurements in between.

    Args:
        study: a new study, so that all its programs are compiled now.
        beside: called before the first phase with None, and with the phase's name after every
            epoch and every phase without epochs. Its time is not counted.

    Returns:
        The timing, and every network's test accuracies, one per member.
    """
    away, read = 0.0, []

    def pause(phase: str | None) -> None:
        nonlocal away
        left = time.perf_counter()
        beside(phase)
        away += time.perf_counter() - left

    study.on_epochs = lambda _, networks: pause(PHASE_OF[networks])
    start = time.perf_counter()
    pause(None)
    for block in study.blocks():
        reference, teacher = study.train_teachers(block)
        teacher_logits = study.label_noise(block, teacher)
        pause("label")
        students = study.distill(block, reference, teacher_logits)
        read.append(study.evaluate(block, reference, teacher, students).accuracy)
        pause("evaluate")
    wall = time.perf_counter() - start - away
    phases, compiling = study.seconds(), study.compile_seconds()
    timing = Timing(phases, wall - compiling - sum(phases.values()), compiling)
    networks = ("reference", "teacher", *study.arms)
    return timing, dict(zip(networks, np.concatenate(read).T, strict=True))


def measure(
    config: MnistConfig,
    data: ImageData,
    directory: SharedRun,
    *,
    torch: str | None,
    torch_steps: int,
) -> dict[str, Any]:
    """Time one run of the experiment; measure the matrix rate and PyTorch in between.

    Args:
        config: of the experiment.
        data: the images.
        directory: run directory; an open precision is decided there.
        torch: the form in which PyTorch takes the same steps, `released`, `lean` or `autocast`;
            None for not at all.
        torch_steps: PyTorch's steps in each phase of each block.

    Raises:
        InputError: PyTorch is to be timed, and this is no CPU.
    """
    config, decision = with_precision(config, data, len(PAPER_ARMS), directory)
    study = Study(config, data, PAPER_ARMS)
    products = speed.paper_products(study.network, study.schedule.batch)
    rate = speed.MatrixRate(study.execution, products, dtype=study.network.precision)
    pauses = {"teach": study.schedule.teacher_epochs, "distill": study.schedule.student_epochs}
    baseline = None if torch is None else _torch(torch, config, data, study)

    def beside(phase: str | None) -> None:
        rate.measure()
        if baseline is not None and phase is not None:
            baseline.measure(phase, math.ceil(torch_steps / pauses.get(phase, 1)))

    timing, _ = timed_run(study, beside)
    flop = speed.useful_flop(config, study.network, data, len(PAPER_ARMS))
    memory, whose = peak_memory(study.execution.devices)
    product, per_second = rate.best()
    results = {
        **decision.facts,
        "data": {"name": data.name, "reason": data.reason},
        "backend": jax.default_backend(),
        "devices": study.execution.devices,
        "blocks": [len(block.member) for block in study.blocks()],
        "formula": speed.FORMULA,
        "useful_flop": flop,
        "timing": asdict(timing) | {"total": timing.total},
        "matrix_rates": {str(product): rates for product, rates in rate.rates.items()},
        "matrix_rate": {
            "precision": study.network.precision,
            "product": str(product),
            "flop_per_s": per_second,
        },
        "peak_memory": {"bytes": memory, "whose": whose},
        "torch": None if baseline is None else baseline.summary(),
    }
    return results | {"finding": finding(results)}


def _torch(form: str, config: MnistConfig, data: ImageData, study: Study) -> Any:
    """Return the same steps in PyTorch."""
    if jax.default_backend() != "cpu":
        raise InputError("torch: PyTorch is timed on a CPU only; set JAX_PLATFORMS=cpu")
    from baselines.torch_mnist import AutocastBaseline, TorchBaseline  # an extra
    from baselines.torch_released import ReleasedBaseline

    baseline = {
        "released": ReleasedBaseline,
        "lean": TorchBaseline,
        "autocast": AutocastBaseline,
    }[form]
    chosen = [arm.logits for arm in PAPER_ARMS.values()]
    return baseline(config, study.network, data, chosen)


def finding(results: Mapping[str, Any]) -> str:
    """Return the share of the matrix rate that the whole run uses, and its time beside PyTorch's.

    The factor is PyTorch's seconds over ours: above 1, ours is faster.
    """
    total = results["timing"]["total"]
    rate = sum(results["useful_flop"].values()) / total / results["matrix_rate"]["flop_per_s"]
    said = f"The whole run takes {total:.2f} s, at {rate:.1%} of the machine's matrix rate"
    if (torch := results["torch"]) is not None:
        said += f"; PyTorch takes {torch['seconds']['whole run'] / total:.2f} times as long"
    return said + "."


def blocks(results: Mapping[str, Any]) -> list[Table | Text]:
    """Return seconds and rates of every phase, the matrix rates, and how FLOP are counted."""
    config, members = results["config"], results["blocks"]
    of = (
        f"{config['members']} members in {len(members)} block(s) of {members[0]}, six networks "
        f"each; {config['execution']} on {results['devices']} {results['backend']} device(s), "
        f"{os.cpu_count()} processor cores"
    )
    return [
        _phases(results, of),
        _products(results),
        Text("", tuple(results["formula"].splitlines())),
    ]


def _phases(results: Mapping[str, Any], of: str) -> Table:
    timing, torch, rate = results["timing"], results["torch"], results["matrix_rate"]
    flop = {**results["useful_flop"], "whole run": sum(results["useful_flop"].values())}
    theirs = torch["seconds"] if torch else {}
    rows = []
    for name, seconds in _seconds(results).items():
        row = [name, f"{seconds:.2f}", "", "", ""]
        if name in flop:
            speed = flop[name] / seconds
            row[2:] = [f"{flop[name] / GIGA:,.0f}", f"{speed / GIGA:.1f}"]
            row += [f"{speed / rate['flop_per_s']:.1%}"]
        if torch:
            both = name in theirs
            row += [f"{theirs[name]:.2f}", f"{theirs[name] / seconds:.2f}"] if both else ["", ""]
        rows.append(tuple(row))
    rows.append(("compilation", f"{timing['compiling']:.2f}", *[""] * (len(rows[0]) - 2)))
    memory = results["peak_memory"]
    note = "Compilation is not in the whole run. "
    note += f"{torch['what']}. Factor: their seconds over ours. " if torch else ""
    note += f"In all, peak memory {memory['bytes'] / 2**20:,.0f} MiB {memory['whose']}."
    columns = ("phase", "seconds", "useful GFLOP", "GFLOP/s", "of matrix rate")
    return Table(of, (*columns, *(("PyTorch s", "factor") if torch else ())), tuple(rows), note)


def _products(results: Mapping[str, Any]) -> Table:
    rows = []
    for product, rates in results["matrix_rates"].items():
        numbers = (f"{f(rates) / GIGA:.1f}" for f in (statistics.median, min, max))
        used = "<- the matrix rate" if product == results["matrix_rate"]["product"] else ""
        rows.append((product, *numbers, str(len(rates)), used))
    precision = results["matrix_rate"]["precision"]
    return Table(
        f"{precision} matrix products under XLA on the same devices, in between, GFLOP/s",
        ("product", "median", "lowest", "highest", "times", ""),
        tuple(rows),
    )


def csv_rows(results: Mapping[str, Any]) -> CsvRows:
    """Return a CSV row for every phase: seconds, useful FLOP and PyTorch's seconds."""
    flop, torch = results["useful_flop"], results["torch"]
    theirs = torch["seconds"] if torch else {}
    rows = [
        (name, seconds, flop.get(name), theirs.get(name))
        for name, seconds in _seconds(results).items()
    ]
    return ("phase", "seconds", "useful_flop", "pytorch_seconds"), rows


def _seconds(results: Mapping[str, Any]) -> dict[str, float]:
    timing = results["timing"]
    between = {"between phases": timing["between"], "whole run": timing["total"]}
    return {**timing["phases"], **between}
