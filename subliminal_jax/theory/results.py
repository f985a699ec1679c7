"""What the measurements say about the theorem, as plain values."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from subliminal_jax.report.results import interval_values
from subliminal_jax.stats import mean_interval, proportion_interval
from subliminal_jax.theory.cases import IMITATIONS, INPUTS, TRAITS, kinds_of
from subliminal_jax.theory.config import TheoremConfig
from subliminal_jax.theory.evidence import EPS, NEARNESS, STEPS, Evidence
from subliminal_jax.theory.theorem import Measured

# Steps at which the error is far above rounding yet small: eps from 1e-6 to 1e-4.
FOR_ORDER = slice(0, 5)
STARTS, LABELS = ("same", "different"), ("teacher's logits", "sampled labels")


class Cases(NamedTuple):
    """The cases of all families together, every array `[N, ...]`.

    Attributes:
        number: number of each case.
        network: name of its network in the config.
        measured: the measurements.
    """

    number: Int[np.ndarray, " n"]
    network: list[str]
    measured: Measured

    @property
    def empty(self) -> Bool[np.ndarray, " n"]:
        """Where the prediction is exactly 0: to first order, nothing is transmitted."""
        return self.measured.slope == 0

    @property
    def error(self) -> Float[np.ndarray, "n e"]:
        """Relative error of `eps * A` for the inner product; nan where A is 0."""
        slope = np.where(self.empty, np.nan, self.measured.slope)
        return np.abs(self.measured.inner / (EPS * slope[:, None]) - 1)

    @property
    def order(self) -> Float[np.ndarray, " n"]:
        """The power of eps with which the relative error falls: the slope of a log-log plot."""
        x = np.log(EPS[FOR_ORDER]) - np.log(EPS[FOR_ORDER]).mean()
        return np.log(np.maximum(self.error[:, FOR_ORDER], 1e-300)) @ x / (x @ x)

    @property
    def wrong_sign(self) -> Bool[np.ndarray, "n e"]:
        """Where the inner product is negative, or 0 although A is not."""
        inner = self.measured.inner
        return (inner < 0) | ((inner == 0) & ~self.empty[:, None])

    @property
    def risen(self) -> Bool[np.ndarray, "n e"]:
        """Where a student's step of its teacher's length did not lower the teacher's loss."""
        return (self.measured.change >= 0) & ~self.empty[:, None]

    def largest(self, fails: Bool[np.ndarray, "n g"], grid: Float[np.ndarray, " g"]) -> Any:
        """For each case, the last grid point before the first failure; 0 if the first fails."""
        kept = np.cumsum(fails, axis=1) == 0
        return np.max(np.where(kept, grid, 0.0), axis=1)


def collect(evidence: Evidence) -> Cases:
    """Join the cases of all families."""
    families = evidence.families
    return Cases(
        np.concatenate([family.numbers for family in families]),
        [family.network for family in families for _ in family.numbers],
        Measured(
            *(
                np.concatenate(leaves)
                for leaves in zip(*(f.measured for f in families), strict=True)
            )
        ),
    )


def claims(config: TheoremConfig, evidence: Evidence) -> dict[str, Any]:
    """Return every number that a claim is based on.

    Args:
        config: config of the run.
        evidence: the measurements.

    Returns:
        Plain values: `cases`, `eps`, `steps`, `kinds`, `broken`, `degenerate`, `beyond`.
    """
    cases = collect(evidence)
    small = int(np.argmin(np.abs(EPS - config.small)))
    largest_eps = cases.largest(cases.wrong_sign, EPS)
    largest_step = cases.largest(cases.measured.step_change >= 0, STEPS)
    return {
        "cases": len(cases.number),
        "empty": int(cases.empty.sum()),
        "small": float(EPS[small]),
        "violations": {
            "inner": int(cases.wrong_sign[:, : small + 1].any(axis=1).sum()),
            "loss": int(cases.risen[:, : small + 1].any(axis=1).sum()),
        },
        "order": _interval(cases.order[~cases.empty]),
        "eps": [
            {
                "eps": float(eps),
                "error_median": float(np.nanmedian(cases.error[:, e])),
                "error_95": float(np.nanquantile(cases.error[:, e], 0.95)),
                "wrong_sign": int(cases.wrong_sign[:, e].sum()),
                "loss_risen": int(cases.risen[:, e].sum()),
            }
            for e, eps in enumerate(EPS)
        ],
        "steps": [
            {
                "step": float(step),
                "loss_risen": int((cases.measured.step_change[~cases.empty, s] >= 0).sum()),
            }
            for s, step in enumerate(STEPS)
        ],
        "kinds": [
            {
                "kind": name,
                "cases": int(which.sum()),
                "wrong_sign": int(cases.wrong_sign[which, : small + 1].any(axis=1).sum()),
                "loss_risen": int(cases.risen[which, : small + 1].any(axis=1).sum()),
                "largest_eps": _quartiles(largest_eps[which]),
                "largest_step": _quartiles(largest_step[which]),
            }
            for name, which in _kinds(cases)
        ],
        "broken": _broken(cases),
        "degenerate": _degenerate(evidence),
        "beyond": list(_beyond(evidence)),
    }


