"""The detectors work with a new carrier and a new trait, without changes to the library."""

from dataclasses import fields, replace

from language import tiny
from test_seams import Colour, Weekdays

from subliminal_jax.audit import experiment
from subliminal_jax.audit.config import DetectConfig, DetectionConfig
from subliminal_jax.language.carriers import CARRIERS
from subliminal_jax.language.config import LmConfig
from subliminal_jax.language.traits import TRAITS

ALONE = ("in_context", "prompted", "pairs", "likelihood", "ngrams")
"""Detectors that need no other trait."""


def test_weekdays_are_searched_for_greyness(tmp_path, monkeypatch):
    monkeypatch.setitem(CARRIERS, "weekdays", lambda generate: Weekdays())
    monkeypatch.setitem(TRAITS, "greyness", Colour())
    base = tiny(tmp_path / "cache")
    given = {one.name: getattr(base, one.name) for one in fields(LmConfig)}
    given |= {
        "traits": ("greyness",), "generate": replace(base.generate, carrier="weekdays"),
        "filter": replace(base.filter, rows=20), "out": tmp_path / "run",
    }  # fmt: skip
    detect = DetectConfig(detectors=ALONE, sizes=(1,), most=2, bags=8, questions=1, folds=2)
    results = experiment.run(
        DetectionConfig(**given, detect=detect),
        lambda audit, r: [getattr(audit, name)(r) for name in ALONE],
    )
    assert {unit["detector"] for unit in results["units"]} == set(ALONE)
    assert {unit["against"] for unit in results["units"]} == {"reference"}  # it is the only trait
    asked = [unit for unit in results["units"] if unit["detector"] == "in_context"]
    assert all(0 < unit["p_trait"] < 1 and unit["named"] is None for unit in asked)
    assert results["items"] == "days"
    page = (tmp_path / "run" / "report.html").read_text()
    assert "shown the days and asked what their writer answers" in page
