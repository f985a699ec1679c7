"""What the measurements say about the theorem, in words and tables."""

from collections.abc import Mapping
from typing import Any

from subliminal_jax.report.results import bracketed, percent
from subliminal_jax.report.tables import CsvRows, Table
from subliminal_jax.theory.evidence import EPS, STEPS


def finding(claims: Mapping[str, Any]) -> str:
    """Return a summary: whether the theorem held, and what it needs."""
    broken = claims["violations"]["inner"] + claims["violations"]["loss"]
    verdict = "holds in all" if not broken else f"fails in {broken} of"
    other = claims["broken"]["other_positive"]
    return (
        f"Theorem 1 {verdict} {claims['cases']:,} random cases at steps up to "
        f"{claims['small']:g} of the initialisation's norm: a student of the same initialisation "
        f"moves with its teacher and lowers its loss. From another initialisation it moves with "
        f"its teacher in {percent(other)} of cases, against it in the others."
    )


def tables(results: Mapping[str, Any]) -> list[Table]:
    """Return a table for every claim."""
    claims = results["claims"]
    return [
        _eps_table(claims),
        _kind_table(claims),
        _broken_table(claims),
        _degenerate_table(claims),
        _beyond_table(claims),
    ]


def _eps_table(claims: Mapping[str, Any]) -> Table:
    order, n = claims["order"], claims["cases"]
    low, high = order["ci95"]
    return Table(
        "One step of each, same initialisation, by the teacher's step eps",
        ("eps", "error of eps A, median", "95% of cases", "D_S.D_T <= 0", "loss not lowered"),
        tuple(
            (
                f"{row['eps']:.0e}",
                f"{row['error_median']:.1e}",
                f"{row['error_95']:.1e}",
                f"{row['wrong_sign']} of {n}",
                f"{row['loss_risen']} of {n}",
            )
            for row in claims["eps"][::2]
        ),
        f"eps is in units of the norm of the initialisation; the student's step is as long as its "
        f"teacher's. The relative error of the predicted inner product eps A falls with eps to "
        f"the power {order['mean']:.3f} [{low:.3f}, {high:.3f}] (mean over cases).",
    )


def _kind_table(claims: Mapping[str, Any]) -> Table:
    limit = claims["small"]
    return Table(
        "Where the signs are right, by kind of case",
        ("", "cases", "violations", "largest eps: min", "median", "largest step: min", "median"),
        tuple(
            (
                row["kind"],
                str(row["cases"]),
                f"{row['wrong_sign']}, {row['loss_risen']}",
                *(
                    f"{row[of][place]:.1e}"
                    for of in ("largest_eps", "largest_step")
                    for place in (0, 2)
                ),
            )
            for row in claims["kinds"]
            if row["cases"]
        ),
        f"Violations up to eps = {limit:g}: wrong sign of the inner product, loss not lowered. "
        f"Largest step: the student's, in units of its teacher's, that lowers the teacher's loss "
        f"at eps = {limit:g}; the grids end at eps = {EPS[-1]:g} and step = {STEPS[-1]:g}.",
    )


def _broken_table(claims: Mapping[str, Any]) -> Table:
    broken = claims["broken"]
    near = tuple(
        (f"same + noise of {row['sigma_over_eps']:g} eps", percent(row["positive"]),
         bracketed(row["cosine"]))
        for row in broken["near"][::2]
    )  # fmt: skip
    other = ("independent", percent(broken["other_positive"]), bracketed(broken["other_cosine"]))
    return Table(
        "Without the shared initialisation",
        ("student's initialisation", "D_S.D_T > 0", "cosine of D_S and D_T"),
        (*near, other),
        f"At eps = {claims['small']:g}; noise in units of each weight's initial standard "
        f"deviation. The part of an independent student's step that its teacher's step causes "
        f"points down the teacher's loss in {percent(broken['other_effect_positive'])} of cases. "
        f"That student's own step lowers the loss in {percent(broken['other_loss_fell'])}: "
        f"imitating even an untrained network shrinks large logits.",
    )


def _degenerate_table(claims: Mapping[str, Any]) -> Table:
    return Table(
        "Nothing to transmit",
        ("case", "cases", "largest |D_S.D_T| / |D_T|", "largest |dD_S/deps|"),
        tuple(
            (case, str(row["cases"]), f"{row['largest_inner']:.1e}", f"{row['largest_update']:.1e}")
            for case, row in claims["degenerate"].items()
        ),
        "Exactly 0 in the first two cases, 0 up to rounding in the last.",
    )


def _beyond_table(claims: Mapping[str, Any]) -> Table:
    return Table(
        "Beyond the theorem: many steps, Adam, sampled labels",
        ("student", "start", "cosine of displacements", "teacher's loss fell", "share of its gain"),
        tuple(
            (
                f"{row['optimizer']} x {row['steps']}, {row['labels']}",
                row["start"],
                bracketed(row["cosine"]),
                percent(row["loss_fell"]),
                f"{row['share_of_teachers']:.3f}",
            )
            for row in claims["beyond"]
        ),
        "Teacher: cross-entropy on digits; student: its auxiliary logits on the case's inputs; as "
        "many steps each. Share of its gain: median over cases of the student's change of the "
        "teacher's loss over the teacher's own.",
        names=2,
    )


def csv_rows(results: Mapping[str, Any]) -> CsvRows:
    """Return a CSV row for every case."""
    cases = results["cases"]
    return list(cases[0]), (list(case.values()) for case in cases)
