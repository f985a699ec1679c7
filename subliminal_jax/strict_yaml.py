"""A strict subset of YAML for settings.

PyYAML follows YAML 1.1, in which `1e-5` is text, `1:30` is 90 and `0123` is 83. Numbers here are
those of the YAML 1.2 core schema (https://yaml.org/spec/1.2.2/#103-core-schema): decimal only, an
exponent needs no point. Tags and aliases are refused: settings need none, and they can be abused.
"""

import re
from pathlib import Path
from typing import Any

import yaml

from subliminal_jax.errors import InputError

MAX_BYTES = 65_536
MAX_DEPTH = 20

_PREFIX = "tag:yaml.org,2002:"
_RESOLVERS = {
    "bool": (r"yes|no|on|off|true|false", "yYnNoOtTfF"),
    "int": (r"[-+]?(?:0|[1-9][0-9]*(?:_[0-9]+)*)", "-+0123456789"),
    "float": (
        r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?",
        "-+.0123456789",
    ),
    "null": (r"~|null|", ["~", "n", "N", ""]),
}
_ALLOWED_TAGS = {_PREFIX + name for name in ("map", "seq", "str", *_RESOLVERS)}


class _Loader(yaml.SafeLoader):
    """The safe loader with the numbers of YAML 1.2, and no aliases."""

    yaml_implicit_resolvers = {}  # noqa: RUF012  PyYAML's own attribute, replaced per class

    def compose_node(self, parent, index):
        # A few nested aliases can expand to billions of values, and no setting needs one.
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.MarkedYAMLError(
                problem=f"alias *{event.anchor} is not allowed; write the value out",
                problem_mark=event.start_mark,
            )
        return super().compose_node(parent, index)


class _Dumper(yaml.SafeDumper):
    """Quotes only the text that `_Loader` would not read back as text."""

    yaml_implicit_resolvers = {}  # noqa: RUF012

    def ignore_aliases(self, data):
        return True


for _name, (_pattern, _first) in _RESOLVERS.items():
    _regex = re.compile(rf"(?:{_pattern})\Z", re.IGNORECASE)
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(_PREFIX + _name, _regex, list(_first))


def _check_depth(text: str) -> None:
    """Refuse deep nesting, event by event: building the tree first would recurse."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise yaml.MarkedYAMLError(
                problem=f"nested more than {MAX_DEPTH} deep", problem_mark=event.start_mark
            )


def _check(node: yaml.Node) -> None:
    """Refuse what the safe loader would accept: odd tags and repeated keys."""

    def refuse(problem: str, at: yaml.Node = node) -> None:
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=at.start_mark)

    if node.tag not in _ALLOWED_TAGS:
        refuse(f"tag {node.tag!r} is not allowed; write a plain value")
    if isinstance(node, yaml.SequenceNode):
        for child in node.value:
            _check(child)
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, child in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag != _PREFIX + "str":
                refuse("a key must be text; name a setting, or quote it", key)
            if key.value in seen:
                refuse(f"key {key.value!r} is given twice; keep one", key)
            seen.add(key.value)
            _check(child)


def _parse(text: str) -> Any:
    _check_depth(text)
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _check(node)
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _read_text(path: Path) -> str:
    try:
        # Only a regular file: reading a pipe or a device might never end.
        if not path.is_file():
            kind = "is not a file" if path.exists() else "does not exist"
            raise InputError(f"{path}: {kind}; give the path of a YAML file")
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: cannot be read ({error}); give a readable YAML file") from error
    if len(data) > MAX_BYTES:
        raise InputError(f"{path}: larger than {MAX_BYTES:,} bytes; is this a settings file?")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from error
    if text.startswith("\ufeff"):
        raise InputError(f"{path}: starts with a byte order mark; save it as UTF-8 without BOM")
    return text


def read_yaml(path: Path) -> dict[str, Any]:
    """Read one YAML mapping of plain values.

    Args:
        path: a regular file of at most `MAX_BYTES` bytes, UTF-8 without byte order mark.

    Returns:
        Nested dicts, lists, strings, numbers, booleans and None.

    Raises:
        InputError: the file cannot be read, is not YAML, holds a tag, an alias, a repeated key or a
            key that is not text, or is not a mapping. The message gives file and line.
    """
    text = _read_text(path)
    try:
        value = _parse(text)
    except yaml.MarkedYAMLError as error:
        line = f" line {error.problem_mark.line + 1}:" if error.problem_mark else ""
        raise InputError(f"{path}:{line} {error.problem}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(value, dict):
        what = "is empty" if value is None else f"holds a {type(value).__name__}"
        raise InputError(f"{path}: {what}; it must hold settings, one `name: value` a line")
    return value


def dump_yaml(value: dict[str, Any]) -> str:
    """Write plain values so that `read_yaml` returns equal ones, in the order given."""
    # Non-ASCII is escaped: unescaped, U+0085 would be read back as a space.
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=False)
