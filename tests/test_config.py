import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from subliminal_jax import strict_yaml
from subliminal_jax.config import config_dict, config_digest, parse_config, presets_of, read_config
from subliminal_jax.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """The optimizer."""

    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    """Adam's step size."""

    kind: Literal["sgd", "adam"] = "adam"
    """Which rule."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """A small experiment."""

    members: Annotated[int, Field(ge=1)] = 5
    """Networks trained side by side."""

    hidden: tuple[int, ...] = (256, 256)
    """Widths of the hidden layers."""

    out: Path = Path("runs/x")
    """Where results go."""

    verbose: bool = False
    """Say more."""

    limit: int | None = None
    """Stop early."""

    optimizer: Optimizer = field(default_factory=Optimizer)
    """How to train."""

    def __post_init__(self):
        if self.members == 7 and self.verbose:
            raise ValueError("--members 7 cannot be --verbose; drop one of them")


@dataclass(frozen=True, kw_only=True)
class Required:
    """Has no default."""

    steps: int
    """How long."""


@pytest.fixture
def write(tmp_path):
    def write(text: str | bytes) -> Path:
        path = tmp_path / "settings.yaml"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return write


@pytest.fixture
def parse(tmp_path):
    presets = {"quick": tmp_path / "quick.yaml", "paper": tmp_path / "paper.yaml"}
    presets["quick"].write_text("members: 2\noptimizer: {learning_rate: 1e-2}\n")
    presets["paper"].write_text("members: 25\n")

    def parse(*argv: str) -> Config:
        return parse_config(
            Config,
            list(argv),
            prog="experiment",
            description="What it does.",
            presets=presets,
        )

    return parse


def test_a_scripts_presets_are_the_configs_named_after_it(tmp_path):
    for folder in ("configs", "experiments"):
        (tmp_path / folder).mkdir()
    for name in ("study_slow", "study_deep", "study_quick", "studies_other"):
        (tmp_path / "configs" / f"{name}.yaml").touch()
    presets = presets_of(str(tmp_path / "experiments" / "study.py"), "quick")
    assert list(presets) == ["quick", "deep", "slow"]
    assert presets["deep"] == tmp_path / "configs" / "study_deep.yaml"
    with pytest.raises(KeyError, match="quik"):  # another would be the default unnoticed
        presets_of(str(tmp_path / "experiments" / "study.py"), "quik")


def test_default_preset(parse):
    assert parse() == Config(members=2, optimizer=Optimizer(learning_rate=0.01))


def test_named_preset(parse):
    assert parse("--preset", "paper").members == 25
    assert parse("--preset=paper").members == 25


def test_config_file_replaces_preset(parse, write):
    assert parse("--config", str(write("limit: 3"))) == Config(limit=3)


def test_flags_override(parse):
    config = parse("--members", "3", "--optimizer.kind", "sgd", "--hidden", "4", "5", "--limit=9")
    assert config == Config(
        members=3, hidden=(4, 5), limit=9, optimizer=Optimizer(learning_rate=0.01, kind="sgd")
    )


@pytest.mark.parametrize("flag", ["--optimizer.learning-rate", "--optimizer.learning_rate"])
def test_flags_with_hyphen_or_underscore(parse, flag):
    assert parse(flag, "1e-5").optimizer.learning_rate == 1e-5


REFUSED_FLAGS = {
    "misspelt flag": (["--memebrs", "3"], "--memebrs: no such flag; did you mean --members?"),
    "misspelt own flag": (["--presets", "quick"], "did you mean --preset?"),
    "misspelt nested flag": (["--optimizer.knd", "x"], "did you mean --optimizer.kind?"),
    "misspelt group": (["--optimiser.kind", "x"], "did you mean --optimizer.kind?"),
    "flag without its group": (["--learning-rate", "1"], "--optimizer.learning-rate?"),
    "far from all in its group": (["--optimizer.q", "1"], "there are --optimizer.learning-rate, "),
    "text for a whole number": (["--members", "x"], "--members: should be a whole number, not 'x'"),
    "fraction for a whole number": (["--members", "1.5"], "--members: should be a whole number"),
    "text for a number": (["--optimizer.learning-rate", "x"], "should be a number, not 'x'"),
    "too small": (["--members", "0"], "--members: should be greater than or equal to 1, not 0"),
    "not finite": (["--optimizer.learning-rate", "nan"], "learning_rate is nan"),
    "infinite": (["--optimizer.learning-rate", "inf"], "learning_rate is inf"),
    "not a choice": (["--optimizer.kind", "rms"], "'--optimizer.kind'. Expected one of ('sgd'"),
    "no value": (["--members"], "'--members'. Expected 1 values"),
    "value for nothing": (["stray"], "unexpected argument 'stray'"),
    "impossible combination": (["--members", "7", "--verbose"], "--members 7 cannot be --verbose"),
    "no such preset": (["--preset", "qick"], "no preset 'qick'; choose one of quick, paper"),
    "two bases": (["--preset", "quick", "--config", "x"], "--preset and --config are both given"),
    "no such file": (["--config", "absent.yaml"], "absent.yaml: does not exist"),
}


@pytest.mark.parametrize("columns", ["30", "200"])
@pytest.mark.parametrize("case", REFUSED_FLAGS)
def test_refused_flags(parse, monkeypatch, capfd, case, columns):
    monkeypatch.setenv("COLUMNS", columns)
    argv, expected = REFUSED_FLAGS[case]
    with pytest.raises(InputError) as caught:
        parse(*argv)
    message = str(caught.value)
    assert expected in message
    assert "\n" not in message
    assert "─" not in message
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("text", "value"), [("1e-5", 1e-5), ("1E+2", 100.0), (".5", 0.5), ("3", 3.0), ("1_000", 1e3)]
)
def test_numbers_in_files(write, text, value):
    config = read_config(Config, write(f"optimizer: {{learning_rate: {text}}}"))
    assert config.optimizer.learning_rate == value


BOMB = "a: &a [x, x]\n" + "".join(f"k{i}: &k{i} [*a, *a]\n" for i in range(9))
REFUSED_FILES = {
    "unknown key": ("membrs: 3", "membrs: no such setting; did you mean members?"),
    "unknown nested key": ("optimizer: {knd: sgd}", "did you mean optimizer.kind?"),
    "misspelt group": ("optimiser: {kind: sgd}", "did you mean optimizer?"),
    "text for a whole number": ("members: x", 'members: should be a valid integer, not "x"'),
    "quoted number": ('members: "3"', 'members: should be a valid integer, not "3"'),
    "boolean for a whole number": ("members: no", "members: should be a valid integer, not false"),
    "fraction for a whole number": ("members: 1.5", "members: should be a valid integer"),
    "sexagesimal": ("members: 1:30", 'should be a valid integer, not "1:30"'),
    "octal": ("members: 0123", 'should be a valid integer, not "0123"'),
    "null": ("members:", "members: should be a valid integer, not null"),
    "number for a boolean": ("verbose: 1", "verbose: should be a valid boolean"),
    "not a choice": ("optimizer: {kind: rms}", "optimizer.kind: should be 'sgd' or 'adam'"),
    "out of bounds": ("optimizer: {learning_rate: 0}", "learning_rate: should be greater than 0"),
    "infinite": ("optimizer: {learning_rate: 1e999}", "optimizer.learning_rate is inf"),
    "value for a group": ("optimizer: 3", "optimizer: should be an object, not 3"),
    "two faults": ("members: x\nlimit: y", "(and 1 more)"),
    "long value": ("members: " + "x" * 200, "xxx..."),
    "impossible combination": ("members: 7\nverbose: true", "--members 7 cannot be --verbose"),
    "repeated key": ("members: 3\nverbose: no\nmembers: 4", "line 3: key 'members' is given twice"),
    "repeated nested key": ("optimizer:\n  kind: sgd\n  kind: adam", "line 3: key 'kind'"),
    "key that is no text": ("3: 4", "line 1: a key must be text"),
    "python tag": ("out: !!python/object/apply:os.system [id]", "line 1: tag"),
    "own tag": ("out: !path x", "line 1: tag '!path' is not allowed"),
    "binary tag": ("out: !!binary aGk=", "is not allowed"),
    "alias bomb": (BOMB, "line 2: alias *a is not allowed"),
    "merge": ("<<: {members: 3}", "<<: no such setting"),
    "tab": ("optimizer:\n\tkind: sgd", "line 2: found character '\\t'"),
    "unclosed": ("hidden: [1, 2", "line 1:"),
    "two documents": ("members: 3\n---\nmembers: 4", "line 2:"),
    "empty": ("", "is empty; it must hold settings"),
    "comments only": ("# nothing\n", "is empty"),
    "list": ("- members", "holds a list"),
    "scalar": ("members", "holds a str"),
    "byte order mark": (b"\xef\xbb\xbfmembers: 3", "byte order mark"),
    "not UTF-8": (b"out: \xff", "not UTF-8 at byte 5"),
    "NUL": (b"out: \x00", "not valid YAML"),
    "too large": ("# " + "x" * strict_yaml.MAX_BYTES, "larger than 65,536 bytes"),
    "deep": ("hidden: " + "[" * 25 + "]" * 25, "nested more than 20 deep"),
    "very deep": ("hidden: " + "[" * 60_000, "nested more than 20 deep"),
    "odd number tag": ("members: !!int x", "not valid YAML"),
}


@pytest.mark.parametrize("case", REFUSED_FILES)
def test_refused_files(write, case):
    text, expected = REFUSED_FILES[case]
    path = write(text)
    start = time.monotonic()
    with pytest.raises(InputError) as caught:
        read_config(Config, path)
    assert time.monotonic() - start < 2
    message = str(caught.value)
    assert message.startswith(f"{path}:")
    assert expected in message
    assert "\n" not in message
    assert len(message) < len(str(path)) + 250


def test_missing_setting(write):
    with pytest.raises(InputError, match=r"settings.yaml: steps: missing; add it"):
        read_config(Required, write("{}"))


def test_only_regular_files(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(InputError, match="is not a file"):
            read_config(Config, path)
    with pytest.raises(InputError, match="does not exist"):
        read_config(Config, tmp_path / "absent")
    with pytest.raises(InputError, match=r"cannot be read|does not exist"):
        read_config(Config, Path("a\0b"))


def test_print_config_can_be_read_back(parse, write, capsys):
    with pytest.raises(SystemExit) as caught:
        parse("--members", "3", "--out", "1e5", "--print-config")
    assert caught.value.code == 0
    expected = Config(members=3, out=Path("1e5"), optimizer=Optimizer(learning_rate=0.01))
    assert read_config(Config, write(capsys.readouterr().out)) == expected


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
tricky = st.sampled_from(
    ["1e5", "0123", "1:30", "no", "null", "~", "", "<<", "1_0", "3.", "=", "-"]
)


@given(st.dictionaries(st.text(max_size=8) | tricky, plain | tricky, max_size=4))
def test_yaml_round_trip(values):
    text = strict_yaml.dump_yaml(values)
    if "inf" not in text:
        assert strict_yaml._parse(text) == values


def test_config_dict_is_plain():
    values = config_dict(Config(limit=3))
    assert values == {
        "members": 5,
        "hidden": [256, 256],
        "out": "runs/x",
        "verbose": False,
        "limit": 3,
        "optimizer": {"learning_rate": 0.001, "kind": "adam"},
    }
    assert yaml.safe_load(strict_yaml.dump_yaml(values)) == values


def test_digest():
    values = config_dict(Config())
    assert config_digest(values) == config_digest(dict(reversed(values.items())))
    assert config_digest(values) != config_digest(values | {"members": 6})
    assert len(config_digest({})) == 64


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_config_child import Config
from subliminal_jax.config import parse_config
try:
    parse_config(Config, ["--help"], prog="experiment", description="What it does.",
                 presets={{"quick": Path({preset!r})}})
finally:
    heavy = [m for m in ("jax", "numpy", "matplotlib", "flax") if m in sys.modules]
    print("heavy:", heavy)
"""


def test_help_is_complete_quick_and_light(tmp_path):
    child = tmp_path / "test_config_child.py"
    source = Path(__file__).read_text()
    start, end = source.index("@dataclass"), source.index("@pytest.fixture")
    imports = "from dataclasses import *\nfrom pathlib import Path\nfrom typing import *\n"
    child.write_text(imports + "from pydantic import Field\n" + source[start:end])
    preset = tmp_path / "quick.yaml"
    preset.write_text("members: 2\n")
    code = SCRIPT.format(tests=str(tmp_path), preset=str(preset))
    start = time.process_time(), time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert time.monotonic() - start[1] < 3  # 0.4 s on an idle machine
    assert done.returncode == 0, done.stderr
    assert "heavy: []" in done.stdout
    for part in (
        "What it does.",
        "--preset {quick}",
        "--config FILE",
        "--print-config",
        "--members INT",
        "Networks trained side by side. (default: 2)",
        "--optimizer.learning-rate FLOAT",
        "Adam's step size.",
    ):
        assert part in done.stdout
