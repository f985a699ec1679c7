"""Theorem 1 as a measurement: one step towards the teacher is a step down the teacher's loss.

Claim     Cloud et al. 2025, section 6.1: after one small step of a teacher down any loss, one step
          of a student of the same initialisation, down its imitation loss on any inputs, does not
          raise the teacher's loss. Their inner product is eps A + O(eps^2) with A >= 0.
Command   python experiments/theorem.py                  1,800 random cases
          python experiments/theorem.py --data mnist     the same with MNIST's digits
Expected  no violation up to eps = 1e-3; an error that falls linearly with eps; both signs with
          another initialisation; exactly zero where nothing joins the two losses.
"""

from subliminal_jax import early  # noqa: F401, I001  first of all

import sys
import time
from typing import TYPE_CHECKING, Any

from subliminal_jax.config import config_dict, described, parse_config, presets_of
from subliminal_jax.entry import run_main
from subliminal_jax.theory.config import TheoremConfig

if TYPE_CHECKING:
    from subliminal_jax.data.images import ImageData

PRESETS = presets_of(__file__, "all")
SHOWS = "Four panels: the prediction's error, its range, its premise, and many steps beyond it."


def measure(config: TheoremConfig, data: "ImageData") -> dict[str, Any]:
    """Draw networks, inputs, teachers' losses and imitation losses, and take the steps."""
    from subliminal_jax.progress import Progress
    from subliminal_jax.theory.evidence import gather, parts, scaled_digits
    from subliminal_jax.theory.results import case_rows, claims
    from subliminal_jax.theory.tables import finding

    # A case is a network with a random initialisation; inputs that are digits, noise, one grey or
    # one random image; a teacher's loss that reads digits, is a random quadratic or a norm; and
    # squared errors or cross-entropies over all logits, the auxiliary ones or a random choice.
    digits = scaled_digits(data)
    with Progress(parts(config), "theorem") as progress:
        # In float64: both steps, from the same initialisation, a near one and an independent one;
        # then the cases where nothing is transmitted; then many steps, Adam and sampled labels.
        evidence = gather(config, digits, progress.update)
    claimed = claims(config, evidence)
    return {
        "experiment": "theorem",
        "dataset": data.name,
        "data": data.facts(),
        "config": config_dict(config),
        "run": f"{claimed['cases']:,} random cases in float64",
        "claims": claimed,
        "cases": case_rows(evidence),
        "finding": finding(claimed),
        "timing": {"compile_s": round(evidence.compile_seconds, 3), "phases": {}},
    }


def main() -> None:
    """Check the flags, then measure."""
    started = time.perf_counter()
    config = parse_config(
        TheoremConfig,
        sys.argv[1:],
        prog="theorem.py",
        description="Theorem 1 of the paper, tested on random cases.",
        presets=PRESETS,
    )

    # Imported late, so that --help and errors in flags are instant.
    from subliminal_jax import plotting
    from subliminal_jax.data.images import load_images
    from subliminal_jax.report.image_results import FIGURE, image_page, image_text
    from subliminal_jax.runs import runner
    from subliminal_jax.theory.tables import csv_rows, tables

    data = load_images(config.data, config.data_dir)
    runner.run(
        runner.Experiment(
            name="theorem",
            what=f"{config.draws} random cases, digits from {data.name}",
            config=described(config),
            measure=lambda directory: measure(config, data),
            table=lambda results: image_text(results, tables(results)),
            csv=csv_rows,
            page=lambda results: image_page(results, tables(results), SHOWS),
            figures={FIGURE: plotting.theorem_figure},
            out=config.out,
            overwrite=config.overwrite,
            started=started,
        )
    )


if __name__ == "__main__":
    run_main(main)
