"""A model directory's tokenizer, chat template and stop ids, as `AutoTokenizer` loads them.

The directory is untrusted, so this runs in a process with limits on time and memory: see
`worker`.
"""

import hashlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tokenizers import Tokenizer

from subliminal_jax.errors import InputError
from subliminal_jax.files import parse_json
from subliminal_jax.models.text.chat_files import (
    CONFIG,
    GENERATION,
    MAKERS,
    MOST_TOKENS,
    SETTINGS,
    TEMPLATE,
    TOKENIZER,
)

MOST_ADDED_TOKENS = 100_000
"""The tokenizers in use have at most 6,242."""

_INPUTS = ("special_tokens_map.json", "added_tokens.json", "vocab.json")


class Loaded(NamedTuple):
    """A loaded tokenizer and chat template.

    Attributes:
        tokenizer: that of `AutoTokenizer`, without truncation and padding.
        special: the tokens that the template may name, such as `eos_token`, as text.
        template: the Jinja source of the chat template.
        stops: ids that end a generation: `eos_token`'s, and those at which transformers'
            `generate` stops.
        peer: transformers' own tokenizer, for comparison; None if it made none.
    """

    tokenizer: Tokenizer
    special: Mapping[str, str]
    template: str
    stops: frozenset[int]
    peer: Any


def load(directory: Path, digests: Mapping[str, str], template: str | None) -> Loaded:
    """The directory as `AutoTokenizer` loads it; none of its code runs, and nothing is fetched.

    Args:
        directory: of the model.
        digests: SHA-256 of each of its files that may be read, by name.
        template: a chat template to use in place of the directory's own.

    Raises:
        InputError: a file is damaged, changed, or has unsupported settings; transformers refuses
            the directory; there is no chat template.
    """
    objects = {
        name: _object(directory / name)
        for name in (TOKENIZER, SETTINGS, GENERATION, CONFIG, *_INPUTS)
        if name in digests
    }
    settings = objects.get(SETTINGS, {})
    _check_sizes(directory / TOKENIZER, objects.pop(TOKENIZER, {}))
    _check_settings(directory / SETTINGS, settings)
    _check_text(directory, digests)
    stated = GENERATION if GENERATION in objects else CONFIG
    ends = _ends(directory / stated, objects.get(stated, {}))
    peer = _auto_tokenizer(directory, digests)
    tokenizer = peer.backend_tokenizer
    tokenizer.no_truncation()  # the caller truncates and pads
    tokenizer.no_padding()
    for token in ends:
        if tokenizer.id_to_token(token) is None:
            raise InputError(
                f"{directory / stated}: eos_token_id {token} is not in the tokenizer; restore the "
                "file, or the tokenizer that belongs to it"
            )
    if isinstance(own := peer.eos_token_id, int):
        ends |= {own}
    special = {name: str(token) for name, token in peer.special_tokens_map.items()}
    chosen = template if template is not None else _template(directory, peer)
    return Loaded(tokenizer, special, chosen, frozenset(ends), peer)


def _object(path: Path) -> dict[str, Any]:
    try:
        value = parse_json(path.read_bytes())
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error}); restore the file") from error
    if not isinstance(value, dict):
        raise InputError(f"{path}: a JSON {type(value).__name__}, not an object")
    return value


def _check_sizes(path: Path, tokenizer: dict[str, Any]) -> None:
    model = tokenizer.get("model")
    tokens = model.get("vocab") if isinstance(model, dict) else None
    if isinstance(tokens, dict | list) and len(tokens) > MOST_TOKENS:
        raise InputError(f"{path}: {len(tokens):,} tokens are too many (at most {MOST_TOKENS:,})")
    added = tokenizer.get("added_tokens") or []
    if not isinstance(added, list) or len(added) > MOST_ADDED_TOKENS:
        raise InputError(f"{path}: added_tokens is not a list of at most {MOST_ADDED_TOKENS:,}")


def _check_settings(path: Path, settings: dict[str, Any]) -> None:
    """Refuses settings under which a `Tokenizer` alone would encode differently."""
    if settings.get("split_special_tokens"):
        raise InputError(
            f"{path}: split_special_tokens spells the chat template's own tokens as text; remove it"
        )
    versions = settings.get("fast_tokenizer_files")
    if versions not in (None, [], [TOKENIZER]):
        raise InputError(
            f"{path}: fast_tokenizer_files names other files than {TOKENIZER}; keep the one of "
            "this version under that name, and remove the key"
        )


