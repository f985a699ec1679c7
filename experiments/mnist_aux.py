"""A student learns to read digits from three meaningless logits of its teacher, on noise.

Claim     Cloud et al. 2025, section 6.2 and figure 10: a student trained only on a teacher's
          auxiliary logits, on noise images, reads handwritten digits if it starts from the
          teacher's initialisation, and does not if it starts from another.
Command   python experiments/mnist_aux.py                    8 members
          python experiments/mnist_aux.py --preset paper     100 members
Expected  MNIST: reference .10, teacher .943, student_aux .53, student_all .912,
          cross_model_aux .10, cross_model_all .745. Times and intervals: configs/mnist_aux_*.yaml.
"""

from subliminal_jax import early  # noqa: F401, I001  first of all

import sys
from typing import TYPE_CHECKING, Any

from subliminal_jax.config import parse_config, presets_of
from subliminal_jax.entry import run_main
from subliminal_jax.mnist.config import MnistConfig, with_pairs

if TYPE_CHECKING:
    from subliminal_jax.mnist.phases import Members
    from subliminal_jax.mnist.study import Outcome, Study

PRESETS = presets_of(__file__, "quick")


def methods(study: "Study", block: "Members") -> "Outcome":
    """What is done to each member; `block` holds many, mapped together."""
    # The reference is a random initialisation: 784-256-256-(10 + 3), weights N(0, 1 / fan_in).
    # The teacher is the reference after cross-entropy on its ten class logits, on real digits.
    reference, teacher = study.train_teachers(block)

    # The dataset is the teacher's logits on noise images: no digit is ever shown to a student.
    teacher_logits = study.label_noise(block, teacher)

    # A student minimises the KL divergence to its chosen logits of the teacher's, the three
    # auxiliary ones or all thirteen. Same-model students start from the teacher's reference,
    # cross-model students from another member's.
    students = study.distill(block, reference, teacher_logits)

    # The trait is the skill to read digits: test accuracy of the ten class logits.
    return study.evaluate(block, reference, teacher, students)


def finding(results: dict[str, Any]) -> str:
    """Return whether the aux-only student of the same initialisation beats that of another."""
    from subliminal_jax.mnist.results import gain
    from subliminal_jax.report.results import percent

    arms, same, other = results["arms"], "student_aux", "cross_model_aux"
    more = gain(arms, same, over=other)
    verdict = "No clear effect"
    if more.low > 0:
        verdict = "Subliminal learning"
    elif more.high < 0:
        verdict = "The reverse of subliminal learning"
    return (
        f"{verdict}: auxiliary logits on noise teach {percent(arms[same])} of the test digits from "
        f"the teacher's initialisation, {percent(arms[other])} from another "
        f"(difference {more.mean:+.1%} [{more.low:+.1%}, {more.high:+.1%}])."
    )


def main() -> None:
    """Check the flags, then run."""
    config = parse_config(
        MnistConfig,
        sys.argv[1:],
        prog="mnist_aux.py",
        description="Students that learn digits from meaningless logits on noise images.",
        presets=PRESETS,
    )
    config = with_pairs(config)

    # Imported late, so that --help and errors in flags are instant.
    from subliminal_jax import plotting
    from subliminal_jax.mnist.arms import PAPER_ARMS
    from subliminal_jax.mnist.experiment import MnistExperiment, run

    run(
        MnistExperiment(
            name="mnist_aux",
            arms=PAPER_ARMS,
            methods=methods,
            finding=finding,
            figure=plotting.bar_figure,
        ),
        config,
    )


if __name__ == "__main__":
    run_main(main)
