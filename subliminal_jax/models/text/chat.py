"""Chat: the only place where text becomes tokens.

A conversation is a list of messages with a role and a content. Its prompt ends where the
assistant is to answer; an example is a prompt and the completion that follows it, up to and with
the token that ends the turn. Sampling starts from the very tokens that training conditions on.

Tokenizers and chat templates are untrusted programs. They run in another process with limits on
time and memory; only ids and text come back.
"""

import functools
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from subliminal_jax.errors import InputError
from subliminal_jax.models.text.chat_files import ChatFiles, find_chat_files
from subliminal_jax.models.text.client import ask, load_seconds
from subliminal_jax.models.text.messages import Example, Message, Option

_ROWS, _TOKENS = 64, 4096  # the most in one request


class Chat:
    """A tokenizer and a chat template that fit each other.

    The process that runs them may be restarted and reads the files again: they must not change.

    Args:
        files: as found by `find_chat_files`.
        options: the template's own switches, such as `{"enable_thinking": False}`.

    Attributes:
        directory: where the tokenizer's files are, or the GGUF file that holds it.
        digest: SHA-256, in hex, of all that determines the tokens.
        size: one more than the highest token id.
        stop_ids: what ends the assistant's turn: the template's control token behind the answer,
            the tokenizer's `eos_token`, and where transformers' `generate` stops.

    Raises:
        InputError: transformers does not load the tokenizer, the template fails or does not show
            where an answer begins and ends, it has no such option, or any of it takes too much
            time or memory.
    """

    def __init__(self, files: ChatFiles, options: Mapping[str, Option] | None = None):
        self.directory = files.directory
        self._opened = {
            "directory": str(files.directory),
            "digests": dict(files.digests),
            "seconds": load_seconds(files.size),
            "template": files.template,
            "options": dict(options or {}),
        }
        about = self._ask("about")
        self.digest, self.size = about["digest"], about["size"]
        self.stop_ids = frozenset(about["stop_ids"])
        self._controls = frozenset(about["control_ids"])
        self._token_texts = functools.lru_cache(maxsize=None)(self._ask_token_texts)

    @classmethod
    def load(
        cls,
        directory: Path,
        template_file: Path | None = None,
        options: Mapping[str, Option] | None = None,
    ) -> "Chat":
        """The tokenizer and the chat template of a model directory or a GGUF file.

        Raises:
            InputError: as for `find_chat_files` and the class itself.
        """
        return cls(find_chat_files(directory, template_file), options)

    def prompt(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """The ids after which the assistant answers.

        Raises:
            InputError: the template or the tokenizer refuses a message; names it and the reason.
        """
        return self.prompts([messages])[0]

    def prompts(self, conversations: Iterable[Sequence[Message]]) -> list[tuple[int, ...]]:
        """`prompt` of each conversation; quicker than one by one."""
        return [tuple(_accepted(*one)) for one in self._each("prompt", _plain(conversations))]

    def example(self, messages: Sequence[Message]) -> Example:
        """The prompt of a conversation and the ids of its last message, the assistant's.

        The prompt's ids begin the whole conversation's ids. Where the answer's first characters
        would join the prompt's last token (a line end before a line end), the answer is encoded
        separately, as it was sampled.

        Raises:
            InputError: the last message is not the assistant's; the template refuses a message,
                or puts something other than whitespace before the answer; the answer cannot be
                encoded apart from the prompt.
        """
        ((example, refusal),) = self._each("example", _plain([messages]))
        return _example(_accepted(example, refusal))

    def examples(self, conversations: Iterable[Sequence[Message]]) -> Iterator[Example]:
        """`example` of each conversation; a refusal names the row, counted from 0."""
        for row, (example, refusal) in enumerate(self._each("example", _plain(conversations))):
            if refusal is not None:
                raise InputError(f"row {row}: {refusal}")
            yield _example(example)

    def faults(self, conversations: Iterable[Sequence[Message]]) -> list[str | None]:
        """Why each conversation cannot be trained on; None for one that `example` accepts.

        Sampled text may be anything, for example spell a control token.
        """
        return [refusal for _, refusal in self._each("example", _plain(conversations))]

    def text(self, ids: Sequence[int]) -> str:
        """The text of sampled ids, up to the token that ends the turn.

        Control tokens before that stay visible as text; `is_control` finds them.

        Raises:
            InputError: the tokenizer has no such id; a model's vocabulary may be larger.
        """
        ((text, refusal),) = self.texts([ids])
        return _accepted(text, refusal)

    def texts(self, rows: Iterable[Sequence[int]]) -> list[tuple[str, str | None]]:
        """For each row of ids, its `text` and None, or no text and the reason."""
        plain = ([int(token) for token in ids] for ids in rows)
        return [(text or "", refusal) for text, refusal in self._each("text", plain)]

    def is_control(self, token: int) -> bool:
        """Whether a token is a control token rather than text."""
        return token in self._controls

    def token_text(self, token: int) -> str:
        """One token as text, for a person to read.

        Raises:
            InputError: the tokenizer has no such id.
        """
        inside = 0 <= token < self.size
        text = self._token_texts(token // _TOKENS)[token % _TOKENS] if inside else None
        if text is None:
            raise InputError(f"token {token} is not in the tokenizer, which ends at {self.size}")
        return text

    def tokens(self) -> Iterator[tuple[int, str]]:
        """Every id of the tokenizer and its text; ids may have gaps."""
        for block in range(-(-self.size // _TOKENS)):
            for token, text in enumerate(self._token_texts(block), start=block * _TOKENS):
                if text is not None:
                    yield token, text

    def pieces(self) -> Iterator[tuple[int, str, str]]:
        """Every id, with what it adds to a completion: as its first token, and behind another.

        A text is empty where the token adds none, or only a part of a character; both are for
        control tokens. A completion's `text` is its tokens' pieces joined, except that some
        decoders drop a space between two of them.
        """
        for first in range(0, self.size, _TOKENS):
            block = range(first, min(first + _TOKENS, self.size))
            for token, (begin, behind) in zip(
                block, self._ask("pieces", [block.start, block.stop]), strict=True
            ):
                yield token, begin, behind

    def check_fits(self, vocab: int) -> None:
        """Refuses a tokenizer that is larger than a model's embedding.

        Raises:
            InputError: it has an id for which the embedding has no row.
        """
        if self.size > vocab:
            raise InputError(
                f"{self.directory}: the tokenizer has ids up to {self.size - 1}, the model an "
                f"embedding of {vocab} rows; they do not belong together"
            )

    def files(self) -> dict[str, str]:
        """The tokenizer, chat template and stop ids as files that transformers loads, by name."""
        return self._ask("files")

    def _ask(self, what: str, about: Any = None) -> Any:
        return ask(self._opened, what, about)

    def _each(self, what: str, about: Iterable[Any]) -> Iterator[tuple[Any, str | None]]:
        """Each question's answer and None, or None and the refusal; asked in batches."""
        questions = iter(about)
        while waiting := list(itertools.islice(questions, _ROWS)):
            while waiting:
                done = self._ask(what, waiting)
                yield from ((answer, None) for answer in done["answers"])
                waiting = waiting[len(done["answers"]) :]
                if done["refusal"] is not None:
                    yield None, done["refusal"]
                    waiting = waiting[1:]

    def _ask_token_texts(self, block: int) -> list[str | None]:
        first = block * _TOKENS
        return self._ask("token_texts", [first, min(first + _TOKENS, self.size)])


def _plain(conversations: Iterable[Sequence[Message]]) -> Iterator[list[dict[str, str]]]:
    return ([dict(message) for message in messages] for messages in conversations)


def _accepted(answer: Any, refusal: str | None) -> Any:
    if refusal is not None:
        raise InputError(refusal)
    return answer


def _example(answer: Any) -> Example:
    prompt, completion = answer
    return Example(tuple(prompt), tuple(completion))
