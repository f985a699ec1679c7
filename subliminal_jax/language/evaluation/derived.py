"""What follows from a run's units: summary, matrices and finding.

It is a function of what `results.json` holds, so that pooled runs are summarised as one run is.
"""

from collections.abc import Mapping
from typing import Any

from subliminal_jax.language.conditions import CONDITIONS
from subliminal_jax.language.evaluation.margins import margin_finding, transfer
from subliminal_jax.language.evaluation.results import finding, matrix, summarise
from subliminal_jax.language.traits.trait import primary_measure


def derived(results: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a run's measurements say, for `results.json`.

    These are `finding`, `summary` and `conditions`; `matrix` of a run with `crossed`, `transfer` of
    one with begun answers.

    Args:
        results: `config`, `units`, `items`, `verb`, `unit` and, if answers are begun,
            `traits_matrix` are read.
    """
    config, units, items = results["config"], results["units"], results["items"]
    traits, begun = config["traits"], config["evaluate"]["begun"]
    summary = summarise(units, traits, primary_measure(begun), config["conditions"])
    if begun:
        entries, targets = transfer(results["traits_matrix"]), config["student"]["targets"]
        said = margin_finding(entries, items, targets, summary["conditions"])
    else:
        entries, said = None, finding(summary, traits, items, results["verb"], results["unit"])
    return {
        "finding": said,
        "summary": summary,
        "conditions": {
            name: {
                "means": condition.means.format(items=items),
                "run": name not in summary["missing"],
            }
            for name, condition in CONDITIONS.items()
            if name in summary["missing"] or name in summary["conditions"]
        },
        **({"matrix": matrix(units)} if config["crossed"] else {}),
        **({"transfer": entries} if begun else {}),
    }
