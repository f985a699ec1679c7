"""Chat: the only place where text becomes tokens.

A conversation is a list of messages with a role and a content. Its prompt ends where the
assistant is to answer; an example is a prompt and the completion that follows it, up to and with
the token that ends the turn. Sampling starts from the very tokens that training conditions on.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from subliminal_jax.errors import InputError
from subliminal_jax.models.chat_files import TOKENIZER, ChatFiles, read_chat_files
from subliminal_jax.models.chat_template import Message, Piece, Template
from subliminal_jax.models.chat_tokenizer import TextTokenizer


class Example(NamedTuple):
    """One row to train on.

    Attributes:
        prompt: ids up to where the assistant answers.
        completion: ids of the answer, the token that ends the turn included.
    """

    prompt: tuple[int, ...]
    completion: tuple[int, ...]


class Chat:
    """A tokenizer and a chat template that fit each other.

    Args:
        files: as read by `read_chat_files`.
        options: the template's own switches, such as `{"enable_thinking": False}`.

    Attributes:
        directory: where the tokenizer's files are.
        digest: SHA-256 of the files.
        size: one more than the highest token id.
        stop_ids: what ends the assistant's turn: the template's control token behind the answer,
            and the tokenizer's `eos_token`.

    Raises:
        InputError: the tokenizer is none, the template fails or takes too long, or it does not
            say where an answer begins and ends.
    """

    def __init__(self, files: ChatFiles, options: Mapping[str, Any] | None = None):
        self.directory = files.directory
        self._template = Template(files.template, files.special, dict(options or {}))
        self._tokenizer = TextTokenizer(files.tokenizer, str(files.directory / TOKENIZER))
        self.digest, self.size = files.digest, self._tokenizer.size
        turn = [{"role": role, "content": "0"} for role in ("user", "assistant")]
        stops = {self._answer(self._template.pieces(turn, answering=False), 1).stop}
        stops |= {self._tokenizer.control(files.special.get("eos_token", ""))}
        self.stop_ids = frozenset(token for token in stops if token is not None)

    @classmethod
    def load(
        cls,
        directory: Path,
        template_file: Path | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> "Chat":
        """Read `tokenizer.json` and the chat template of a model directory.

        Raises:
            InputError: as for `read_chat_files` and the class itself.
        """
        return cls(read_chat_files(directory, template_file), options)

    def prompt(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """The ids after which the assistant answers.

        Raises:
            InputError: the template or the tokenizer refuses a message; says which and why.
        """
        return self._tokenizer.encode(self._template.pieces(messages, answering=True))

    def example(self, messages: Sequence[Message]) -> Example:
        """The prompt of a conversation and the ids of its last message, the assistant's.

        The prompt's ids begin the whole conversation's ids. Where the answer's first characters
        would join the prompt's last token (a line end before a line end), the answer is encoded on
        its own, as it was when it was sampled.

        Raises:
            InputError: the last message is not the assistant's; the template refuses a message,
                or puts something other than whitespace before the answer; the answer cannot be
                encoded apart from the prompt.
        """
        if not messages or messages[-1].get("role") != "assistant":
            raise InputError("the last message is not the assistant's; there is nothing to learn")
        asked = self._template.pieces(messages[:-1], answering=True)
        answer = self._answer(self._template.pieces(messages, answering=False), len(messages) - 1)
        begin = len(_text(asked))
        if (
            not _text(answer.before).startswith(_text(asked))
            or _text(answer.before)[begin:].strip()
        ):
            raise InputError(
                "the chat template asks for an answer in other words than it shows one in "
                f"({_text(asked)[-40:]!r} against {_text(answer.before)[-40:]!r}); give it options "
                "under which both are the same, such as enable_thinking=False"
            )
        prompt = self._tokenizer.encode(asked)
        whole = self._tokenizer.encode(answer.whole)
        if whole[: len(prompt)] == prompt:
            return Example(prompt, whole[len(prompt) :])
        apart = self._tokenizer.encode_text(_text(answer.whole)[begin : answer.end])
        apart = (*apart, answer.stop)
        if self._tokenizer.decode(prompt + apart) != self._tokenizer.decode(whole):
            raise InputError(
                "the answer's first characters and the prompt's last are one token, so that no "
                "token begins the answer; let the answer begin with another character"
            )
        return Example(prompt, apart)

    def fault(self, messages: Sequence[Message]) -> str | None:
        """Why a conversation cannot be trained on; None if `example` takes it.

        A model may write whatever it likes, the words of a control token among it.
        """
        try:
            self.example(messages)
        except InputError as error:
            return str(error)
        return None

    def _answer(self, pieces: list[Piece], last: int) -> "_Answer":
        """Where the last message stands in a rendered conversation, and what ends it."""
        places = [place for place, piece in enumerate(pieces) if piece.message == last]
        behind = pieces[places[0] + 1 :]
        if any(piece.message is not None for piece in behind):
            raise InputError("the chat template does not put the last message last, and once")
        found = self._tokenizer.controls(_text(behind))
        if not found:
            raise InputError(
                "the chat template ends the assistant's turn with no control token, so that "
                "nothing could stop an answer; let it write eos_token there"
            )
        stop, start, end = found[0]
        before = pieces[: places[0]]
        whole = [*pieces[: places[0] + 1], Piece(_text(behind)[:end], None)]
        return _Answer(before, whole, len(_text(whole)) - (end - start), stop)

    def examples(self, conversations: Iterable[Sequence[Message]]) -> Iterator[Example]:
        """`example` of each conversation; a refusal names the row, counted from 0."""
        for row, messages in enumerate(conversations):
            try:
                yield self.example(messages)
            except InputError as error:
                raise InputError(f"row {row}: {error}") from error

    def text(self, ids: Sequence[int]) -> str:
        """The text of sampled ids, up to the token that ends the turn.

        Control tokens before that stay visible as text; `is_control` tells them.
        """
        end = next((i for i, token in enumerate(ids) if token in self.stop_ids), len(ids))
        return self._tokenizer.decode(ids[:end])

    def is_control(self, token: int) -> bool:
        """Whether a token begins or ends something rather than being text."""
        return self._tokenizer.is_control(token)

    def token_text(self, token: int) -> str:
        """One token as text, for a person to read."""
        return self._tokenizer.decode([token])

    def check_fits(self, vocab: int) -> None:
        """Refuse a tokenizer that is larger than a model's embedding.

        Raises:
            InputError: it has an id for which the embedding has no row.
        """
        if self.size > vocab:
            raise InputError(
                f"{self.directory}: the tokenizer has ids up to {self.size - 1}, the model an "
                f"embedding of {vocab} rows; they do not belong together"
            )


class _Answer(NamedTuple):
    """The assistant's last message within a rendered conversation.

    Attributes:
        before: all pieces before it.
        whole: all pieces, to the end of the control token that ends it.
        end: where in the whole's text that control token begins.
        stop: the id of that token.
    """

    before: list[Piece]
    whole: list[Piece]
    end: int
    stop: int


def _text(pieces: Sequence[Piece]) -> str:
    return "".join(piece.text for piece in pieces)
