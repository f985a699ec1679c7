"""Is it the first-order drive? Compares gradients of trait and distillation at every step.

Claim     Follow-up work: from a shared initialisation the gradient of a student's own loss, on
          noise, stays weakly aligned with that of the digits' loss for the whole run. Without the
          common component the student still imitates but does not learn the trait. To hold the
          student near its start at first does not keep it from learning the trait. Untrained
          features already decode digits.
Command   python experiments/mnist_alignment.py                    8 members
          python experiments/mnist_alignment.py --data digits      on a laptop without MNIST
Expected  a small positive cosine for the same initialisation and none for another; the projected
          students near chance; linear probes .874 untrained, .909 student, .939 teacher (published;
          ours .896, .927, .950).
"""

from subliminal_jax import early  # noqa: F401, I001  first of all

import sys

from subliminal_jax.config import parse_config, presets_of
from subliminal_jax.entry import run_main
from subliminal_jax.mnist.config import with_pairs
from subliminal_jax.mnist.alignment.config import AlignmentConfig

PRESETS = presets_of(__file__, "quick")


def main() -> None:
    """Check the flags, then run."""
    config = with_pairs(
        parse_config(
            AlignmentConfig,
            sys.argv[1:],
            prog="mnist_alignment.py",
            description="Gradients of trait and distillation at every step of a student.",
            presets=PRESETS,
        )
    )

    # Imported late, so that --help and errors in flags are instant.
    from subliminal_jax.mnist.alignment.experiment import run

    # mnist/alignment/config.py defines the six students: all imitate the auxiliary logits of one
    # teacher, from the same and from another initialisation; without the component along the
    # trait's gradient in their gradient, or in their step; without that along the gradient of
    # shuffled labels; held near the reference at first.
    run(config)


if __name__ == "__main__":
    run_main(main)
