"""The plan of a detection run before it starts: stages, what is judged, time."""

from subliminal_jax.audit.config import DetectionConfig
from subliminal_jax.audit.detectors import AGAINST, DETECTORS, Detector
from subliminal_jax.language.outputs.plan import (
    dataset_stages,
    stage_table,
    tiny_line,
    tiny_minutes,
)

SIDES = 3
"""Sets that a model is shown of a pair: the two, and the positive control."""
FIT = 3
"""Sizes of sets that a tiny reference's context holds, of the usual ones."""
CHAT_SECONDS, ROW_SECONDS = 5e-3, 1e-3
"""CPU time to show a tiny reference a chat, and to score a row; a rough measurement."""


def format_plan(config: DetectionConfig) -> str:
    """The stages as a table, and what they take."""
    if config.run is not None:
        stages = {"datasets": f"read from {config.run}, whose settings replace those given here"}
    else:
        stages = dataset_stages(config)
    chosen = [DETECTORS[name] for name in config.detect.detectors]
    chats = sum(_chats(config, one) for one in chosen)
    rows = sum(_rows(config, one) for one in chosen)
    stages["detect"] = (
        f"{len(chosen)} detectors: a model reads {chats:,} chats, {rows:,} rows are scored"
    )
    stages["report"] = "once: a figure, results.json, results.csv, report.html"
    return "\n".join([*stage_table(config, stages), "", _time(config, chats, rows)])


def _time(config: DetectionConfig, chats: int, rows: int) -> str:
    if config.reference.model is not None:
        return "each chat is at most as long as the model's context; the time was not measured"
    minutes = 0.0 if config.run is not None else tiny_minutes(config, 0.0)
    seconds = config.references * (chats * CHAT_SECONDS + rows * ROW_SECONDS)
    return tiny_line(config, minutes + seconds / 60)


def _tasks(config: DetectionConfig, detector: Detector) -> int:
    """Pairs of datasets to tell apart."""
    told = 1 if detector.needs_others or len(config.traits) == 1 else len(AGAINST)
    return len(config.traits) * told


def _chats(config: DetectionConfig, detector: Detector) -> int:
    """Chats that a model reads, at most; none for detectors that score single rows."""
    if not detector.shown:
        return 0
    settings = config.detect
    asked = 2 * 2 if detector.measure == "accuracy" else SIDES * settings.questions
    sizes = min(len(settings.sizes) + 1, FIT)
    return _tasks(config, detector) * sizes * settings.bags * asked


def _rows(config: DetectionConfig, detector: Detector) -> int:
    """Rows that are scored, or learnt from and scored; none for detectors that show sets."""
    if detector.shown:
        return 0
    each = min(config.detect.rows, config.filter.rows)
    return _tasks(config, detector) * 4 * each
