"""Settings: a typed config made from a preset or a YAML file and from flags, or refused.

A config is a frozen, keyword-only dataclass whose fields carry their bounds as pydantic
constraints and their help as docstrings:

    @dataclass(frozen=True, kw_only=True)
    class Config:
        members: Annotated[int, Field(ge=1)] = 25
        "How many networks are trained side by side."

tyro (https://brentyi.github.io/tyro) reads the flags, pydantic (https://docs.pydantic.dev) checks
the values wherever they come from. Neither imports JAX, so a refusal takes a fraction of a second.
"""

import contextlib
import dataclasses
import difflib
import hashlib
import io
import itertools
import json
import os
import shutil
import typing
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

import tyro
from pydantic import Field, TypeAdapter, ValidationError

from subliminal_jax.errors import InputError, RunError
from subliminal_jax.files import strict_json
from subliminal_jax.process.memory_limit import check_memory_limit
from subliminal_jax.strict_yaml import dump_yaml, read_yaml

Count: TypeAlias = Annotated[int, Field(ge=1, lt=2**31)]
Natural: TypeAlias = Annotated[int, Field(ge=0, lt=2**31)]
Positive: TypeAlias = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Scale: TypeAlias = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction: TypeAlias = Annotated[float, Field(ge=0, le=1)]
Seed: TypeAlias = Annotated[int, Field(ge=0, lt=2**32)]
"""The bounded numbers that configs are made of."""

Precision: TypeAlias = Literal["float32", "bfloat16"]
"""Dtype of the operands of matrix products; sums are float32."""
PrecisionSetting: TypeAlias = Literal["float32", "bfloat16", "auto"]
"""A precision, or the one in which the machine multiplies faster; see `runs.precision`."""
Activation: TypeAlias = Literal["relu", "tanh", "gelu"]
"""Activation of a multilayer perceptron."""
DatasetName: TypeAlias = Literal["mnist", "digits"]
"""Images of digits: MNIST, or scikit-learn's 8x8 ones."""

C = TypeVar("C")

_PLAIN_WORDS = {
    "invalid literal for int() with base 10: ": "should be a whole number, not ",
    "could not convert string to float: ": "should be a number, not ",
}


def config_dict(config: Any) -> dict[str, Any]:
    """Turns a config into plain values as JSON has them: paths are text, tuples are lists."""
    return TypeAdapter(type(config)).dump_python(config, mode="json")


PLACEMENT = ("out", "overwrite", "data_dir")
"""Settings of most experiments that say where a run reads and writes, not what it is."""


def described(config: Any, without: Collection[str] = PLACEMENT) -> dict[str, Any]:
    """A config as plain values, without the settings that change no result.

    Args:
        config: any config.
        without: the names of those settings, dotted for nested ones.
    """
    values = config_dict(config)
    for name in without:
        *groups, last = name.split(".")
        inner = values
        for group in groups:
            inner = inner[group]
        del inner[last]
    return values


def config_digest(values: dict[str, Any]) -> str:
    """SHA-256, in hex, of a config's plain values, in any order."""
    canonical = json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _fields(cls: Any) -> dict[str, Any]:
    """The fields of a dataclass with, for each, the dataclass it holds, if any."""
    fields = {}
    for name, hint in typing.get_type_hints(cls).items():
        candidates = (hint, *typing.get_args(hint))
        fields[name] = next((c for c in candidates if dataclasses.is_dataclass(c)), None)
    return fields


def _setting_names(cls: Any, prefix: str = "") -> list[str]:
    """All settings as dotted names; those of nested configs too."""
    names = []
    for name, nested in _fields(cls).items():
        inner = _setting_names(nested, f"{prefix}{name}.") if nested is not None else []
        names += inner or [prefix + name]
    return names


