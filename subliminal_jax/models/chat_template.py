"""A chat template, rendered so that every character is known to be the template's or a message's.

A template is first rendered with marks in place of the messages: what stands around the marks is
the template's own, wherever the template puts, trims or repeats a message. Each real rendering is
then compared with the marked one, filled in; a template that rewrites a message is refused.
"""

import contextlib
import ctypes
import functools
import logging
import re
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn, TypeAlias

from subliminal_jax.errors import InputError

Message: TypeAlias = Mapping[str, str]
"""`{"role": ..., "content": ...}`."""

ROLES = ("system", "user", "assistant")
SECONDS = 5.0
"""How long one rendering may take; a usual one takes less than a millisecond."""

# Some templates print today's date, and a prompt would change from day to day. Theirs is always
# the day that Llama 3's own template falls back to.
_NO_CLOCK = """\
{%- macro strftime_now(format) -%}
{{- format | replace('%d', '26') | replace('%-d', '26') | replace('%b', 'Jul')
    | replace('%B', 'July') | replace('%m', '07') | replace('%Y', '2024') | replace('%y', '24')
    | replace('%A', 'Friday') | replace('%a', 'Fri') | replace('%H', '00') | replace('%I', '12')
    | replace('%M', '00') | replace('%S', '00') | replace('%p', 'AM') -}}
{%- endmacro -%}
"""

_FIRST_MARK = 0x100000  # of Unicode's last private plane: no template's text holds any of it
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


@dataclass(frozen=True)
class Template:
    """A chat template, and what it is rendered with.

    Attributes:
        source: Jinja source; untrusted, so it is rendered in transformers' sandbox.
        special: tokens it may name, such as `eos_token`.
        options: its own switches, such as `{"enable_thinking": False}`.
    """

    source: str
    special: Mapping[str, str]
    options: Mapping[str, Any]

    def pieces(self, messages: Sequence[Message], *, answering: bool) -> list[Piece]:
        """Render a conversation.

        Args:
            messages: the conversation, each with a role and its content.
            answering: end where the assistant's next message begins.

        Raises:
            InputError: the template refuses the conversation, fails, takes too long, leaves a
                message out or rewrites one.
        """
        _check(messages)
        roles = tuple(message["role"] for message in messages)
        layout = _layout(self.source, tuple(sorted(self.special.items())),
                         tuple(sorted(self.options.items())), roles, answering)  # fmt: skip
        pieces = [
            Piece(part, None)
            if isinstance(part, str)
            else Piece(part.fill(messages[part.message]["content"]), part.message)
            for part in layout
        ]
        rendered = self._render([dict(message) for message in messages], answering)
        if rendered != "".join(piece.text for piece in pieces):
            raise InputError(
                "the chat template rewrites the text of a message, so that the message cannot be "
                "told from the template; use a template that puts messages in as they are"
            )
        return pieces

    def _render(self, messages: list[dict[str, str]], answering: bool) -> str:
        return _render(self.source, messages, answering, {**self.special, **self.options})


def _check(messages: Sequence[Message]) -> None:
    if not messages:
        raise InputError("a conversation without messages")
    for number, message in enumerate(messages):
        if set(message) != {"role", "content"}:
            raise InputError(f"message {number}: has {sorted(message)}, not role and content")
        if message["role"] not in ROLES:  # templates print it unchecked between control tokens
            raise InputError(
                f"message {number}: no role {message['role']!r}; there are {', '.join(ROLES)}"
            )
        if not isinstance(message["content"], str):
            raise InputError(f"message {number}: its content is not text")
        try:
            message["content"].encode()
        except UnicodeEncodeError as error:
            raise InputError(f"message {number}: half a character at {error.start}") from error


