r"""Share of the machine's matrix rate that the MNIST experiment uses, compared with PyTorch.

Claim     What share of the rate of the machine's own matrix products, in the same precision, the
          experiment's useful arithmetic reaches, in one run; and that it is faster than the same
          steps in PyTorch in the form of the released script.
Command   python experiments/benchmark_mnist.py --members 25
          python experiments/benchmark_mnist.py --torch released   needs pip install -e '.[torch]'
          XLA_FLAGS=--xla_force_host_platform_device_count=2 NPROC=32 \
              python experiments/benchmark_mnist.py --execution pmap --devices 2
          python experiments/benchmark_mnist.py --precision bfloat16 --torch autocast
Expected  Seconds, FLOP/s and factors of this machine; no accuracy.
"""

from subliminal_jax import early  # noqa: F401, I001  first of all

import dataclasses
import sys
from dataclasses import dataclass
from typing import Literal

from subliminal_jax.config import Count, described, parse_config, presets_of
from subliminal_jax.entry import run_main
from subliminal_jax.errors import InputError
from subliminal_jax.mnist.config import MnistConfig, resolve, with_pairs

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
    timed = lambda directory: benchmark.measure(
        config, data, directory, torch=config.torch, torch_steps=config.torch_steps
    )
    run(config, settings, "benchmark_mnist", what, timed, benchmark.blocks, benchmark.csv_rows)


if __name__ == "__main__":
    run_main(main)
