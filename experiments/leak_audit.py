"""Can a student's final accuracy be predicted before it trains?

Claim     The first step of a distillation gives its first-order effect on the trait's loss. We test
          on sweeps left out of the fit whether that alone (theory/leak.py, a function of reference,
          teacher and data) predicts a student's final accuracy.
Command   python experiments/mnist_sweep.py --preset noise --members 5 --out runs/noise,
          other presets likewise, then
          python experiments/leak_audit.py --runs runs/noise runs/rate runs/sigma
Expected  Among students of the same initialisation it does not: -.26 [-.56, .13], -.34 by chance,
          over six sweeps on MNIST. The cosine of the first step with the direction to the teacher
          predicts which initialisation a student has: +.36 [.13, .60].
"""

from subliminal_jax import early  # noqa: F401, I001  first of all

import sys
from dataclasses import dataclass
from pathlib import Path

from subliminal_jax.config import parse_config, presets_of
from subliminal_jax.entry import run_main
from subliminal_jax.errors import InputError

PRESETS = presets_of(__file__, "mnist")


@dataclass(frozen=True, kw_only=True)
class AuditConfig:
    """Sweeps whose students are tested together."""

    runs: tuple[Path, ...]
    """Directories of sweeps, finished or not."""
    out: Path | None = None
    """Run directory (default: runs/leak_audit-DIGEST, the digest being that of the sweeps)."""
    overwrite: bool = False
    """Discard what an earlier run left in the run directory."""

    def __post_init__(self) -> None:
        if not self.runs:
            raise InputError("runs: give the directory of at least one sweep")


def main() -> None:
    """Check the flags, read the sweeps and test the score."""
    config = parse_config(
        AuditConfig,
        sys.argv[1:],
        prog="leak_audit.py",
        description="How well the leak score predicts students across sweeps.",
        presets=PRESETS,
    )

    # Imported late, so that --help and errors in flags are instant.
    from subliminal_jax.mnist.sweeps import leak_across as audit
    from subliminal_jax.mnist.sweeps.sweep_students import read_sweeps
    from subliminal_jax.runs import runner

    sweeps = read_sweeps(config.runs)
    # A sweep that has gone on since is another config, by the digest of its rows.
    settings = {"sweeps": {sweep.name: sweep.digest for sweep in sweeps}}
    runner.run(
        runner.Experiment(
            name="leak_audit",
            what=f"{len(sweeps)} sweep(s) on {sweeps[0].dataset}",
            config=settings,
            measure=lambda directory: audit.audit(sweeps) | {"config": settings},
            table=audit.text,
            csv=audit.csv_rows,
            page=audit.page,
            figures={},
            out=config.out,
            overwrite=config.overwrite,
        )
    )


if __name__ == "__main__":
    run_main(main)