@functools.lru_cache(maxsize=256)
def _layout(
    source: str,
    special: tuple[tuple[str, str], ...],
    options: tuple[tuple[str, Any], ...],
    roles: tuple[str, ...],
    answering: bool,
) -> tuple[str | _Slot, ...]:
    """The template's own text with slots for the messages between."""
    names = {**dict(special), **dict(options)}

    def marked(before: str, after: str) -> list[str]:
        """The fields text, space, mark, space, text, ... of the marked conversation."""
        messages = [
            {"role": role, "content": f"{before}{_SPACE}{chr(_FIRST_MARK + i)}{_SPACE}{after}"}
            for i, role in enumerate(roles)
        ]
        last = chr(_FIRST_MARK + len(roles) - 1)
        mark = f"({_SPACE}?)([{chr(_FIRST_MARK)}-{last}])({_SPACE}?)"
        return re.split(mark, _render(source, messages, answering, names))

    fields = marked("", "")
    texts, begun, ended = fields[::4], marked("\n", "")[::4], marked("", "\n")[::4]
    parts: list[str | _Slot] = [texts[0]]
    for i, found in enumerate(fields[2::4]):
        # Where a newline that was put before the mark has gone, newlines are stripped.
        left = "" if begun[i] == texts[i] + "\n" else "\n"
        right = "" if ended[i + 1] == "\n" + texts[i + 1] else "\n"
        left, right = left if fields[4 * i + 1] else None, right if fields[4 * i + 3] else None
        parts += [_Slot(ord(found) - _FIRST_MARK, left, right), texts[i + 1]]
    missing = set(range(len(roles))) - {part.message for part in parts if isinstance(part, _Slot)}
    if missing:
        number = min(missing)
        raise InputError(
            f"the chat template leaves out message {number} ({roles[number]}); use a template "
            "that shows it, or put its text into another message"
        )
    return tuple(part for part in parts if part)


def _render(source: str, messages: list[dict[str, str]], answering: bool, names: Any) -> str:
    renderer = _transformers_renderer()
    try:
        with _time_limit(SECONDS):
            rendered, _ = renderer(
                [messages], chat_template=_NO_CLOCK + source, add_generation_prompt=answering,
                **names,
            )  # fmt: skip
    except _TookTooLong:
        raise InputError(f"the chat template took longer than {SECONDS:.0f} s; refused") from None
    except Exception as error:  # whatever a stranger's template does wrong
        reason = f"{type(error).__name__}: {error}"
        raise InputError(f"the chat template fails or refuses ({reason})") from error
    return rendered[0]


@functools.cache
def _transformers_renderer() -> Any:
    # Imported late, since it takes a second. Without PyTorch it says so, which here is no news.
    logging.getLogger("transformers").addFilter(_no_news)
    from transformers.utils.chat_template_utils import render_jinja_template

    return render_jinja_template


def _no_news(record: logging.LogRecord) -> bool:
    return "PyTorch was not found" not in record.getMessage()


class _TookTooLong(BaseException):
    """No `Exception`, so that nothing on the way catches it."""


@contextlib.contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Break off what takes longer: by a signal, or by a timer in threads, which get no signals."""
    main = threading.current_thread() is threading.main_thread()
    with _signal_after(seconds) if main else _raised_after(seconds):
        yield


@contextlib.contextmanager
def _signal_after(seconds: float) -> Iterator[None]:
    def stop(*_: Any) -> NoReturn:
        raise _TookTooLong

    handler = signal.signal(signal.SIGALRM, stop)
    left, interval = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, left, interval)
        signal.signal(signal.SIGALRM, handler)


@contextlib.contextmanager
def _raised_after(seconds: float) -> Iterator[None]:
    thread, ended, lock = threading.get_ident(), threading.Event(), threading.Lock()

    def stop() -> None:
        with lock:  # so that nothing is raised where the work has ended in the meantime
            if not ended.is_set():
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(thread), ctypes.py_object(_TookTooLong)
                )

    timer = threading.Timer(seconds, stop)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        with lock:
            ended.set()
        timer.cancel()
