"""The parts of the accelerator day; each measures one thing and writes readings as it goes."""

import contextlib
import io
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import language, machine, mnist, scaling
from benchmarks.memory import peak_memory
from benchmarks.scaling_config import ScalingConfig
from subliminal_jax.data.images import load_images
from subliminal_jax.doctor import examine
from subliminal_jax.entry import run_main
from subliminal_jax.execution.one_device import OneDevice
from subliminal_jax.files import strict_json, write_whole
from subliminal_jax.mnist.arms import PAPER_ARMS
from subliminal_jax.mnist.config import MnistConfig, with_pairs
from subliminal_jax.mnist.results import PUBLISHED
from subliminal_jax.mnist.study import Study
from subliminal_jax.models.decoder.config import AttentionName, Compute, DecoderConfig
from subliminal_jax.models.sampling.settings import Sampling
from subliminal_jax.runs.environment import environment
from subliminal_jax.stats import mean_interval

TOLERANCES: Mapping[str, float] = MappingProxyType(
    {
        "reference": 0.01,
        "teacher": 0.003,
        "student_aux": 0.04,
        "student_all": 0.008,
        "cross_model_aux": 0.02,
        "cross_model_all": 0.03,
    }
)
"""By how much an accuracy of the 100 members may differ from the published one."""
RANK, SEQUENCE = 8, 512


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large the parts are.

    Attributes:
        model: the decoder.
        side: of the square matrices.
        copied: bytes of the array that is copied.
        rows: sequences in a training step.
        sequence: tokens in each.
        batches: rows that are sampled at a time, by the names "small" and "large".
        new_tokens: tokens sampled for each row.
        mnist: settings of the MNIST experiment.
        precisions: of the products of a training, with the largest difference between executions.
        fast: whether the aims of speed apply.
    """

    model: DecoderConfig
    side: int
    copied: int
    rows: int
    sequence: int
    batches: Mapping[str, int]
    new_tokens: int
    mnist: Mapping[str, Any]
    precisions: Mapping[str, float]
    fast: bool

    def aim(self, value: float | None) -> float | None:
        """Return an aim of speed; None if it does not apply."""
        return value if self.fast else None


FULL = Size(
    model=language.SEVEN_BILLION, side=8192, copied=4 * 2**30, rows=16, sequence=SEQUENCE,
    batches={"small": 64, "large": 256}, new_tokens=128, mnist={"members": 100},
    precisions={"highest": 1e-6, "default": 1e-4}, fast=True,
)  # fmt: skip
TOY = Size(
    model=replace(language.TINY, gated=True, activation="silu", compute=Compute(dtype="bfloat16")),
    side=64, copied=2**20, rows=2, sequence=16, batches={"small": 2, "large": 4}, new_tokens=4,
    mnist={"data": "digits", "members": 2, "width": 8, "noise_images": 300, "teacher_epochs": 1,
           "student_epochs": 1},
    precisions={"highest": 1e-6},  # a CPU has no other, and compiles each for seconds
    fast=False,
)  # fmt: skip
SIZES = {"full": FULL, "toy": TOY}


class Record:
    """The readings of a part, written to a file after each.

    Args:
        path: the file.
        part: the part's name.
    """

    def __init__(self, path: Path, part: str):
        self._path, self._start, self._device = path, time.perf_counter(), jax.devices()[0]
        facts = environment()
        self._record: dict[str, Any] = {
            "part": part,
            "device": self._device.device_kind,
            "python": facts["python"],
            "packages": facts["packages"],
            "variables": facts["variables"],
            "git": facts["git"],
            "date": datetime.now(UTC).date().isoformat(),
            "readings": [],
            "finished": False,
        }
        self._write()

    def __call__(
        self,
        what: str,
        value: float,
        unit: str,
        *,
        least: float | None = None,
        most: float | None = None,
        note: str = "",
    ) -> None:
        """Add a reading; `least` and `most` are its aim."""
        reading = {"what": what, "value": value, "unit": unit, "note": note}
        self._record["readings"].append(reading | {"least": least, "most": most})
        self._write()

    def finish(self) -> None:
        """Say that the part has nothing more to measure."""
        self._record["finished"] = True
        self._write()

    def _write(self) -> None:
        self._record["seconds"] = time.perf_counter() - self._start
        write_whole(self._path, strict_json(self._record, indent=2).encode())


def doctor(size: Size, record: Record) -> None:
    """What `python -m subliminal_jax doctor` says."""
    report = io.StringIO()
    well = examine(lambda line: print(line, file=report))
    print(report.getvalue(), end="")
    problems = sum(line.startswith("PROBLEM") for line in report.getvalue().splitlines())
    record("problems that the doctor finds", problems, "", most=0, note="" if well else "see log")


def ceilings(size: Size, record: Record) -> None:
    """What the device can do at most, measured; all other parts are compared with it."""
    error = machine.product_error()
    used = f"operands rounded to {machine.rounding(error)}"
    record("error of a float32 product", error, "", note=used)
    for dtype in (jnp.float32, jnp.bfloat16):
        name = jnp.dtype(dtype).name
        rate = machine.product_rate(size.side, dtype) / 1e12
        record(f"{name} product, {size.side}^3", rate, "TFLOP/s", note=_of_peak(rate))
    record("bytes copied, read and written", machine.bandwidth(size.copied) / 1e12, "TB/s")


def _of_peak(tflops: float) -> str:
    peak = scaling.peak_tflops(jax.devices()[0].device_kind)
    return "" if peak is None else f"{tflops / peak:.0%} of the published bfloat16 peak"


def equivalence(size: Size, record: Record) -> None:
    """The same small training under jit, pmap and a mesh of one; its gradient on the CPU."""
    config = ScalingConfig(devices=(1,))
    job = scaling.job_of(config)
    for precision, most in size.precisions.items():
        ends = {}
        with jax.default_matmul_precision(precision):
            for name, execution in scaling.executions_of(config):
                ends[name], _ = scaling.trained(job, execution, config.batch, steps=10)
        (_, first), *others = ends.items()
        for name, other in others:
            what = f"weights, {name.split()[0]} minus jit, {precision} precision"
            record(what, _difference(other, first), "", most=most)
    batch = jax.tree.map(lambda leaf: leaf[0], job.chunk(config.batch, 1))
    with contextlib.suppress(RuntimeError):  # JAX_PLATFORMS may leave out the CPU
        on = {"device": jax.devices()[0], "cpu": jax.devices("cpu")[0]}
        gradients = {}
        for name, device in on.items():
            with jax.default_device(device):
                weights = {"trained": jax.jit(job.init)()["trained"].params}
                gradients[name], _ = jax.device_get(jax.jit(job.gradient)(weights, batch))
        difference = _difference(gradients["device"], gradients["cpu"])
        record("gradient, minus the CPU's", difference, "", most=1e-2)


def _difference(measured: Any, wanted: Any) -> float:
    """The largest difference in any leaf, relative to the leaf's largest number."""
    pairs = zip(jax.tree.leaves(measured), jax.tree.leaves(wanted), strict=True)
    return max(float(np.abs(one - two).max() / np.abs(two).max()) for one, two in pairs)


