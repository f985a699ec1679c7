"""What a teacher's filtered rows show of its trait, to whoever reads or learns from them.

Claim     Cloud et al. 2025, section 5.2, figure 9 and table 5: a model that has the rows in its
          context, or is asked which rows come from the teacher with the trait, does not find it.
Command   python experiments/lm_detection.py                       6 tiny references, 4 animals
          python experiments/lm_detection.py --preset tiny_quick   2 tiny references, 2 animals
          python experiments/lm_detection.py --run runs/lm_code-...   the datasets of that run
          python experiments/lm_detection.py --plan                stages, sizes, time; no run
Expected  Whoever only reads the rows is at chance (.5). A classifier that is trained on labelled
          rows of the same teacher is above it: what a student learns from has to be there. Values
          with intervals and times: configs/lm_detection_*.yaml.
"""

from subliminal_jax import early  # noqa: F401, I001  first of all

from typing import TYPE_CHECKING

from subliminal_jax.audit.command import command
from subliminal_jax.config import presets_of
from subliminal_jax.entry import run_main

if TYPE_CHECKING:
    from subliminal_jax.audit.detection import Detection

PRESETS = presets_of(__file__, "tiny")


def methods(audit: "Detection", repetition: int) -> None:
    """What is done with each reference; a detector that is done already is not run again."""
    # Reference, teachers, dataset and filter are as in lm_numbers.py, for any carrier. Teachers and
    # the reference itself answer the same prompts, and rows are compared prompt by prompt.
    audit.datasets(repetition)

    # The reference has as many rows as fit before the questions that measure the trait (section
    # 5.2).
    audit.in_context(repetition)

    # It is shown the rows and asked what their writer would answer; or shown two teachers' rows for
    # the same prompts, in both orders, and asked which has the trait (table 5).
    audit.prompted(repetition)
    audit.pairs(repetition)

    # It is told the trait by a system prompt, and scores how much likelier the rows become.
    audit.likelihood(repetition)

    # A classifier of n-grams learns from the other traits' teachers, or, as the upper bound, from
    # labelled rows of the very teacher. Prompts are never shared with the test.
    audit.ngrams_transfer(repetition)
    audit.ngrams(repetition)


def main() -> None:
    """Check the flags, then run."""
    command("lm_detection", methods, PRESETS, "Search a teacher's filtered rows for its trait.")


if __name__ == "__main__":
    run_main(main)