def nearest(word: str, names: list[str]) -> str:
    """Return a hint for a name that does not exist: the nearest one, or where all of them are."""
    group = word.rpartition(".")[0]
    siblings = [name for name in names if group and name.rpartition(".")[0] == group]
    # Within a group that exists, the shared beginning would make everything look near.
    near = {name.removeprefix(group + "."): name for name in siblings} or {n: n for n in names}
    close = difflib.get_close_matches(word.removeprefix(group + ".") if siblings else word, near)
    if close:
        return f"did you mean {near[close[0]]}?"
    return f"there are {', '.join(siblings)}" if siblings else "see --help for all of them"


def _complaint(cls: type, error: ValidationError) -> str:
    """The first fault pydantic found, on one line: field, what is wrong, what stands there."""
    faults = error.errors(include_url=False)
    fault = faults[0]
    name = ".".join(str(part) for part in fault["loc"])
    if fault["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        names = _setting_names(cls)
        groups = {name.rpartition(".")[0] for name in names} - {""}
        text = f"{name}: no such setting; {nearest(name, [*names, *sorted(groups)])}"
    elif fault["type"] in ("missing", "missing_argument"):
        text = f"{name}: missing; add it"
    elif fault["type"] == "value_error":
        text = f"{name}: {fault['ctx']['error']}" if name else str(fault["ctx"]["error"])
    else:
        given = json.dumps(fault["input"], default=str)
        given = given if len(given) <= 60 else given[:57] + "..."
        text = f"{name}: {fault['msg'].replace('Input should', 'should')}, not {given}"
    return text if len(faults) == 1 else f"{text} (and {len(faults) - 1} more)"


def _validate(cls: type[C], values: dict[str, Any], where: str) -> C:
    """Checks plain values; `where` begins the message.

    The values go through JSON because pydantic's strict mode for JSON fits: a list may become a
    tuple and text a path, but no text, boolean or fraction becomes a whole number.
    """
    try:
        return TypeAdapter(cls).validate_json(strict_json(values), strict=True, extra="forbid")
    except ValidationError as error:
        raise InputError(where + _complaint(cls, error)) from error
    except RunError as error:
        raise InputError(where + str(error)) from error


def read_config(cls: type[C], path: Path) -> C:
    """Reads a config from a YAML file, which may leave out what has a default.

    Raises:
        InputError: If the file is no plain YAML mapping, or holds an unknown setting, a value of
            the wrong type or out of bounds, or a combination that the config itself refuses. The
            message is one line with file, field and fault.
    """
    return _validate(cls, read_yaml(path), f"{path}: ")


def with_settings(config: C, changes: dict[str, Any], where: str) -> C:
    """The config with some settings changed, judged as those of a file.

    Args:
        config: what is changed.
        changes: plain values by field.
        where: begins the message.

    Raises:
        InputError: as `read_config`.
    """
    return _validate(type(config), config_dict(config) | changes, where)


def _value_of(flag: str, argv: list[str]) -> str | None:
    """The last value given to a flag, found before the flags can be parsed as a whole."""
    value = None
    for word, following in itertools.zip_longest(argv, argv[1:]):
        if word == flag:
            value = following
        elif word.startswith(flag + "="):
            value = word.removeprefix(flag + "=")
    return value


def _base_file(argv: list[str], presets: dict[str, Path]) -> Path:
    preset, file = _value_of("--preset", argv), _value_of("--config", argv)
    if preset is not None and file is not None:
        raise InputError("--preset and --config are both given; give one of them")
    if file is not None:
        return Path(file)
    preset = preset or next(iter(presets))
    if preset not in presets:
        raise InputError(f"--preset: no preset {preset!r}; choose one of {', '.join(presets)}")
    return presets[preset]


def _command_line(cls: type, presets: dict[str, Path]) -> Any:
    """The flags as tyro wants them: a dataclass of our three and the config's own, unprefixed."""
    arg = tyro.conf.arg
    choice = arg(metavar="{" + ",".join(presets) + "}", help="Settings to start from.")
    file = arg(metavar="FILE", help="A YAML file of settings to start from, in place of a preset.")
    show = arg(help="Print the resulting settings as YAML and stop.")
    return dataclasses.make_dataclass(
        "CommandLine",
        [
            ("preset", Annotated[str, choice], dataclasses.field(default=next(iter(presets)))),
            ("config", Annotated[Path | None, file], dataclasses.field(default=None)),
            (
                "print_config",
                Annotated[bool, tyro.conf.FlagCreatePairsOff, show],
                dataclasses.field(default=False),
            ),
            ("settings", Annotated[cls, arg(name="")]),
        ],
        kw_only=True,
    )


def _flatten_box(box: str, cls: type) -> str:
    """One line from the framed message that tyro prints about flags it cannot parse.

    The message stands above the first rule inside the frame. If a later tyro draws it otherwise,
    the line is longer but says the same.
    """
    message: list[str] = []
    for line in box.splitlines():
        inner = line.strip(" │|╭╮╰╯")
        if inner.startswith("──") and message:
            break
        if inner and "─" not in inner:
            message.append(inner)
    text = " ".join(message).removeprefix("Error parsing ").rstrip(".")
    for jargon, plain in _PLAIN_WORDS.items():
        text = text.replace(jargon, plain)
    if not text.startswith("Unrecognized options:"):
        return f"{text}; see --help"
    word = next(iter(text.removeprefix("Unrecognized options:").replace(",", " ").split()), "")
    if not word.startswith("-"):
        return f"unexpected argument {word!r}; settings are given as --name VALUE, see --help"
    names = [f"--{name.replace('_', '-')}" for name in _setting_names(cls)]
    names += ["--preset", "--config", "--print-config"]
    return f"{word}: no such flag; {nearest(word, names)}"


@contextlib.contextmanager
def _wide_enough() -> Iterator[None]:
    """Tells tyro that the terminal has at least 60 columns; tyro hangs if it has only one."""
    before, width = os.environ.get("COLUMNS"), shutil.get_terminal_size().columns
    os.environ["COLUMNS"] = str(max(width, 60))
    try:
        yield
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before


def presets_of(script: str, first: str) -> dict[str, Path]:
    """The configs of a script by the rest of their names, which begin with the script's.

    Args:
        script: Path of the script; the folder `configs` is beside the script's own.
        first: The preset to list first; `parse_config` takes it as the default.
    """
    path = Path(script).resolve()
    own = f"{path.stem}_"
    configs = (path.parent.parent / "configs").glob(f"{own}*.yaml")
    presets = {config.stem.removeprefix(own): config for config in configs}
    return {first: presets.pop(first)} | dict(sorted(presets.items()))


def parse_config(
    cls: type[C],
    argv: list[str],
    *,
    prog: str,
    description: str,
    presets: dict[str, Path],
) -> C:
    """Makes a config from `--preset NAME` or `--config FILE` and from dotted flags on top.

    Args:
        cls: A frozen, keyword-only dataclass; see the module's text.
        argv: The words of the command line, without the program's name.
        prog: The program's name in `--help`.
        description: What the program does, for `--help`.
        presets: The YAML file of each preset. The first is used when neither flag is given.

    Returns:
        The validated config.

    Raises:
        InputError: If a flag, a file or a value is refused; one line that names it. Or if the
            process may have too little memory to do anything.
        SystemExit: With status 0 after `--help` or `--print-config`.
    """
    for word in argv:
        try:
            word.encode()
        except UnicodeEncodeError as error:  # bytes of a file name, as Python passes them on
            raise InputError(f"{word!a}: not UTF-8; give a name that is") from error
    base = read_config(cls, _base_file(argv, presets))
    command_line = _command_line(cls, presets)
    box = io.StringIO()
    try:
        with contextlib.redirect_stderr(box), _wide_enough():
            given = tyro.cli(
                command_line,
                args=argv,
                prog=prog,
                description=description,
                default=command_line(settings=base),
                use_underscores=False,
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        raise InputError(_flatten_box(box.getvalue(), cls)) from stop
    except ValueError as error:  # A combination that the config's own __post_init__ refuses.
        raise InputError(str(error)) from error
    config = _validate(cls, config_dict(given.settings), "--")
    if given.print_config:
        print(dump_yaml(config_dict(config)), end="")
        raise SystemExit(0)
    check_memory_limit()  # here, since every script comes by before it imports what needs memory
    return config
