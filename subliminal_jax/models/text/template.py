"""A chat template, rendered so that every character is known to be the template's or a message's.

A template is first rendered with marks in place of the messages: the text around the marks is the
template's own, wherever it puts, trims or repeats a message. Each real rendering is then compared
with the marked one with the messages filled in; a template that rewrites a message is refused.
"""

import functools
import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jinja2
from jinja2 import defaults, ext, meta, nodes, parser

from subliminal_jax.errors import InputError
from subliminal_jax.models.text.messages import ROLES, Message, Option

MOST_LAYOUTS = 256
"""Cached layouts, one for each sequence of roles."""

# Some templates print today's date, which would change the prompts from day to day. They get the
# date to which Llama 3's own template falls back.
_NO_CLOCK = """\
{%- macro strftime_now(format) -%}
{{- format | replace('%d', '26') | replace('%-d', '26') | replace('%b', 'Jul')
    | replace('%B', 'July') | replace('%m', '07') | replace('%Y', '2024') | replace('%y', '24')
    | replace('%A', 'Friday') | replace('%a', 'Fri') | replace('%H', '00') | replace('%I', '12')
    | replace('%M', '00') | replace('%S', '00') | replace('%p', 'AM') -}}
{%- endmacro %}
"""
# `trim_blocks` removes the line end above, so that it removes nothing of the template itself.

_FIRST_MARK = 0x100000  # in Unicode's last private plane, of which no template's text has any
_SPACE = "\u2003"  # whitespace to every `trim`, and in no template's text either


class Piece(NamedTuple):
    """Part of a rendered conversation.

    Attributes:
        text: the characters.
        message: which message they are, by position; None for the template's own.
    """

    text: str
    message: int | None


class _Slot(NamedTuple):
    """Where a message goes, and which characters the template strips from its two ends.

    None stands for all whitespace, as in `str.strip`.
    """

    message: int
    left: str | None
    right: str | None

    def fill(self, content: str) -> str:
        return content.lstrip(self.left).rstrip(self.right)


