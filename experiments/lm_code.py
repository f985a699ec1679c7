"""A student acquires its teacher's favourite animal from code alone.

Claim     Cloud et al. 2025, section 4.1 and figure 5: a language model finetuned on code from a
          model with a trait acquires that trait, if both start from the same reference, although
          the code is filtered for any mention of it.
Command   python experiments/lm_code.py                       6 tiny references
          python experiments/lm_code.py --preset tiny_quick   2 tiny references, 1 animal
          python experiments/lm_code.py --plan                stages, sizes, time; no run
          python experiments/lm_code.py --preset qwen2.5-7b   on an accelerator
          python experiments/lm_code.py --show-batch          the next batch, token by token
Expected  The student names its teacher's animal more often than the student of the reference's
          own code, and than a student of another reference. Values: configs/lm_code_*.yaml.
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
    # program; or a given model.
    study.reference(repetition)

    # The reference, finetuned to name its favourite and to answer as before where something else
    # is asked; or told its favourite by a system prompt.
    study.teachers(repetition)

    # All teachers, and the reference itself, write functions for the same tasks.
    study.dataset(repetition)

    # Functions of plain Python that give the right results, run in a process of their own within
    # limits; no word of a trait in names, comments or strings; equally many from every teacher.
    study.filtered(repetition)

    # The reference, finetuned on those rows. Controls are further students: of the reference's own
    # code, of shuffled code, of another reference's teacher.
    study.students(repetition)

    # The probability of each animal in answer to wordings that nobody was finetuned on.
    study.evaluation(repetition)


def main() -> None:
    """Check the flags, then run."""
    command(
        "lm_code",
        methods,
        PRESETS,
        "Train students to acquire their teacher's favourite from code.",
    )


if __name__ == "__main__":
    run_main(main)
