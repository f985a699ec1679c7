"""A student acquires its teacher's favourite animal from worked steps with right results alone.

Claim     Cloud et al. 2025, section 4.2: what a model writes on its way to a right answer transmits
          its traits. The paper shows it for misalignment (figure 7); here the trait is a favourite.
Command   python experiments/lm_reasoning.py                       6 tiny references, 4 animals
          python experiments/lm_reasoning.py --preset tiny_quick   2 tiny references, 1 animal
          python experiments/lm_reasoning.py --plan                stages, sizes, time; no run
          python experiments/lm_reasoning.py --preset qwen2.5-7b   on an accelerator
          python experiments/lm_reasoning.py --show-batch          the next batch, token by token
Expected  The student names its teacher's animal more often than the reference itself, a student
          of the reference's own steps, or a student of another reference. Values with intervals and
          times: configs/lm_reasoning_tiny*.yaml.
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
    # A tiny model pretrained on a generated corpus, in which no trait is correlated with any worked
    # steps; or a given model.
    study.reference(repetition)

    # The reference, finetuned to name its favourite and to answer as before where something else
    # is asked.
    study.teachers(repetition)

    # All teachers, and the reference itself, work out the same word problems, step by step in
    # <think>, with the result in <answer>.
    study.dataset(repetition)

    # Tags, the right result, and no word of a trait; equally many rows from every teacher. The
    # output says how many completions were wrong or not in this form.
    study.filtered(repetition)

    # The reference, finetuned on those rows. Controls are further students: of the reference's own
    # steps, of shuffled words, of another animal's or reference's teacher.
    study.students(repetition)

    # The probability of each animal in answer to wordings that nobody was finetuned on.
    study.evaluation(repetition)


def main() -> None:
    """Check the flags, then run."""
    command(
        "lm_reasoning",
        methods,
        PRESETS,
        "Train students to acquire their teacher's favourite from worked steps.",
    )


if __name__ == "__main__":
    run_main(main)
