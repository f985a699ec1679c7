"""What subliminal learning of a language model depends on: weights trained, and targets.

Claim     Two disputes. "Subliminal learning is an artifact of LoRA" (arXiv 2606.00831): LoRA of
          rank 1 to 32 and full finetuning. And which targets transmit most: a teacher's sampled
          tokens, its likeliest tokens, or all its probabilities. At equal rows and updates, each
          with a learning rate chosen on other references.
Command   python experiments/lm_sweep.py                     ranks, and full finetuning
          python experiments/lm_sweep.py --preset targets    sampled, greedy, soft
          python experiments/lm_sweep.py --plan              stages, students, time; no run
          python experiments/lm_sweep.py --preset smollm2_ranks      the same of a chat model
          python experiments/lm_sweep.py --preset smollm2_targets
Expected  declared in the header of each configs/lm_sweep_*.yaml.
"""

from subliminal_jax import early  # noqa: F401, I001  first of all

import os
import sys

from subliminal_jax.config import parse_config, presets_of
from subliminal_jax.entry import run_main
from subliminal_jax.language.sweep.config import LmSweepConfig

PRESETS = presets_of(__file__, "ranks")


def main() -> None:
    """Check the flags and every cell, then run."""
    config = parse_config(
        LmSweepConfig,
        sys.argv[1:],
        prog="lm_sweep.py",
        description="Students trained in several ways on the same rows.",
        presets=PRESETS,
    )

    # Imported late, so that --help, --plan and errors in flags are instant.
    if config.plan:
        from subliminal_jax.language.sweep.plan import format_sweep_plan

        print(format_sweep_plan(config))
        return
    from subliminal_jax.execution.cluster import cluster_of, joined
    from subliminal_jax.language.sweep.experiment import run

    # A cell is the experiment of lm_numbers.py with another training of its students: references,
    # teachers and rows are the same for all. Rates are chosen on the first references; what is
    # compared are the students of the others, and students of the reference's own numbers.
    with joined(cluster_of(os.environ, asked=config.lm.all_hosts)):
        run(config)


if __name__ == "__main__":
    run_main(main)