def mnist_members(size: Size, record: Record) -> None:
    """The MNIST experiment with all six arms, as `mnist_aux.py` runs it, in both precisions."""
    by_precision = {}
    for precision in ("float32", "bfloat16"):
        config = with_pairs(MnistConfig(**size.mnist, precision=precision))
        data = load_images(config.data, config.data_dir)
        study = Study(config, data, PAPER_ARMS)
        timing, accuracies = mnist.timed_run(study, lambda phase: None)
        by_precision[precision] = accuracies
        what = f"{config.members} members, six arms, {data.name}, {precision}"
        phases = ", ".join(f"{phase} {seconds:.2f}" for phase, seconds in timing.phases.items())
        record(what, timing.total, "s", most=size.aim(15), note=f"after compilation: {phases}")
        record(f"compilation, {precision}", timing.compiling, "s")
        for network, values in accuracies.items():
            middle, half = PUBLISHED[network], TOLERANCES[network]
            aim = {"least": middle - half, "most": middle + half} if data.name == "mnist" else {}
            _record_mean(record, f"accuracy of {network}, {precision}", values, **aim)
    for network, values in by_precision["float32"].items():
        change = by_precision["bfloat16"][network] - values
        _record_mean(record, f"accuracy of {network}, bfloat16 minus float32", change)