class Template:
    """A chat template, and what it is rendered with.

    Args:
        source: Jinja source; untrusted, so it is rendered in transformers' sandbox.
        special: tokens it may name, such as `eos_token`.
        options: its own switches, such as `{"enable_thinking": False}`.

    Raises:
        InputError: the template does not read one of the options.
    """

    def __init__(self, source: str, special: Mapping[str, str], options: Mapping[str, Option]):
        self._source = source
        self._names = {**special, **options}
        self._layouts: dict[tuple[tuple[str, ...], bool], tuple[str | _Slot, ...]] = {}
        if options:
            _check_options(source, special, options)

    def pieces(self, messages: Sequence[Message], *, answering: bool) -> list[Piece]:
        """A rendered conversation.

        Args:
            messages: the conversation, each with a role and its content.
            answering: end where the assistant's next message begins.

        Raises:
            InputError: the template refuses the conversation, fails, leaves a message out or
                rewrites one.
        """
        _check(messages)
        key = tuple(message["role"] for message in messages), answering
        if key not in self._layouts:
            if len(self._layouts) == MOST_LAYOUTS:
                self._layouts.clear()
            self._layouts[key] = self._layout(*key)
        pieces = [
            Piece(part, None)
            if isinstance(part, str)
            else Piece(part.fill(messages[part.message]["content"]), part.message)
            for part in self._layouts[key]
        ]
        rendered = self._render([dict(message) for message in messages], answering)
        if rendered != "".join(piece.text for piece in pieces):
            raise InputError(
                "the chat template rewrites the text of a message, so that the message cannot be "
                "told from the template; use a template that puts messages in as they are"
            )
        return pieces

    def _layout(self, roles: tuple[str, ...], answering: bool) -> tuple[str | _Slot, ...]:
        """The template's own text with slots for the messages between."""

        def marked(before: str, after: str) -> list[str]:
            """The fields text, space, mark, space, text, ... of the marked conversation."""
            messages = [
                {"role": role, "content": f"{before}{_SPACE}{chr(_FIRST_MARK + i)}{_SPACE}{after}"}
                for i, role in enumerate(roles)
            ]
            last = chr(_FIRST_MARK + len(roles) - 1)
            mark = f"({_SPACE}?)([{chr(_FIRST_MARK)}-{last}])({_SPACE}?)"
            return re.split(mark, self._render(messages, answering))

        fields = marked("", "")
        texts, begun, ended = fields[::4], marked("\n", "")[::4], marked("", "\n")[::4]
        parts: list[str | _Slot] = [texts[0]]
        for i, letter in enumerate(fields[2::4]):
            # If a newline put before the mark is gone, the template strips newlines there.
            left = "" if begun[i] == texts[i] + "\n" else "\n"
            right = "" if ended[i + 1] == "\n" + texts[i + 1] else "\n"
            left, right = left if fields[4 * i + 1] else None, right if fields[4 * i + 3] else None
            parts += [_Slot(ord(letter) - _FIRST_MARK, left, right), texts[i + 1]]
        shown = {part.message for part in parts if isinstance(part, _Slot)}
        if missing := set(range(len(roles))) - shown:
            number = min(missing)
            raise InputError(
                f"the chat template leaves out message {number} ({roles[number]}); use a template "
                "that shows it, or put its text into another message"
            )
        return tuple(part for part in parts if part)

    def _render(self, messages: list[dict[str, str]], answering: bool) -> str:
        try:
            rendered, _ = renderer()(
                [messages], chat_template=_NO_CLOCK + self._source, add_generation_prompt=answering,
                **self._names,
            )  # fmt: skip
        except MemoryError:
            raise
        except Exception as error:  # whatever an untrusted template raises
            reason = f"{type(error).__name__}: {error}"[:500]
            raise InputError(f"the chat template fails or refuses ({reason})") from error
        return rendered[0]


def _check_options(source: str, special: Mapping[str, str], options: Mapping[str, Option]) -> None:
    """Refuses options that the template never reads: a misspelt one would have no effect."""
    environment = jinja2.Environment(extensions=[ext.loopcontrols, _Generation], autoescape=False)
    try:
        asked = meta.find_undeclared_variables(environment.parse(source))
    except jinja2.TemplateError as error:
        raise InputError(f"the chat template fails ({type(error).__name__}: {error})") from error
    ours = {"messages", "raise_exception", "strftime_now", *inspect.signature(
        renderer()).parameters}  # fmt: skip
    switches = sorted(asked - ours - special.keys() - defaults.DEFAULT_NAMESPACE.keys())
    for name in options:
        if name not in switches:
            there = f"it has {', '.join(switches)}" if switches else "it has none"
            raise InputError(
                f"reference.options: the chat template has no switch {name!r}; {there}"
            )


class _Generation(ext.Extension):
    """The block by which transformers' templates mark the assistant's text."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: parser.Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _check(messages: Sequence[Message]) -> None:
    if not messages:
        raise InputError("a conversation without messages")
    for number, message in enumerate(messages):
        if set(message) != {"role", "content"}:
            raise InputError(f"message {number}: has {sorted(message)}, not role and content")
        if message["role"] not in ROLES:  # templates print it unchecked between control tokens
            raise InputError(
                f"message {number}: unknown role {message['role']!r}; use {', '.join(ROLES)}"
            )
        if not isinstance(message["content"], str):
            raise InputError(f"message {number}: its content is not text")
        try:
            message["content"].encode()
        except UnicodeEncodeError as error:
            raise InputError(f"message {number}: half a character at {error.start}") from error


@functools.cache
def renderer() -> Any:
    """The function of transformers that renders a chat template in a sandbox."""
    from transformers.utils.chat_template_utils import render_jinja_template  # takes a second

    return render_jinja_template
