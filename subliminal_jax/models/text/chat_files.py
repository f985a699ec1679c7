"""The tokenizer and chat-template files of a model directory: regular, inside it, not too large.

They are untrusted. They are parsed in a process with limits only; see `client`.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from subliminal_jax.errors import InputError
from subliminal_jax.models.hub.gguf.header import read_header
from subliminal_jax.models.hub.model_files import ModelFiles, file_inside, regular_inside

TOKENIZER, SETTINGS, TEMPLATE = "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"
GENERATION, CONFIG = "generation_config.json", "config.json"
MORE_TEMPLATES = "additional_chat_templates"
MAKERS = (
    *(TOKENIZER, "vocab.json", "tokenizer.model", "vocab.txt", "spiece.model"),
    *("sentencepiece.bpe.model", "tiktoken.model", "tekken.json"),
)
"""Files that a tokenizer can be made from, if transformers needs no other package for it."""

_MIB = 1 << 20
LIMITS = {
    **dict.fromkeys(MAKERS, 32 * _MIB),
    TOKENIZER: 128 * _MIB,
    "merges.txt": 32 * _MIB,
    **dict.fromkeys((SETTINGS, "special_tokens_map.json", "added_tokens.json"), 16 * _MIB),
    **dict.fromkeys((GENERATION, TEMPLATE), 1 * _MIB),
    CONFIG: 32 * _MIB,
}
"""Bytes. The largest in use are Gemma 3's tokenizer, 33 MB, and its settings, 1.2 MB."""

MOST_TOKENS = 1_000_000
"""Of a tokenizer; the largest in use has 262,144."""
MOST_TEMPLATES = 100
HEADER = "header"
"""Name under which the digest of a GGUF file's header is kept."""
AS_JSON = 5
"""Bytes in a tokenizer.json for each byte in a GGUF header: 33 MB to 6.5 MB for Gemma 3."""


@dataclass(frozen=True)
class ChatFiles:
    """A model's tokenizer and chat-template files, found but not parsed.

    Attributes:
        directory: absolute path of the directory, or of the GGUF file.
        digests: SHA-256, in hex, of each file found, by name; of a GGUF file, that of its header.
        size: bytes in all of them; of a GGUF file, about as many as they would have.
        template: a chat template to use in place of the directory's own.
    """

    directory: Path
    digests: Mapping[str, str]
    size: int
    template: str | None = None


def find_chat_files(directory: Path, template_file: Path | None = None) -> ChatFiles:
    """The tokenizer and chat-template files of a model directory or a GGUF file, checked.

    Args:
        directory: holds `tokenizer.json`, or what transformers makes a tokenizer from without it;
            or a GGUF file.
        template_file: a chat template to use in place of the directory's own.

    Raises:
        InputError: the directory does not exist or holds no tokenizer; a file is too large, not
            regular, unreadable, or a link out of the directory.
    """
    template = None if template_file is None else _template(template_file)
    if directory.is_file():
        header = read_header(directory)
        size = AS_JSON * header.length
        return ChatFiles(directory.resolve(), {HEADER: header.digest}, size, template)
    if not directory.is_dir():
        raise InputError(f"{directory}: no such directory; give one that holds {TOKENIZER}")
    digests, size = {}, 0
    for name, path, limit in _files(directory):
        data = _bytes(path, limit)
        digests[name] = hashlib.sha256(data).hexdigest()
        size += len(data)
    if not any(name in digests for name in MAKERS):
        raise InputError(
            f"{directory}: holds no tokenizer; save {TOKENIZER} there with transformers' "
            "save_pretrained"
        )
    return ChatFiles(directory.resolve(), digests, size, template)


def _files(directory: Path) -> Iterator[tuple[str, Path, int]]:
    """Each file found: its name, its path, and the most bytes it may have."""
    for name, limit in LIMITS.items():
        if (directory / name).exists() or (directory / name).is_symlink():
            yield name, _inside(directory, name), limit
    more = directory / MORE_TEMPLATES
    if not more.is_dir():
        return
    if not more.resolve().is_relative_to(directory.resolve()):
        raise InputError(f"{more}: leads out of the model's directory; nothing is read there")
    names = sorted(path.name for path in more.glob("*.jinja"))
    if len(names) > MOST_TEMPLATES:
        raise InputError(f"{more}: more than {MOST_TEMPLATES} chat templates; remove those unused")
    files = ModelFiles(str(directory), directory)
    for name in names:
        yield f"{MORE_TEMPLATES}/{name}", regular_inside(files, more / name), LIMITS[TEMPLATE]


def _inside(directory: Path, name: str) -> Path:
    if not (directory / name).exists():
        raise InputError(f"{directory / name}: a broken link; restore the file")
    return file_inside(ModelFiles(str(directory), directory), name)


def _template(path: Path) -> str:
    if not path.exists():
        raise InputError(f"{path}: no such file; give a chat template in Jinja")
    try:
        return _bytes(path, LIMITS[TEMPLATE]).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 ({error.reason})") from error


def _bytes(path: Path, limit: int) -> bytes:
    """A regular file's bytes. A pipe or a device is never opened."""
    if not path.is_file():
        raise InputError(f"{path}: not a regular file")
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); restore the file") from error
    if len(data) > limit:
        raise InputError(f"{path}: larger than {limit:,} bytes, which no known model's is")
    return data
