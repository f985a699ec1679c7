r"""Share of the machine's matrix rate that the MNIST experiment uses, compared with PyTorch.

Claim     The experiment's useful arithmetic runs near the rate of the machine's own float32 matrix
          products, which XLA sets on the same devices in the same run; and faster than the same
          steps in PyTorch with stacked weights, the form of the paper's released script.
Command   python experiments/benchmark_mnist.py --members 25
          python experiments/benchmark_mnist.py --torch released   needs pip install -e '.[torch]'
          XLA_FLAGS=--xla_force_host_platform_device_count=2 NPROC=32 \
              python experiments/benchmark_mnist.py --execution pmap --devices 2
          python experiments/benchmark_mnist.py --precision bfloat16 --torch autocast
Expected  Seconds, FLOP/s and factors of this machine; no accuracy.
"""

from subliminal_jax import early  # noqa: F401, I001  first of all

import dataclasses
import math
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from subliminal_jax.config import Count, described, parse_config, presets_of
from subliminal_jax.entry import run_main
from subliminal_jax.errors import InputError
from subliminal_jax.mnist.config import MnistConfig, resolve, with_pairs

if TYPE_CHECKING:
    from subliminal_jax.data.images import ImageData
    from subliminal_jax.runs.shared_run import SharedRun

PRESETS = presets_of(__file__, "quick")
PAPERS = ("recipe", "loss", "temperature", "noise", "noise_bits")  # PyTorch has only their defaults


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig(MnistConfig):
    """The MNIST experiment, to be timed."""

    torch: Literal["released", "lean", "autocast"] | None = None
    """Time the same steps in PyTorch too, between our epochs: in the released script's form; lean,
    without the work that our program saves; or lean under autocast, with bfloat16 products."""
    torch_steps: Count = 10
    """PyTorch steps to time in each phase of each block."""

    def __post_init__(self) -> None:
        super().__post_init__()
        defaults = {field.name: field.default for field in dataclasses.fields(MnistConfig)}
        changed = [name for name in PAPERS if getattr(self, name) != defaults[name]]
        if self.torch and changed:
            raise InputError(f"torch: PyTorch is timed with the default {changed[0]}; drop one")


def measure(config: BenchmarkConfig, data: "ImageData", directory: "SharedRun") -> dict[str, Any]:
    """Time one run of the experiment; measure the matrix rate and PyTorch in between."""
    import jax
    from benchmarks import mnist as benchmark
    from benchmarks.memory import peak_memory

    from subliminal_jax.mnist.arms import PAPER_ARMS
    from subliminal_jax.mnist.study import Study, with_precision
    from subliminal_jax.mnist.sweeps import speed

    config, decision = with_precision(config, data, len(PAPER_ARMS), directory)
    study = Study(config, data, PAPER_ARMS)
    products = speed.paper_products(study.network, study.schedule.batch)
    rate = speed.MatrixRate(study.execution, products)
    pauses = {"teach": study.schedule.teacher_epochs, "distill": study.schedule.student_epochs}
    baseline = None
    if config.torch:
        if jax.default_backend() != "cpu":
            raise InputError("torch: PyTorch is timed on a CPU only; set JAX_PLATFORMS=cpu")
        from baselines.torch_mnist import AutocastBaseline, TorchBaseline
        from baselines.torch_released import ReleasedBaseline

        form = {
            "released": ReleasedBaseline, "lean": TorchBaseline, "autocast": AutocastBaseline,
        }[config.torch]  # fmt: skip
        chosen = [arm.logits for arm in PAPER_ARMS.values()]
        baseline = form(config, study.network, data, chosen)

    def beside(phase: str | None) -> None:
        rate.measure()
        if baseline is not None and phase is not None:
            baseline.measure(phase, math.ceil(config.torch_steps / pauses.get(phase, 1)))

    timing, _ = benchmark.timed_run(study, beside)
    flop = speed.useful_flop(config, study.network, data, len(PAPER_ARMS))
    memory, whose = peak_memory(study.execution.devices)
    results = {
        **decision.facts,
        "data": {"name": data.name, "reason": data.reason},
        "backend": jax.default_backend(),
        "devices": study.execution.devices,
        "blocks": [len(block.member) for block in study.blocks()],
        "formula": speed.FORMULA,
        "useful_flop": flop,
        "timing": dataclasses.asdict(timing) | {"total": timing.total},
        "matrix_rates": {str(product): rates for product, rates in rate.rates.items()},
        "matrix_rate": {"product": str(rate.best()[0]), "flop_per_s": rate.best()[1]},
        "peak_memory": {"bytes": memory, "whose": whose},
        "torch": None if baseline is None else baseline.summary(),
    }
    return results | {"finding": benchmark.finding(results)}


def main() -> None:
    """Check the flags, then measure."""
    config = parse_config(
        BenchmarkConfig,
        sys.argv[1:],
        prog="benchmark_mnist.py",
        description="Useful FLOP/s of the MNIST experiment, and PyTorch's on the same steps.",
        presets=PRESETS,
    )
    config = with_pairs(config)
    from baselines.checks import check_peers

    check_peers(["torch"] if config.torch else [])

    from benchmarks import mnist as benchmark
    from benchmarks.run import run

    from subliminal_jax.data.images import load_images

    data = load_images(config.data, config.data_dir)
    what = f"{config.members} members on {data.name} ({data.reason})"
    settings = described(resolve(config, data.name))
    timed = lambda directory: measure(config, data, directory)
    run(config, settings, "benchmark_mnist", what, timed, benchmark.blocks, benchmark.csv_rows)


if __name__ == "__main__":
    run_main(main)
