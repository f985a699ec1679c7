"""The fields in which two configs differ."""

import json
from typing import Any


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, child in value.items():
        flat |= _flat(child, f"{prefix}.{key}" if prefix else key)
    return flat


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Return each differing field as `name old -> new`; a nested field has a dotted name."""

    def show(values: dict[str, Any], name: str) -> str:
        return json.dumps(values[name]) if name in values else "(absent)"

    flat_old, flat_new = _flat(old), _flat(new)
    pairs = [(name, show(flat_old, name), show(flat_new, name)) for name in flat_old | flat_new]
    return [f"{name} {before} -> {after}" for name, before, after in pairs if before != after]
