"""Figures of a run: the only package that imports matplotlib."""

from subliminal_jax.plotting import agg  # noqa: F401  before anything else of matplotlib
from subliminal_jax.plotting.alignment import alignment_figure
from subliminal_jax.plotting.bars import bar_figure
from subliminal_jax.plotting.canvas import RenderedFigure, render, render_body
from subliminal_jax.plotting.detection import detection_figure
from subliminal_jax.plotting.language import controls_figure, traits_figure
from subliminal_jax.plotting.matrix import matrix_figure
from subliminal_jax.plotting.relations import relation_figure
from subliminal_jax.plotting.sweep import sweep_figure
from subliminal_jax.plotting.theorem import theorem_figure

__all__ = [
    "RenderedFigure",
    "alignment_figure",
    "bar_figure",
    "controls_figure",
    "detection_figure",
    "matrix_figure",
    "relation_figure",
    "render",
    "render_body",
    "sweep_figure",
    "theorem_figure",
    "traits_figure",
]
