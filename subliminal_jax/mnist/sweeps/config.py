"""Settings of a sweep of the MNIST experiment: any of its settings can be an axis."""

import contextlib
import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeAlias

import tyro

from subliminal_jax.config import Scale, config_dict, nearest, with_settings
from subliminal_jax.errors import InputError
from subliminal_jax.mnist.config import MnistConfig

StudentName: TypeAlias = Literal["student_aux", "student_all", "cross_model_aux", "cross_model_all"]
CONTROL: StudentName = "cross_model_aux"
"""The student of another initialisation, with which the others are compared."""

# Settings that a sweep holds fixed: where and how to run, and which members and students.
FIXED = (
    *("members", "seed", "data", "data_dir", "pairs", "execution", "devices", "members_at_once"),
    *("block", "out", "overwrite", "sweep", "cases", "published", "students", "controls"),
)
NOT_FLAGS = ("sweep", "cases", "published")
MAX_CELLS = 1000


@dataclass(frozen=True, kw_only=True)
class SweepConfig(MnistConfig):
    """The MNIST experiment at every point of a grid, or for every one of some named cases."""

    sweep: tuple[str, ...] = ()
    """Axes such as aux=1,2,3: a setting and its values; all combinations are run."""
    cases: Annotated[dict[str, dict[str, Any]], tyro.conf.Suppress] = field(default_factory=dict)
    """Instead of axes: named cases, with the settings that each changes."""
    published: Annotated[dict[str, dict[str, tuple[float, ...]]], tyro.conf.Suppress] = field(
        default_factory=dict
    )
    """Published accuracy by cell and arm, with half the width of its interval if known."""
    students: tuple[StudentName, ...] = ("student_aux",)
    """Students in every cell."""
    controls: Literal["all", "ends", "none"] = "all"
    """Cells with an aux-only student of another initialisation: every one, the first and the
    last, or none (the reference is a control in every cell)."""
    sigma: Scale = 0.0
    """Noise on the initialisation of same-initialisation students, in standard deviations."""
    shares: Literal["all", "heads", "class_head", "aux_head"] = "all"
    """Part that a same-initialisation student takes from its teacher's initialisation; the rest
    is drawn afresh."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sweep and self.cases:
            raise InputError("sweep: these settings name cases; give either axes or cases")
        if self.sigma and self.shares != "all":
            raise InputError("sigma: noise needs --shares all; drop one of the two")
        if not self.students:
            raise InputError("students: give at least one")
        if self.student_depth not in (None, self.depth) and self.sigma:
            raise InputError("sigma: students of another depth start afresh; drop it")


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One point of a sweep.

    Attributes:
        name: name, unique within the sweep.
        changes: the settings that it changes.
        config: everything that is set in it.
    """

    name: str
    changes: dict[str, Any]
    config: SweepConfig


def gather_flags(words: Sequence[str]) -> list[str]:
    """Join all `--sweep` flags of a command line into one, so that each may give an axis."""
    given = "--sweep" in words
    rest, axes, words = [], [], list(words)
    while words:
        word = words.pop(0)
        if word == "--sweep":
            while words and not words[0].startswith("--"):
                axes.append(words.pop(0))
        elif word.startswith("--sweep="):
            axes.append(word.removeprefix("--sweep="))
        else:
            rest.append(word)
    return [*rest, "--sweep", *axes] if axes or given else rest


def cells(config: SweepConfig) -> list[Cell]:
    """Return every cell of a sweep, in order; the last axis varies fastest.

    Raises:
        InputError: an axis is not a setting, is fixed in a sweep, has no values or repeats one; or
            a cell is refused (it is named).
    """
    if config.cases:
        return [_cell(config, name, changes) for name, changes in config.cases.items()]
    if not config.sweep:
        raise InputError("sweep: give at least one axis, such as --sweep aux=1,2,3")
    axes = [_axis(text) for text in config.sweep]
    names = [name for name, _ in axes]
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(f"sweep: {twice[0]} is given twice; give all its values in one axis")
    points = list(itertools.islice(itertools.product(*(v for _, v in axes)), MAX_CELLS + 1))
    if len(points) > MAX_CELLS:
        raise InputError(f"sweep: more than {MAX_CELLS} cells; give fewer values or axes")
    return [
        _cell(config, " ".join(f"{n}={_text(v)}" for n, v in zip(names, point, strict=True)),
              dict(zip(names, point, strict=True)))
        for point in points
    ]  # fmt: skip


def _axis(text: str) -> tuple[str, list[Any]]:
    name, equals, listed = text.partition("=")
    name = name.strip().replace("-", "_")
    settings = [f.name for f in dataclasses.fields(SweepConfig)]
    if name not in settings:
        free = [setting for setting in settings if setting not in FIXED]
        raise InputError(f"sweep: {name!r} is not a setting; {nearest(name, free)}")
    if name in FIXED:
        flag = "" if name in NOT_FLAGS else f"; give it once, as --{name.replace('_', '-')}"
        raise InputError(f"sweep: {name} is the same in all cells{flag}")
    words = [word.strip() for word in listed.split(",")] if equals else []
    if not words or not all(words):
        raise InputError(f"sweep: {text!r} lacks a value; write {name}=VALUE,VALUE,...")
    values = [_value(word) for word in words]
    if len({str(value) for value in values}) < len(values):
        raise InputError(f"sweep: {text!r} has a value twice")
    return name, values


def _value(word: str) -> Any:
    """Parse a number, a boolean or text as flags do; 0:1 is the pair of 0 and 1."""
    if ":" in word:
        return [_value(part) for part in word.split(":")]
    if word.lower() in ("true", "false"):
        return word.lower() == "true"
    for number in (int, float):
        with contextlib.suppress(ValueError):
            return number(word)
    return word


def _text(value: Any) -> str:
    """Return the shortest text that identifies a value."""
    if isinstance(value, list):
        return ":".join(_text(part) for part in value)
    if isinstance(value, float) and float(f"{value:g}") == value:
        return f"{value:g}"
    return str(value)


def _cell(config: SweepConfig, name: str, changes: dict[str, Any]) -> Cell:
    for setting in changes:
        if setting in FIXED:
            raise InputError(f"cell {name}: {setting} is the same in all cells")
    nothing = {"sweep": [], "cases": {}, "published": {}}
    cell = with_settings(config, nothing | changes, f"cell {name}: ")
    return Cell(name=name, changes=changes, config=cell)


def plain(cell: Cell) -> dict[str, Any]:
    """Return a cell's changed settings as plain values."""
    values = config_dict(cell.config)
    return {name: values[name] for name in cell.changes}
