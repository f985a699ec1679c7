"""Plain values that carry their own digest, so that a change is detected when they are read.

A digest guards against accidents and edits: a value changed by hand, a row of another run, the
wrong file. It does not guard against somebody who recomputes it.
"""

import json
from collections.abc import Mapping
from typing import Any

from subliminal_jax import files
from subliminal_jax.config import config_digest
from subliminal_jax.errors import RunError

ROW_DIGEST = "digest"


def sealed(value: Mapping[str, Any], key: str, *origin: str) -> dict[str, Any]:
    """Return the value with its digest under `key`.

    Args:
        value: plain values by name, without `key`.
        key: the name of the digest.
        origin: what the value belongs to; `unsealed` needs the same.

    Raises:
        RunError: a number is not finite; names its key path.
        TypeError: a value has no JSON form.
        ValueError: the value already has this key.
    """
    if key in value:
        raise ValueError(f"{key} is the name of the digest")
    return {**value, key: digest_of(value, *origin)}


def unsealed(value: Any, key: str, *origin: str) -> dict[str, Any] | None:
    """Return the value without its digest; None if it was changed, or sealed for another origin."""
    if not isinstance(value, dict):
        return None
    bare = {name: part for name, part in value.items() if name != key}
    try:
        return bare if value.get(key) == digest_of(bare, *origin) else None
    except (RunError, RecursionError):  # not finite, or nested too deep: never sealed
        return None


def sealed_row(row: Mapping[str, Any], run: str, file: str) -> dict[str, Any]:
    """Return a row with its digest; errors as of `sealed`.

    Args:
        row: as `value` of `sealed`.
        run: the config digest of its run.
        file: the name of its file.
    """
    return sealed(row, ROW_DIGEST, run, file)


def own_row(row: Any, run: str, file: str) -> dict[str, Any] | None:
    """Return a row without its digest; None if this run did not write it into this file."""
    return unsealed(row, ROW_DIGEST, run, file)


def digest_of(value: Mapping[str, Any], *origin: str) -> str:
    """Return 16 hex digits of the SHA-256 of value and origin; the order of keys does not matter.

    Raises:
        RunError: a number is not finite; names its key path.
        TypeError: a value has no JSON form.
    """
    content = json.loads(files.strict_json(dict(value)))
    return config_digest({"origin": list(origin), "content": content})[:16]
