"""A timed run of the MNIST experiment, and its tables."""

import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from subliminal_jax.mnist.study import Study
from subliminal_jax.mnist.sweeps.speed import GIGA

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


def format_heading(results: dict[str, Any]) -> str:
    """Return what was run on which devices, as text."""
    config, blocks = results["config"], results["blocks"]
    return (
        f"{config['members']} members in {len(blocks)} block(s) of {blocks[0]}, six networks each, "
        f"on {results['data']['name']} ({results['data']['reason']}); {config['execution']} on "
        f"{results['devices']} {results['backend']} device(s), {os.cpu_count()} processor cores"
    )


def format_table(results: dict[str, Any]) -> str:
    """Return seconds and rates of every phase, the matrix rates and the memory as text.

    The factors are PyTorch's seconds over ours: above 1, ours is faster.
    """
    timing, torch, rate = results["timing"], results["torch"], results["matrix_rate"]
    ours = {**timing["phases"], "between phases": timing["between"], "whole run": timing["total"]}
    flop = {**results["useful_flop"], "whole run": sum(results["useful_flop"].values())}
    theirs = torch["seconds"] if torch else {}
    lines = [f"{'':14}{'seconds':>9}{'useful GFLOP':>14}{'GFLOP/s':>9}{'of matrix rate':>16}"]
    lines[0] += f"{'PyTorch s':>11}{'factor':>8}" if torch else ""
    for name, seconds in ours.items():
        line = f"{name:14}{seconds:9.2f}"
        if name in flop:
            speed = flop[name] / seconds
            line += (
                f"{flop[name] / GIGA:14,.0f}{speed / GIGA:9.1f}{speed / rate['flop_per_s']:16.1%}"
            )
        if name in theirs:
            line += f"{theirs[name]:11.2f}{theirs[name] / seconds:8.2f}"
        lines.append(line)
    lines.append(f"{'compilation':14}{timing['compiling']:9.2f}   (not included above)")
    lines += ["", "float32 matrix products under XLA on the same devices, in between, GFLOP/s:"]
    for product, rates in results["matrix_rates"].items():
        low, middle, high = (f(rates) / GIGA for f in (min, statistics.median, max))
        used = "   <- the matrix rate" if product == rate["product"] else ""
        text = f"median {middle:.1f} of {len(rates)}, {low:.1f} to {high:.1f}"
        lines.append(f"  {product:20}{text}{used}")
    if torch:
        lines += ["", torch["what"]]
    memory = results["peak_memory"]
    lines += ["", f"peak memory {memory['bytes'] / 2**20:,.0f} MiB {memory['whose']}"]
    return "\n".join(lines)
