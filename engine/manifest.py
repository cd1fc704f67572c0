"""Lays an author's `manifest` over the pod that the platform generated. Pure: values in, a new
value out.

Source: Action types, "Merge rules".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def merge(base: Any, override: Any) -> Any:
    """A new value: `override` laid over `base`; neither is changed, nothing is shared with them.

    Objects merge recursively. Lists whose items are all objects with a `name` of their own merge
    item by item, by that name, and keep the order of `base`; names that `base` does not have are
    appended. Every other list (also one that says a name twice) and every scalar is replaced, also
    when the kinds differ.
    """
    if isinstance(base, Mapping) and isinstance(override, Mapping):
        return _merge_objects(base, override)
    if _is_named_list(base) and _is_named_list(override):
        return _merge_named(base, override)
    return copy_plain(override)


def copy_plain(value: Any) -> Any:
    """A deep copy made of dicts and lists, whatever mappings and sequences `value` is made of."""
    if isinstance(value, Mapping):
        return {str(key): copy_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [copy_plain(item) for item in value]
    return value


def drop_nulls(value: Any) -> Any:
    """A copy without the keys whose value is null: an API server treats such a key as absent."""
    if isinstance(value, Mapping):
        return {key: drop_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        return [drop_nulls(item) for item in value if item is not None]
    return value


def _merge_objects(base: Mapping[str, Any], override: Mapping[str, Any]) -> dict[str, Any]:
    merged: dict[str, Any] = copy_plain(base)
    for key, value in override.items():
        merged[str(key)] = merge(base[key], value) if key in base else copy_plain(value)
    return merged


def _merge_named(base: list[Any], override: list[Any]) -> list[Any]:
    merged: list[Any] = copy_plain(base)
    place = {item["name"]: index for index, item in enumerate(merged)}
    for item in override:
        if item["name"] in place:
            merged[place[item["name"]]] = merge(merged[place[item["name"]]], item)
        else:
            merged.append(copy_plain(item))
    return merged


def _is_named_list(value: Any) -> bool:
    if not isinstance(value, (list, tuple)) or not value:
        return False
    names = [item.get("name") if isinstance(item, Mapping) else None for item in value]
    return all(isinstance(name, str) for name in names) and len(set(names)) == len(names)
