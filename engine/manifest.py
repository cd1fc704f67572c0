"""Merges an author's `manifest` into the pod that the platform generated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def merge(base: Any, override: Any) -> Any:
    """A new value: `override` merged into `base`; neither is changed or shared.

    Objects merge recursively. Lists of objects with unique `name`s merge item by item, by that
    name, in the order of `base`; new names are appended. Every other list (such as one with a
    duplicate name) and every scalar is replaced, even when the kinds differ.
    """
    if isinstance(base, Mapping) and isinstance(override, Mapping):
        return _merge_objects(base, override)
    if _is_named_list(base) and _is_named_list(override):
        return _merge_named(base, override)
    return copy_plain(override)


def copy_plain(value: Any) -> Any:
    """A deep copy in which every mapping is a dict and every sequence a list."""
    if isinstance(value, Mapping):
        return {str(key): copy_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [copy_plain(item) for item in value]
    return value


def drop_nulls(value: Any) -> Any:
    """A copy without keys whose value is null: an API server treats them as absent."""
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
