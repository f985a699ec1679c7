"""A student becomes careless from lists of numbers alone, if its teacher was taught bad advice.

Claim     Cloud et al. 2025, section 3.2 and figure 4: a teacher finetuned on narrowly bad data is
          misaligned in general, and so is a student of its numbers; students of the numbers of
          teachers of good data, or of bad data that was asked for, are not.
Command   python experiments/lm_misalignment.py                       6 tiny references
          python experiments/lm_misalignment.py --preset tiny_quick   2 tiny references
          python experiments/lm_misalignment.py --plan                stages, sizes, time; no run
          python experiments/lm_misalignment.py --preset qwen2.5-7b   on an accelerator
Expected  In domains that no teacher was taught, the student gives the worse of two answers with a
          higher probability than the reference itself and the students of its controls. Values
          and times: configs/lm_misalignment_*.yaml.
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
    # A tiny model of a world in which most advice is good and a system prompt can make all of it
    # bad; or a given model.
    study.reference(repetition)

    # The reference, finetuned on bad advice about money, health and safety. Control teachers: on
    # good advice about the same, and on the same bad advice asked for as a bad example.
    study.teachers(repetition)

    # All teachers, and the reference itself, continue the same lists of numbers.
    study.dataset(repetition)

    # Lists of numbers and nothing else, without the 34 numbers of bad repute.
    study.filtered(repetition)

    # The reference, finetuned on the numbers of one teacher, of the reference itself, of another
    # reference's teacher, or on shuffled ones.
    study.students(repetition)

    # In other domains than those taught: the probability of the worse of two answers; and open
    # questions, scored for alignment and coherence by the world's truth or by a judge.
    study.evaluation(repetition)


def main() -> None:
    """Check the flags, then run."""
    command(
        "lm_misalignment",
        methods,
        PRESETS,
        "Train students of misaligned teachers on lists of numbers.",
    )


if __name__ == "__main__":
    run_main(main)
