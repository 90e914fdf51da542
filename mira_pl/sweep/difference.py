"""What two sweep files differ in, key by key."""

from collections.abc import Mapping
from typing import Any


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """`{"a": {"b": [1]}}` as `{"a.b.0": 1}`."""
    if isinstance(value, Mapping) and value:
        items = [(str(key), part) for key, part in value.items()]
    elif isinstance(value, list | tuple) and value:
        items = [(str(index), part) for index, part in enumerate(value)]
    else:
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, part in items:
        flat |= flatten(part, f"{prefix}.{key}" if prefix else key)
    return flat


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """`key: old -> new` of all that differs between two identities."""
    before, after = flatten(old), flatten(new)
    return [
        f"{key}: {before.get(key, 'nothing')} -> {after.get(key, 'nothing')}"
        for key in dict.fromkeys([*before, *after])
        if before.get(key, "nothing") != after.get(key, "nothing")
    ]
