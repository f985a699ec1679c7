"""Conversations as tokens, by a tokenizer and a chat template that fit each other.

Both are untrusted, so this runs in a process with limits on time and memory: see `worker`.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tokenizers import Tokenizer

from subliminal_jax.errors import InputError
from subliminal_jax.models.text.chat_files import GENERATION, SETTINGS, TEMPLATE, TOKENIZER
from subliminal_jax.models.text.loading import Loaded
from subliminal_jax.models.text.messages import Example, Message, Option
from subliminal_jax.models.text.template import Piece, Template
from subliminal_jax.models.text.tokenizer import TextTokenizer

_TRIAL = "Numbers: 0, 12 and 345.\n\tÄ \u4e00!"


class Conversations:
    """The worker's side of `Chat`.

    Args:
        loaded: the tokenizer and the chat template.
        options: the template's own switches, such as `{"enable_thinking": False}`.

    Attributes:
        digest: SHA-256, in hex, of all that determines the tokens.
        size: one more than the highest token id.
        control_ids: tokens that are no text, such as those that begin and end a turn.
        stop_ids: what ends the assistant's turn.

    Raises:
        InputError: the template fails, does not show where an answer begins and ends, or has no
            such option; or the tokens differ from those of transformers.
    """

    def __init__(self, loaded: Loaded, options: Mapping[str, Option]):
        self._loaded = loaded
        self._template = Template(loaded.template, loaded.special, options)
        self._tokenizer = TextTokenizer(loaded.tokenizer)
        self.size, self.control_ids = self._tokenizer.size, self._tokenizer.control_ids
        turn = [{"role": role, "content": "0"} for role in ("user", "assistant")]
        pieces = self._template.pieces(turn, answering=False)
        self.stop_ids = loaded.stops | {self._answer(pieces, 1).stop}
        if loaded.peer is not None:
            _check_peer(loaded.peer, loaded.tokenizer, (_text(pieces), _TRIAL))
        made_from = {
            "tokenizer": self._tokenizer.digest,
            "special": dict(loaded.special),
            "template": loaded.template,
            "options": dict(options),
            "stops": sorted(self.stop_ids),
        }
        self.digest = hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()

    def prompt(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """As `Chat.prompt`."""
        return self._tokenizer.encode(self._template.pieces(messages, answering=True))

    def example(self, messages: Sequence[Message]) -> Example:
        """As `Chat.example`."""
        if not messages or messages[-1].get("role") != "assistant":
            raise InputError(
                "the last message is not the assistant's; there is nothing to train on"
            )
        asked = self._template.pieces(messages[:-1], answering=True)
        answer = self._answer(self._template.pieces(messages, answering=False), len(messages) - 1)
        begin = len(_text(asked))
        if (
            not _text(answer.before).startswith(_text(asked))
            or _text(answer.before)[begin:].strip()
        ):
            raise InputError(
                "the chat template begins an answer differently in a prompt and in a conversation "
                f"({_text(asked)[-40:]!r} against {_text(answer.before)[-40:]!r}); set "
                "reference.options so that both are equal, such as {enable_thinking: false}"
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

    def _answer(self, pieces: list[Piece], last: int) -> "_Answer":
        """Where the last message is in a rendered conversation, and what ends it."""
        places = [place for place, piece in enumerate(pieces) if piece.message == last]
        behind = pieces[places[0] + 1 :]
        if any(piece.message is not None for piece in behind):
            raise InputError("the chat template does not show the last message once, at the end")
        controls = self._tokenizer.controls(_text(behind))
        if not controls:
            raise InputError(
                "the chat template ends the assistant's turn without a control token, so that "
                "nothing would stop an answer; write eos_token there"
            )
        stop, start, end = controls[0]
        before = pieces[: places[0]]
        whole = [*pieces[: places[0] + 1], Piece(_text(behind)[:end], None)]
        return _Answer(before, whole, len(_text(whole)) - (end - start), stop)

    def text(self, ids: Sequence[int]) -> str:
        """As `Chat.text`."""
        end = next((i for i, token in enumerate(ids) if token in self.stop_ids), len(ids))
        return self._tokenizer.decode(ids[:end])

    def token_text(self, token: int) -> str | None:
        """One token as text, for a person to read; None if the tokenizer has no such id."""
        return self._tokenizer.decode([token]) if self._tokenizer.knows(token) else None

    def piece(self, token: int) -> tuple[str, str]:
        """As `Chat.pieces`; both empty if the tokenizer has no such id."""
        return self._tokenizer.piece(token)

    def files(self) -> dict[str, str]:
        """As `Chat.files`."""
        kind = {"tokenizer_class": "PreTrainedTokenizerFast"}
        return {
            TOKENIZER: self._loaded.tokenizer.to_str(),
            SETTINGS: json.dumps({**self._loaded.special, **kind}),
            TEMPLATE: self._loaded.template,
            GENERATION: json.dumps({"eos_token_id": sorted(self.stop_ids)}),
        }


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


def _check_peer(peer: Any, tokenizer: Tokenizer, texts: Sequence[str]) -> None:
    """Checks that transformers' own tokenizer encodes texts as the one that it saves.

    Raises:
        InputError: it does not.
    """
    for text in texts:
        theirs = peer(text, add_special_tokens=False)["input_ids"]
        if theirs != tokenizer.encode(text, add_special_tokens=False).ids:
            raise InputError(
                f"transformers' {type(peer).__name__} encodes a text into other tokens than the "
                "tokenizer that it saves; such a tokenizer is not supported"
            )


def _text(pieces: Sequence[Piece]) -> str:
    return "".join(piece.text for piece in pieces)
