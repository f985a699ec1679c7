"""Plain values that carry a digest of themselves, so that a change is seen when they are read.

A digest guards against accidents and edits: a value changed by hand, a row from another run, a file
that was mixed up. It does not guard against somebody who computes it anew.
"""

import json
from collections.abc import Mapping
from typing import Any

from subliminal_jax import files
from subliminal_jax.config import config_digest
from subliminal_jax.errors import RunError

ROW_DIGEST = "digest"


def sealed(value: Mapping[str, Any], key: str, *origin: str) -> dict[str, Any]:
    """The value with its digest under `key`.

    Args:
        value: plain values by name, without `key`.
        key: the name of the digest.
        origin: what the value belongs to; unsealing needs the same.

    Raises:
        RunError: a number is not finite; names its key path.
        TypeError: a value has no JSON form.
        ValueError: the value has such a key already.
    """
    if key in value:
        raise ValueError(f"{key} is the name of the digest")
    return {**value, key: digest_of(value, *origin)}


def unsealed(value: Any, key: str, *origin: str) -> dict[str, Any] | None:
    """The value without its digest; None if it is not what was sealed with this origin."""
    if not isinstance(value, dict):
        return None
    bare = {name: part for name, part in value.items() if name != key}
    try:
        return bare if value.get(key) == digest_of(bare, *origin) else None
    except (RunError, RecursionError):  # infinite numbers and endless nesting are never sealed
        return None


def sealed_row(row: Mapping[str, Any], run: str, file: str) -> dict[str, Any]:
    """A row with its digest; errors as of `sealed`.

    Args:
        row: as `value` of `sealed`.
        run: the digest of the config of the run that it belongs to.
        file: the name of its file.
    """
    return sealed(row, ROW_DIGEST, run, file)


def own_row(row: Any, run: str, file: str) -> dict[str, Any] | None:
    """A row without its digest; None if it is not what this run wrote into this file."""
    return unsealed(row, ROW_DIGEST, run, file)


def digest_of(value: Mapping[str, Any], *origin: str) -> str:
    """16 hex digits of the SHA-256 of a value and its origin; the order of keys does not count.

    Raises:
        RunError: a number is not finite; names its key path.
        TypeError: a value has no JSON form.
    """
    content = json.loads(files.strict_json(dict(value)))
    return config_digest({"origin": list(origin), "content": content})[:16]
