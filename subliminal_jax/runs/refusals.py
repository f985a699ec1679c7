"""Refusals of a directory of results: what is wrong, where, what to do, and what differs."""

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from subliminal_jax import files
from subliminal_jax.errors import InputError
from subliminal_jax.process.os_errors import is_disk_full


@dataclass(frozen=True)
class Wording:
    """The words of refusals for one kind of directory.

    Attributes:
        option: the flag that names the directory.
        anew: what the user can do to start over.
    """

    option: str = "--out"
    anew: str = "choose another --out, or add --overwrite to start over"

    def refusal(self, path: Path, what: str) -> InputError:
        """Return the error for a directory that is refused but can be started over."""
        return InputError(f"{self.option} {path}: {what}; {self.anew}")

    @contextlib.contextmanager
    def told(self, path: Path) -> Iterator[None]:
        """Turn an error within the block into one line: why the directory cannot be used.

        Raises:
            InputError: the operating system refused an operation, or the disk is full.
        """
        try:
            yield
        except InputError:
            raise
        except (OSError, ValueError) as error:
            reason, name = str(error), None
            if isinstance(error, OSError):
                if is_disk_full(error):
                    raise files.disk_full_error(path, error=error) from error
                reason, name = error.strerror or reason, error.filename
            if isinstance(name, str) and name != str(path) and name.startswith(str(path)):
                reason += f": {os.path.relpath(name, path)}"
            raise InputError(
                f"{self.option} {path}: cannot be used ({reason}); choose a directory you can "
                "write to"
            ) from error


OUT = Wording()
"""The words for a run directory."""


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, child in value.items():
        flat |= _flat(child, f"{prefix}.{key}" if prefix else key)
    return flat


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Return each differing field as `name old -> new`; a nested field has a dotted name."""
    flat_old, flat_new = _flat(old), _flat(new)
    pairs = [(name, _shown(flat_old, name), _shown(flat_new, name)) for name in flat_old | flat_new]
    return [f"{name} {before} -> {after}" for name, before, after in pairs if before != after]


def _shown(values: dict[str, Any], name: str) -> str:
    return json.dumps(values[name]) if name in values else "(absent)"
