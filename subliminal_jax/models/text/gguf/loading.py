"""The tokenizer, chat template and stop ids of a GGUF file.

The file is untrusted, so this runs in a process with limits on time and memory: see `worker`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from subliminal_jax.errors import InputError
from subliminal_jax.models.hub.gguf.header import read_header
from subliminal_jax.models.text.chat_files import HEADER, LIMITS, TEMPLATE
from subliminal_jax.models.text.gguf.vocabulary import build_tokenizer
from subliminal_jax.models.text.loading import Loaded

_SPECIAL = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
_ENDS = ("eos", "eot", "eom")


def load(path: Path, digests: Mapping[str, str], template: str | None) -> Loaded:
    """The tokenizer of a GGUF file.

    Args:
        path: of the file.
        digests: SHA-256 of its header, under `HEADER`.
        template: a chat template to use in place of the file's own.

    Raises:
        InputError: the file is damaged or changed, its tokenizer cannot be rebuilt exactly, or
            there is no chat template.
    """
    header = read_header(path)
    if header.digest != digests[HEADER]:
        raise InputError(f"{path}: changed while it was read; run the command again")
    try:
        tokenizer = build_tokenizer(header.settings)
        tokens = header.settings["tokenizer.ggml.tokens"]
        special = {
            name: tokens[token]
            for name, gguf_name in _SPECIAL.items()
            if (token := _special_id(header.settings, gguf_name, len(tokens))) is not None
        }
        ends = [_special_id(header.settings, name, len(tokens)) for name in _ENDS]
        chosen = template if template is not None else _template(header.settings)
    except MemoryError:
        raise
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except BaseException as error:  # Rust's panics are not `Exception`s
        why = " ".join(str(error).split())[:300]
        raise InputError(f"{path}: its tokenizer cannot be rebuilt ({why})") from error
    return Loaded(
        tokenizer, special, chosen, frozenset(end for end in ends if end is not None), None
    )


def _special_id(settings: Mapping[str, Any], name: str, count: int) -> int | None:
    token = settings.get(f"tokenizer.ggml.{name}_token_id")
    if token is not None and (type(token) is not int or not 0 <= token < count):
        raise InputError(f"its {name}_token_id is not the id of a token")
    return token


def _template(settings: Mapping[str, Any]) -> str:
    template = settings.get("tokenizer.chat_template")
    if template is None:
        raise InputError(
            "the model has no chat template (a base model has none); give one as a file with "
            "reference.template"
        )
    if not isinstance(template, str) or len(template.encode()) > LIMITS[TEMPLATE]:
        raise InputError(f"its chat template is not text of at most {LIMITS[TEMPLATE]:,} bytes")
    return template