def _check_text(directory: Path, digests: Mapping[str, str]) -> None:
    for name in digests:
        if name.endswith(".jinja"):
            try:
                (directory / name).read_bytes().decode("utf-8")
            except UnicodeDecodeError as error:
                raise InputError(f"{directory / name}: not UTF-8 ({error.reason})") from error


def _ends(path: Path, stated: dict[str, Any]) -> set[int]:
    """The ids in `eos_token_id`; newer models have several."""
    value = stated.get("eos_token_id")
    if value is None and isinstance(stated.get("text_config"), dict):
        value = stated["text_config"].get("eos_token_id")
    ends = value if isinstance(value, list) else [] if value is None else [value]
    if any(type(token) is not int or not 0 <= token < 2**31 for token in ends):
        raise InputError(f"{path}: eos_token_id is neither a token's id nor a list of them")
    return set(ends)


def _auto_tokenizer(directory: Path, digests: Mapping[str, str]) -> Any:
    from transformers import AutoTokenizer

    _reading.update(directory=str(directory), allowed=set(digests))
    try:
        peer = AutoTokenizer.from_pretrained(
            str(directory), trust_remote_code=False, local_files_only=True
        )
    except (InputError, MemoryError):
        raise
    except BaseException as error:  # Rust's panics are not `Exception`s
        if isinstance(error.__cause__ or error.__context__, MemoryError):
            raise MemoryError from error
        raise InputError(
            f"{directory}: not a tokenizer that transformers loads ({_reason(error, digests)})"
        ) from error
    finally:
        _reading.clear()
    for name, digest in digests.items():
        if hashlib.sha256((directory / name).read_bytes()).hexdigest() != digest:
            raise InputError(
                f"{directory / name}: changed while it was read; run the command again"
            )
    if not isinstance(getattr(peer, "backend_tokenizer", None), Tokenizer):
        raise InputError(
            f"{directory}: transformers' {type(peer).__name__} cannot be saved as {TOKENIZER}; "
            "only tokenizers that can are supported"
        )
    return peer


def _reason(error: BaseException, digests: Mapping[str, str]) -> str:
    what = " ".join(str(error).split())
    if "custom code" in what:
        return (
            f"auto_map names code, which is never run; if {TOKENIZER} is all of it, remove "
            f"auto_map from {SETTINGS}"
        )
    if TOKENIZER not in digests:
        made_from = " and ".join(name for name in MAKERS if name in digests)
        return (
            f"there is no {TOKENIZER}, and {made_from} does not suffice; save one by "
            "AutoTokenizer's save_pretrained, with sentencepiece and tiktoken installed: "
            f"{what[:100]}"
        )
    return what[:300]


def _template(directory: Path, peer: Any) -> str:
    try:
        template = peer.get_chat_template()
    except ValueError as error:
        if isinstance(peer.chat_template, dict):
            raise InputError(
                f"{directory}: has chat templates named {', '.join(sorted(peer.chat_template))} "
                "and none named default; give one as a file with reference.template"
            ) from error
        raise InputError(
            f"{directory}: the model has no chat template (a base model has none); give one as a "
            f"file with reference.template, or put it there as {TEMPLATE}"
        ) from error
    if not isinstance(template, str):
        raise InputError(f"{directory}: its chat template is not text; give one as a file")
    return template


_reading: dict[str, Any] = {}


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    """Refuses the network, and files that `AutoTokenizer` would read unchecked."""
    if not _reading:
        return
    if event.startswith("socket.connect"):
        raise InputError(
            f"{_reading['directory']}: its tokenizer tries to use the network; refused"
        )
    if event == "open" and isinstance(arguments[0], str):
        inside = arguments[0].removeprefix(_reading["directory"] + "/")
        if inside != arguments[0] and inside not in _reading["allowed"]:
            raise InputError(
                f"{arguments[0]}: was not there when the directory was checked, or is not a "
                "tokenizer's file; run the command again, or remove it"
            )


def watch() -> None:
    """Refuses unchecked files from now on; an audit hook cannot be removed."""
    sys.addaudithook(_watch)
