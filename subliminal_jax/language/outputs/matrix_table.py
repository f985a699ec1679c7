"""The matrix of teachers' and students' references as a table."""

from collections.abc import Mapping
from typing import Any

from subliminal_jax.language.conditions import CROSSED
from subliminal_jax.report.results import briefly
from subliminal_jax.report.tables import Table


def matrix_tables(results: Mapping[str, Any]) -> list[Table]:
    """The matrix, and its diagonal minus the rest; none without `crossed`."""
    if "matrix" not in results:
        return []
    crossed = results["matrix"]
    gain = results["summary"]["student_minus"].get(CROSSED.name)
    contrast = "no pair of students to compare"
    if gain is not None:
        contrast = f"{briefly(gain, '+.3f')} over {gain['n']} references of teachers"
    seeds = [str(seed) for seed in crossed["references"]]
    rows = [
        (seed, *("-" if value is None else f"{value:.3f}" for value in values))
        for seed, values in zip(seeds, crossed["p_trait"], strict=True)
    ]
    note = (
        "P(trait), mean over traits. Rows: reference of the teacher; columns: reference of the "
        f"student. Diagonal minus the rest of its row: {contrast}."
    )
    return [Table("Teacher's and student's reference", ("teacher", *seeds), tuple(rows), note)]
