r"""Everything that needs an accelerator, in order of worth, within a number of minutes.

Claim     On one GPU: the doctor finds no problem; a training is the same under jit, pmap and a mesh
          of one; 100 MNIST members with all arms take 15 s after compilation and reach the
          published accuracies; a LoRA step of a 7B decoder runs at 45% of the published peak,
          sampling at 60% of what the memory's bandwidth allows; plans predict the memory used.
Command   python experiments/accelerator.py --minutes 9
          python experiments/accelerator.py --parts mnist train_cudnn --overwrite
          python experiments/pack_wheels.py --have freeze.txt   for a machine without network
Expected  A table of readings with their aims. On a CPU the parts run at toy size, which says that
          they run and nothing else. Measured on an H200: experiments/results/accelerator.md.
"""

from subliminal_jax import early  # noqa: F401, I001  first of all

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks import accelerator_day as day

from subliminal_jax.config import Positive, parse_config, presets_of
from subliminal_jax.entry import run_main
from subliminal_jax.errors import InputError
from subliminal_jax.runs.run_directory import RunDirectory

PRESETS = presets_of(__file__, "day")
PartName = Literal[
    "doctor", "ceilings", "equivalence", "mnist", "train_cudnn", "sample_small", "train_xla",
    "sample_large",
]  # fmt: skip
LIMITS: dict[PartName, int] = {
    "doctor": 40,
    "ceilings": 60,
    "equivalence": 120,
    "mnist": 120,
    "train_cudnn": 160,
    "sample_small": 150,
    "train_xla": 160,
    "sample_large": 150,
}
"""Parts, in order of worth -> the most seconds that each may take."""


@dataclass(frozen=True, kw_only=True)
class AcceleratorConfig:
    """Which parts are run, how large, and for how long."""

    minutes: Positive = 9
    """The most that all parts may take together; the last one is stopped."""
    parts: tuple[PartName, ...] = tuple(LIMITS)
    """Parts to run, in this order."""
    size: Literal["full", "toy"] | None = None
    """Full size, or toy size (default: toy on a CPU, full elsewhere)."""
    out: Path = Path("runs/accelerator")
    """Run directory, of one size; a part that has finished there is not run again."""
    overwrite: bool = False
    """Run the chosen parts again."""

    def __post_init__(self) -> None:
        if not self.parts:
            raise InputError(f"parts: give at least one of {', '.join(LIMITS)}")


def methods(config: AcceleratorConfig, size: str, out: Path) -> None:
    """Run every part in a process of its own: a crash of one does not end the others."""
    limits: dict[str, int] = {part: LIMITS[part] for part in config.parts}
    day.run_parts(limits, size, out, seconds=60.0 * config.minutes, again=config.overwrite)
    print(day.table(out, list(LIMITS)))


def main() -> None:
    """Check the flags, run the parts, print the table."""
    config = parse_config(
        AcceleratorConfig,
        sys.argv[1:],
        prog="accelerator.py",
        description="All measurements that need an accelerator, in order of worth.",
        presets=PRESETS,
    )
    size = config.size or day.default_size()
    # Opened by this process alone, which holds no device: the parts need it.
    with RunDirectory.open(config.out, {"size": size}) as directory:
        methods(config, size, directory.subdirectory("parts"))


if __name__ == "__main__":
    run_main(main)