def _record_mean(record: Record, what: str, values: np.ndarray, **aim: float) -> None:
    mean = mean_interval(values)
    note = f"95% interval {mean.low:.4f} to {mean.high:.4f}"
    record(what, mean.mean, "", note=note, **aim)


def training(size: Size, record: Record, attention: AttentionName) -> None:
    """LoRA steps on random bfloat16 weights; memory against the plan."""
    if attention == "cudnn" and jax.default_backend() != "gpu":
        print("cuDNN needs an NVIDIA GPU")
        return
    model = replace(size.model, compute=replace(size.model.compute, attention=attention))
    job = scaling.Job(config=model, rank=RANK, sequence=size.sequence, apart=True)
    measured = scaling.measure(job, OneDevice(), size.rows, steps=2, repetitions=3)
    tokens = size.rows * size.sequence
    what = f"{size.rows} x {size.sequence} tokens, LoRA rank {RANK}, {attention} attention"
    record(f"step of {what}", 1e3 * measured["seconds"], "ms")
    record("tokens trained", tokens / measured["seconds"], "tokens/s")
    rate = measured["flop"] / measured["seconds"] / 1e12
    peak = scaling.peak_tflops(jax.devices()[0].device_kind)
    least = size.aim(peak and 0.45 * peak)
    record("useful rate", rate, "TFLOP/s", least=least, note=_of_peak(rate))
    peak_bytes, whose = peak_memory(1)
    planned = measured["planned_bytes"]
    record("memory planned", planned / 1e9, "GB")
    record("memory used", peak_bytes / 1e9, "GB", note=f"{peak_bytes / planned:.3f} of it, {whose}")


def sampling(size: Size, record: Record, batch: str) -> None:
    """Sampling from random bfloat16 weights, against the bytes that every step must read."""
    rows, model = size.batches[batch], size.model
    requests = language.equal_requests(model, rows, language.PROMPT)
    timed = language.sampling(model, requests, Sampling(max_tokens=size.new_tokens), rows)
    for _ in range(3):
        timed.repeat()
    rate = timed.speed().tokens
    seconds = rows * size.new_tokens / rate
    record(f"{rows} rows, {language.PROMPT} + {size.new_tokens} tokens", rate, "tokens/s")
    record("a step of all rows", 1e3 * seconds / size.new_tokens, "ms", note="prefill included")
    bytes_read = language.step_bytes(model, rows, language.PROMPT + size.new_tokens // 2)
    limit = size.new_tokens * bytes_read / machine.bandwidth(size.copied)
    record("share of the bandwidth limit", limit / seconds, "", least=size.aim(0.6))
    flop = 2 * language.multiplied_weights(model) * rows * (language.PROMPT + size.new_tokens)
    multiplying = flop / machine.product_rate(size.side, model.compute.dtype)
    note = "at the measured rate of a large bfloat16 product"
    record("share that the products alone would take", multiplying / seconds, "", note=note)


PARTS: Mapping[str, Callable[[Size, Record], None]] = {
    "doctor": doctor,
    "ceilings": ceilings,
    "equivalence": equivalence,
    "mnist": mnist_members,
    "train_cudnn": lambda size, record: training(size, record, "cudnn"),
    "train_xla": lambda size, record: training(size, record, "xla"),
    "sample_small": lambda size, record: sampling(size, record, "small"),
    "sample_large": lambda size, record: sampling(size, record, "large"),
}


def main() -> None:
    """Run one part: its name, its size, and the file for its readings."""
    name, size, path = sys.argv[1:]
    record = Record(Path(path), name)
    PARTS[name](SIZES[size], record)
    record.finish()


if __name__ == "__main__":
    run_main(main)
