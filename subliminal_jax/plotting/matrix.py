"""Figure of the matrix: P(trait) by the teacher's and by the student's reference."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from subliminal_jax.plotting.canvas import INK, WIDTH, Sheet, styled

SIDE, FOOT, LEFT = 3.6, 0.55, 0.9  # inches
DARK = 0.6
"""Cells above it have white text."""


@styled
def matrix_figure(results: Mapping[str, Any]) -> Figure:
    """Draw the matrix as cells with their values; on the diagonal both references are the same.

    Args:
        results: the results of a run with `crossed`.

    Returns:
        A figure on an Agg canvas, 8 inches wide; `render` gives its files.
    """
    matrix = results["matrix"]
    values = np.array(matrix["p_trait"], np.float64)  # None becomes NaN, an empty cell
    names = [str(reference) for reference in matrix["references"]]
    sheet = Sheet(results, SIDE + FOOT)
    axes = sheet.axes((WIDTH - SIDE + LEFT) / 2, FOOT, SIDE - 0.2, SIDE - 0.2)
    axes.imshow(values, cmap="Blues", vmin=0.0, vmax=1.0)
    for row, column in np.argwhere(np.isfinite(values)).tolist():
        value = values[row, column]
        colour = "white" if value > DARK else INK
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", color=colour)
    places = range(len(names))
    axes.set_xticks(places, names, parse_math=False)
    axes.set_yticks(places, names, parse_math=False)
    axes.set_xlabel("student's reference")
    axes.set_ylabel(f"reference of the teacher of the {results['items']}")
    return sheet.figure
