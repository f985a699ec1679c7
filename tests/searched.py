"""Searches the datasets of a finished toy run with every detector that needs no other trait."""

from scripts import loaded

from subliminal_jax.audit import experiment
from subliminal_jax.audit.config import DetectConfig, DetectionConfig

ALONE = ("in_context", "prompted", "pairs", "likelihood", "ngrams")
"""Detectors that need no other trait."""


def searched(run, detectors=ALONE):
    """The results; the detection's run directory is beside that of the datasets."""
    detect = DetectConfig(detectors=detectors, sizes=(1,), most=1, bags=8, questions=1, folds=2)
    return experiment.run(
        DetectionConfig(run=run, out=run.parent / "detection", detect=detect),
        loaded("lm_detection")["methods"],
        "lm_detection",
    )
