"""A tokenizer from a GGUF file's metadata: byte-level BPE, or SentencePiece's BPE with scores.

What cannot be rebuilt exactly is refused.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

from subliminal_jax.errors import InputError
from subliminal_jax.models.hub.model_files import shown
from subliminal_jax.models.text.chat_files import MOST_TOKENS
from subliminal_jax.models.text.gguf.splits import split_named

LONGEST_TOKEN = 4096
"""The longest token in use has some hundred letters."""

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
"""Types of tokens."""

_SPACE = "▁"


def build_tokenizer(settings: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer of a file.

    Args:
        settings: the file's metadata.

    Raises:
        InputError: the tokenizer is of another kind, malformed, or cannot be rebuilt exactly.
    """
    kind, tokens = settings.get("tokenizer.ggml.model"), _tokens(settings)
    types = _types(settings, len(tokens))
    gemma = str(settings.get("general.architecture")).startswith("gemma")
    if kind == "llama" and gemma:  # stored with spaces, while words have marks for them
        tokens = [
            _SPACE * len(token) if token and not token.strip(" ") else token for token in tokens
        ]
    if len(set(tokens)) != len(tokens):
        raise InputError("its tokenizer has two tokens of one spelling")
    if kind == "gpt2":
        tokenizer = _byte_level(settings, tokens)
    elif kind == "llama":
        tokenizer = _sentence_piece(settings, tokens, types, gemma)
    else:
        raise InputError(
            f"its tokenizer is of the kind {shown(str(kind))!r}, which is not supported; supported "
            "are gpt2 (byte-level BPE) and llama (SentencePiece)"
        )
    added = [
        AddedToken(token, normalized=False, special=sort != USER_DEFINED)
        for token, sort in zip(tokens, types, strict=True)
        if sort in (UNKNOWN, CONTROL) or (sort == USER_DEFINED and token.strip(_SPACE))
    ]
    if not all(token.content for token in added):
        raise InputError("its tokenizer has a control token without text")
    tokenizer.add_tokens(added)  # they are in the vocabulary and keep their ids
    if tokenizer.get_vocab_size(with_added_tokens=True) != len(tokens):
        raise InputError("its tokenizer cannot be rebuilt with the same ids")
    return tokenizer


def _tokens(settings: Mapping[str, Any]) -> list[str]:
    tokens = settings.get("tokenizer.ggml.tokens")
    if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
        raise InputError("it has no tokenizer (tokenizer.ggml.tokens)")
    if not 0 < len(tokens) <= MOST_TOKENS:
        raise InputError(f"its tokenizer has {len(tokens):,} tokens; at most {MOST_TOKENS:,}")
    if (longest := max(map(len, tokens))) > LONGEST_TOKEN:
        raise InputError(f"its tokenizer has a token of {longest:,} characters")
    return tokens


def _types(settings: Mapping[str, Any], count: int) -> list[int]:
    types = settings.get("tokenizer.ggml.token_type")
    if not isinstance(types, list) or len(types) != count:
        raise InputError(
            "its tokenizer does not state which tokens are control tokens "
            "(tokenizer.ggml.token_type), and cannot be rebuilt exactly"
        )
    if unknown := set(types) - set(range(NORMAL, BYTE + 1)):
        raise InputError(f"its tokenizer has tokens of the unknown type {min(unknown)}")
    return types


def _byte_level(settings: Mapping[str, Any], tokens: Sequence[str]) -> Tokenizer:
    split = split_named(settings.get("tokenizer.ggml.pre"))
    if settings.get("tokenizer.ggml.add_space_prefix", False) is True:
        raise InputError("its tokenizer puts a space before text, which is not supported")
    vocabulary = {token: i for i, token in enumerate(tokens)}
    tokenizer = Tokenizer(
        models.BPE(vocabulary, _merges(settings, vocabulary), ignore_merges=split.whole_words)
    )
    tokenizer.pre_tokenizer = split.pre_tokenizer()
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _merges(settings: Mapping[str, Any], vocabulary: Mapping[str, int]) -> list[tuple[str, str]]:
    merges = settings.get("tokenizer.ggml.merges")
    if not isinstance(merges, list):
        raise InputError("its tokenizer has no merges (tokenizer.ggml.merges)")
    pairs = []
    for merge in merges:
        left, _, right = str(merge).partition(" ")
        if not {left, right, left + right} <= vocabulary.keys():
            raise InputError(f"its tokenizer merges {shown(str(merge))!r}, which is no two tokens")
        pairs.append((left, right))
    if len(set(pairs)) != len(pairs):
        raise InputError("its tokenizer has one merge twice, so that its place is not known")
    return pairs


def _sentence_piece(
    settings: Mapping[str, Any], tokens: Sequence[str], types: Sequence[int], gemma: bool
) -> Tokenizer:
    vocabulary = {token: i for i, token in enumerate(tokens)}
    if missing := sum(f"<0x{byte:02X}>" not in vocabulary for byte in range(256)):
        raise InputError(f"its tokenizer lacks {missing} of the 256 bytes to fall back on")
    unknown = next((token for token, sort in zip(tokens, types, strict=True) if sort == UNKNOWN),
                   None)  # fmt: skip
    order = range(len(tokens)) if gemma else _best_first(settings, len(tokens))
    whole = (tokens[i] for i in order if types[i] not in (UNKNOWN, CONTROL, BYTE))
    tokenizer = Tokenizer(
        models.BPE(
            vocabulary,
            [pair for token in whole for pair in _halves(token, vocabulary)],
            unk_token=unknown,
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    spaces: list[decoders.Decoder] = [
        decoders.Replace(_SPACE, " "),
        decoders.ByteFallback(),
        decoders.Fuse(),
    ]
    if gemma:
        tokenizer.normalizer = normalizers.Replace(" ", _SPACE)
    elif settings.get("tokenizer.ggml.add_space_prefix", True) is True:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
        spaces.append(decoders.Strip(" ", 1, 0))
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never", split=False)
    tokenizer.decoder = decoders.Sequence(spaces)
    return tokenizer


def _best_first(settings: Mapping[str, Any], count: int) -> list[int]:
    """Tokens in the order in which SentencePiece prefers to make them: by falling score."""
    scores = settings.get("tokenizer.ggml.scores")
    if not isinstance(scores, list) or len(scores) != count:
        raise InputError(
            "its tokenizer has no score for each token (tokenizer.ggml.scores), and cannot be "
            "rebuilt exactly"
        )
    return sorted(range(count), key=lambda i: scores[i], reverse=True)


def _halves(token: str, vocabulary: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    """The pairs of tokens that a token can be merged from, the longest beginning first."""
    for end in range(len(token) - 1, 0, -1):
        if token[:end] in vocabulary and token[end:] in vocabulary:
            yield token[:end], token[end:]
