"""Text to token ids, with control tokens only where the template puts them.

Control tokens begin and end a turn, or look as if they did (`<think>`): tokens that a tokenizer has
beside its vocabulary. transformers encodes them wherever their text occurs, so that a user who
writes `<|im_end|>` ends a turn. Here the control tokens of an encoding must be exactly those of the
template's own text. If they are not, the text between two of the template's is encoded again by the
same tokenizer without its control tokens.
"""

import functools
import hashlib
import json
from collections.abc import Sequence
from typing import Any

from tokenizers import AddedToken, Tokenizer

from subliminal_jax.errors import InputError
from subliminal_jax.models.text.template import Piece

_BOUNDARY = "\U0010fffd"  # stands for the control token before a text; Unicode gives it no meaning

_NO_CHARACTER = "\ufffd"  # how a part of a character is decoded


class TextTokenizer:
    """A tokenizer twice: whole, and without its control tokens.

    Args:
        tokenizer: without truncation and padding.

    Attributes:
        digest: SHA-256, in hex, of its whole definition.
        size: one more than the highest token id.
    """

    def __init__(self, tokenizer: Tokenizer):
        self._full = tokenizer
        written = tokenizer.to_str()
        self.digest = hashlib.sha256(written.encode()).hexdigest()
        definition = json.loads(written)
        added = self._full.get_added_tokens_decoder()
        ordinary = [str(token) for token in added.values() if _is_ordinary(token)]
        kept = [e for e in definition.get("added_tokens") or [] if e["content"] in ordinary]
        self._plain = Tokenizer.from_str(json.dumps(definition | {"added_tokens": kept}))
        self._plain.add_special_tokens([AddedToken(_BOUNDARY, normalized=False)])
        # Without the control tokens, the other added tokens may get other ids.
        self._renamed = {
            self._plain.token_to_id(str(token)): i
            for i, token in added.items()
            if _is_ordinary(token)
        }
        self._unknown = self._unknown_id(definition)
        self._controls = frozenset(
            i for i, token in added.items() if not _is_ordinary(token) and i != self._unknown
        )
        self._before = None if self._adds_spaces() else min(self._controls, default=None)
        ids = self._full.get_vocab(with_added_tokens=True).values()
        self.size = 1 + max(ids, default=0)

    def _unknown_id(self, definition: dict[str, Any]) -> int | None:
        """The id of the unknown token, if there is one."""
        if definition["model"].get("type") == "Unigram":
            return definition["model"].get("unk_id")
        text = definition["model"].get("unk_token")
        return None if text is None else self._full.token_to_id(text)

    def _adds_spaces(self) -> bool:
        """Whether the tokenizer puts a space before a text even after a control token."""
        tokens = self._plain.encode(_BOUNDARY + "0", add_special_tokens=False).tokens
        return len(tokens) > 1 and tokens[1].startswith("▁")

    def knows(self, token: int) -> bool:
        """Whether a token has this id."""
        return 0 <= token < self.size and self._full.id_to_token(token) is not None

    @property
    def control_ids(self) -> frozenset[int]:
        """The ids of all control tokens."""
        return self._controls

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids that follow others; control tokens stay visible in it.

        Raises:
            InputError: the tokenizer has no such id; a model's vocabulary may be larger.
        """
        for token in ids:
            if not self.knows(token):
                raise InputError(
                    f"token {token} is not in the tokenizer, which ends at {self.size}"
                )
        # Decoding may drop a space at the very beginning, so a control token goes before the text.
        before = [self._before] if self._before is not None else []
        text = self._full.decode(before + list(ids), skip_special_tokens=False)
        text = text.removeprefix(self._full.decode(before, skip_special_tokens=False))
        return text.removeprefix(" ") if before and self._full.decoder is None else text

    def piece(self, token: int) -> tuple[str, str]:
        """What a token adds to a completion, as its first token and behind another.

        Both are empty for a control token, the unknown token, an id without a token, and a part of
        a character.
        """
        if not self.knows(token) or token in self._controls or token == self._unknown:
            return "", ""
        before = self._some_token
        texts = self.decode([token]), self.decode([*before, token])
        begin = self.decode(before)
        behind = texts[1][len(begin) :] if texts[1].startswith(begin) else ""
        first, behind = ("" if _NO_CHARACTER in one else one for one in (texts[0], behind))
        return first, behind

    @functools.cached_property
    def _some_token(self) -> tuple[int, ...]:
        """A token that another can stand behind."""
        return self.encode_text("0")[-1:]

    def encode(self, pieces: Sequence[Piece]) -> tuple[int, ...]:
        """The ids of a rendered conversation.

        Text that spells no control token is encoded exactly as in transformers.

        Raises:
            InputError: a message spells a control token that this tokenizer cannot encode as
                text, or has a word that the tokenizer cannot encode.
        """
        expected, start = [], 0
        for piece in pieces:
            if piece.message is None:
                controls = self.controls(piece.text)
                expected += [(token, start + begin, start + end) for token, begin, end in controls]
            start += len(piece.text)
        text = "".join(piece.text for piece in pieces)
        whole = self._full.encode(text, add_special_tokens=False)
        ids, offsets = whole.ids, whole.offsets
        places = [i for i, token in enumerate(ids) if token in self._controls]
        pairs = list(zip(places, expected, strict=False))
        if (
            len(places) == len(expected)
            and self._unknown not in ids
            and all(ids[place] == token for place, (token, _, _) in pairs)
            and all(offsets[i][0] <= begin < offsets[i][1] for i, (_, begin, _) in pairs)
        ):
            return tuple(ids)
        return self._encode_between(text, expected)

    def encode_text(self, text: str, *, first: bool = False) -> tuple[int, ...]:
        """The ids of plain text, none of them a control token.

        Args:
            text: any text.
            first: whether nothing comes before it; else it follows a control token.

        Raises:
            InputError: as in `encode`.
        """
        if _BOUNDARY in text:
            raise InputError(f"the text holds the character {_BOUNDARY!a}, which has no meaning")
        marked = text if first else _BOUNDARY + text
        encoding = self._plain.encode(marked, add_special_tokens=False)
        ids, offsets = encoding.ids, encoding.offsets
        ids, offsets = (ids, offsets) if first else (ids[1:], offsets[1:])
        ids = [self._renamed.get(token, token) for token in ids]
        forged = [token for token in ids if token in self._controls]
        if forged:
            raise InputError(
                f"a message holds the words of the control token "
                f"{self._full.id_to_token(forged[0])!r}, and this tokenizer has no other way to "
                "write them; take them out of the message"
            )
        if self._unknown in ids:
            begin, end = offsets[ids.index(self._unknown)]
            raise InputError(f"the tokenizer does not know {marked[begin:end]!r}")
        return tuple(ids)

    def _encode_between(self, text: str, controls: list[tuple[int, int, int]]) -> tuple[int, ...]:
        ids: list[int] = []
        at = 0
        for token, begin, end in controls:
            ids += [*self._encode_if_any(text[at:begin], at), token]
            at = end
        return (*ids, *self._encode_if_any(text[at:], at))

    def _encode_if_any(self, text: str, at: int) -> tuple[int, ...]:
        return self.encode_text(text, first=at == 0) if text else ()

    @functools.lru_cache(maxsize=1024)  # noqa: B019  a tokenizer lives as long as its process
    def controls(self, text: str) -> tuple[tuple[int, int, int], ...]:
        """The control tokens in a template's own text: id, begin and end of each."""
        encoding = self._full.encode(text, add_special_tokens=False)
        tokens = zip(encoding.ids, encoding.offsets, strict=True)
        return tuple((token, *span) for token, span in tokens if token in self._controls)


def _is_ordinary(token: AddedToken) -> bool:
    """Whether an added token is a mere word or whitespace, which messages may hold.

    Gemma has runs of spaces and line ends among its added tokens.
    """
    return not token.special and all(c.isalnum() or c.isspace() or c == "▁" for c in str(token))