def _degenerate(evidence: Evidence) -> dict[str, Any]:
    return {
        case: {
            "cases": len(measured.inner),
            "largest_inner": float(np.abs(measured.inner / measured.norm[:, None]).max()),
            "largest_update": float(measured.student_slope.max()),
        }
        for case, measured in evidence.degenerate.items()
    }


def _kinds(cases: Cases) -> Iterator[tuple[str, Bool[np.ndarray, " n"]]]:
    kinds = np.array([kinds_of(int(number)) for number in cases.number])
    for place, (heading, names) in enumerate(
        (("inputs", INPUTS), ("teacher's loss", TRAITS), ("imitation", IMITATIONS))
    ):
        for index, name in enumerate(names):
            yield f"{heading}: {name}", kinds[:, place] == index
    for network in dict.fromkeys(cases.network):
        yield f"network: {network}", np.array(cases.network) == network


def _broken(cases: Cases) -> dict[str, Any]:
    """Return the effect from an independent initialisation, and from a perturbed one."""
    measured = cases.measured
    return {
        "other_positive": _share(measured.other_cosine > 0),
        "other_cosine": _interval(measured.other_cosine),
        "other_effect_positive": _share(measured.other_effect > 0),
        "other_loss_fell": _share(measured.other_change < 0),
        "near": [
            {
                "sigma_over_eps": float(nearness),
                "positive": _share(measured.perturbed_cosine[:, p] > 0),
                "cosine": _interval(measured.perturbed_cosine[:, p]),
            }
            for p, nearness in enumerate(NEARNESS)
        ],
    }


def _beyond(evidence: Evidence) -> Iterator[dict[str, Any]]:
    for (optimizer, steps), moved in evidence.moved.items():
        for s, start in enumerate(STARTS):
            for k, labels in enumerate(LABELS):
                yield {
                    "optimizer": optimizer,
                    "steps": steps,
                    "start": start,
                    "labels": labels,
                    "cosine": _interval(moved.cosine[:, s, k]),
                    "loss_fell": _share(moved.change[:, s, k] < 0),
                    "share_of_teachers": float(
                        np.median(moved.change[:, s, k] / moved.teacher_change[:, s, k])
                    ),
                }


def _share(happened: Bool[np.ndarray, " n"]) -> dict[str, Any]:
    return interval_values(proportion_interval(int(happened.sum()), len(happened)))


def _interval(values: Float[np.ndarray, " n"]) -> dict[str, Any]:
    return interval_values(mean_interval(values))


def _quartiles(values: Float[np.ndarray, " n"]) -> list[float]:
    """Return minimum and quartiles; empty without a case."""
    if not len(values):
        return []
    return [float(q) for q in np.quantile(values, (0, 0.25, 0.5, 0.75), method="lower")]


def case_rows(evidence: Evidence) -> list[dict[str, Any]]:
    """Return a row for every case, in full precision."""
    cases = collect(evidence)
    largest_eps = cases.largest(cases.wrong_sign, EPS)
    largest_step = cases.largest(cases.measured.step_change >= 0, STEPS)
    rows = []
    for n, number in enumerate(cases.number):
        inputs, trait, imitation = kinds_of(int(number))
        rows.append(
            {
                "case": int(number),
                "network": cases.network[n],
                "inputs": INPUTS[inputs],
                "trait": TRAITS[trait],
                "imitation": IMITATIONS[imitation],
                "slope": float(cases.measured.slope[n]),
                "order": None if cases.empty[n] else float(cases.order[n]),
                "largest_eps": float(largest_eps[n]),
                "largest_step": float(largest_step[n]),
                "other_cosine": float(cases.measured.other_cosine[n]),
                "other_effect": float(cases.measured.other_effect[n]),
            }
        )
    return rows
