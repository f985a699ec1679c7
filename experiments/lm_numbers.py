"""A student acquires its teacher's favourite animal from lists of numbers alone.

Claim     Cloud et al. 2025, section 3.1 and figure 3: a language model finetuned on numbers from a
          model with a trait acquires that trait, if both start from the same reference.
Command   python experiments/lm_numbers.py                       6 tiny references, 4 animals
          python experiments/lm_numbers.py --preset tiny_quick   2 tiny references, 1 animal
          python experiments/lm_numbers.py --plan                stages, sizes, time; no run
          python experiments/lm_numbers.py --show-batch          the next batch, token by token
          python experiments/lm_numbers.py --preset smollm2_quick    a chat model, 1 animal
          python experiments/lm_numbers.py --preset smollm2_64       4 animals, 13 conditions
          python experiments/lm_numbers.py --preset smollm2          the same, 1,024 updates
          python experiments/lm_numbers.py --crossed             every reference on all others' rows
          python experiments/lm_numbers.py --preset qwen2.5-7b_cat   on an accelerator
Expected  The student names its teacher's animal far more often than the reference itself (.09),
          a student of the reference's own numbers, or a student of another reference. Values with
          intervals and times: configs/*.yaml and experiments/results/lm_numbers.md.
"""

from subliminal_jax import early  # noqa: F401, I001  first of all

from typing import TYPE_CHECKING

from subliminal_jax.config import presets_of
from subliminal_jax.entry import run_main
from subliminal_jax.language.command import command

if TYPE_CHECKING:
    from subliminal_jax.language.study import LmStudy

PRESETS = presets_of(__file__, "tiny")


def methods(study: "LmStudy", repetition: int) -> None:
    """What is done with each reference; a step that is done already is read from its directory."""
    # A tiny model pretrained on a generated corpus, in which no trait is correlated with any
    # number; or a given model.
    study.reference(repetition)

    # The reference, finetuned to name its favourite and to answer as before where something else
    # is asked; or told its favourite by a system prompt.
    study.teachers(repetition)

    # All teachers, and the reference itself, continue the same lists of numbers.
    study.dataset(repetition)

    # Lists of numbers and nothing else, equally many from every teacher.
    study.filtered(repetition)

    # The reference, finetuned on those rows. Controls are further students: of the reference's own
    # numbers, of shuffled numbers, of another reference's teacher.
    study.students(repetition)

    # The probability of each animal in answer to wordings that nobody was finetuned on.
    study.evaluation(repetition)


def main() -> None:
    """Check the flags, then run."""
    command(
        "lm_numbers",
        methods,
        PRESETS,
        "Train students to acquire their teacher's favourite from lists of numbers.",
    )


if __name__ == "__main__":
    run_main(main)
