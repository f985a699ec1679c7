"""What the effect depends on: any setting of the MNIST experiment as an axis.

Claim     Follow-ups to Cloud et al. 2025 disagree on what carries the effect: how many auxiliary
          logits, how wide a network, how long and how fast a training, which noise, which loss,
          how near an initialisation, which heads. Each is a preset, with the published value
          beside ours.
Command   python experiments/mnist_sweep.py                               auxiliary logits
          python experiments/mnist_sweep.py --preset puzzle               why others found 27%
          python experiments/mnist_sweep.py --sweep aux=1,3,10 --sweep width=64,256
Expected  the published curve of auxiliary logits, .103 .348 .537 .704 .835 .894 .917; the others
          in the header of each configs/mnist_sweep_*.yaml.
"""

from subliminal_jax import early  # noqa: F401, I001  first of all

import sys

from subliminal_jax.config import parse_config, presets_of
from subliminal_jax.entry import run_main
from subliminal_jax.mnist.config import with_pairs
from subliminal_jax.mnist.sweeps.config import SweepConfig, cells, gather_flags

PRESETS = presets_of(__file__, "aux")


def main() -> None:
    """Check the flags and every cell, then run."""
    config = with_pairs(
        parse_config(
            SweepConfig,
            gather_flags(sys.argv[1:]),
            prog="mnist_sweep.py",
            description="The MNIST experiment at every point of a grid.",
            presets=PRESETS,
        )
    )
    points = cells(config)

    # Imported late, so that --help and errors in flags are instant.
    from subliminal_jax.mnist.sweeps.experiment import run

    # A cell is the experiment of mnist_aux.py with other settings: members with their references,
    # teachers, and students distilled on noise; each compared with a student of another
    # initialisation, and member by member with the cell that changes nothing.
    run(config, points)


if __name__ == "__main__":
    run_main(main)
