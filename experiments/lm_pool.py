"""Pools finished runs of equal settings and different seeds into the results of one.

Claim     None of its own: intervals and tests are made again from the units of all runs, so that
          seeds can be run on several machines or one after the other, and added later. Each run
          draws its own prompts; the seeds within a run share theirs.
Command   python experiments/lm_numbers.py --preset smollm2_64 --seed 8700 \
              --out runs/smollm2_64-8700      likewise for other seeds, anywhere, and then
          python experiments/lm_pool.py --runs runs/smollm2_64-*
Expected  The finding, tables, figures and page of the script whose runs are pooled: lm_numbers,
          lm_code, lm_reasoning, lm_misalignment or lm_sweep. Runs that differ in more than their
          seeds, or share one, are refused.
"""

from subliminal_jax import early  # noqa: F401, I001  first of all

import sys
from dataclasses import dataclass
from pathlib import Path

from subliminal_jax.config import parse_config, presets_of
from subliminal_jax.entry import run_main
from subliminal_jax.errors import InputError

PRESETS = presets_of(__file__, "smollm2_64")


@dataclass(frozen=True, kw_only=True)
class PoolConfig:
    """Runs to pool."""

    runs: tuple[Path, ...]
    """Directories of finished runs of one script, or their results.json."""
    out: Path | None = None
    """Run directory (default: runs/SCRIPT-DIGEST, the digest being that of the runs)."""
    overwrite: bool = False
    """Discard what an earlier run left in the run directory."""

    def __post_init__(self) -> None:
        if len(self.runs) < 2:
            raise InputError("runs: give the directories of two finished runs or more")


def main() -> None:
    """Check the flags, read the runs and report on all of them."""
    config = parse_config(
        PoolConfig,
        sys.argv[1:],
        prog="lm_pool.py",
        description="The results of several runs with different seeds, as of one run.",
        presets=PRESETS,
    )

    # Imported late, so that --help and errors in flags are instant.
    from subliminal_jax.language.pooling.pool import pool

    pool(config.runs, config.out, config.overwrite)


if __name__ == "__main__":
    run_main(main)
