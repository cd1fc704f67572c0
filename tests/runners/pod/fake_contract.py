"""What an API server requires of a request, apart from the object in it. Source: the Kubernetes API
reference, "Common parameters", "Pod operations", PodLogOptions, DeleteOptions, and the notes on
resource versions."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

_LABEL_VALUE = r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?"
_LABEL_KEY = r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_SELECTOR = re.compile(rf"{_LABEL_KEY}={_LABEL_VALUE}(,{_LABEL_KEY}={_LABEL_VALUE})*")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_FIELDS = {"metadata.name", "metadata.namespace", "spec.nodeName", "status.phase"}
_FIELDS |= {"involvedObject.uid", "involvedObject.name"}  # of events


def _is_flag(text: str) -> bool:
    return text in ("true", "false")


def _is_whole(least: int) -> Callable[[str], bool]:
    return lambda text: text.isdecimal() and int(text) >= least


def _is_any(text: str) -> bool:
    return True


def _is_field_selector(text: str) -> bool:
    return all(
        part.partition("=")[0] in _FIELDS and part.partition("=")[2] for part in text.split(",")
    )


_COMMON: Mapping[str, Callable[[str], bool]] = {"pretty": _is_flag}
_WRITING = {
    "dryRun": lambda text: text == "All",
    "fieldManager": _is_any,
    "fieldValidation": lambda text: text in ("Ignore", "Warn", "Strict"),
}
_LISTING = {
    "labelSelector": lambda text: _SELECTOR.fullmatch(text) is not None,
    "fieldSelector": _is_field_selector,
    "limit": _is_whole(1),
    "continue": _is_any,
    "resourceVersion": lambda text: text != "",
    "resourceVersionMatch": lambda text: text in ("Exact", "NotOlderThan"),
    "timeoutSeconds": _is_whole(1),
}
_OPTIONS: Mapping[str, Mapping[str, Callable[[str], bool]]] = {
    "create": _WRITING,
    "get": {},
    "list": _LISTING,
    "watch": {**_LISTING, "watch": lambda text: text == "true", "allowWatchBookmarks": _is_flag},
    "delete": {
        "dryRun": lambda text: text == "All",
        "gracePeriodSeconds": _is_whole(0),
        "propagationPolicy": lambda text: text in ("Orphan", "Background", "Foreground"),
    },
    "log": {
        "container": lambda text: _NAME.fullmatch(text) is not None,
        "follow": _is_flag,
        "timestamps": _is_flag,
        "previous": _is_flag,
        "sinceSeconds": _is_whole(1),
        "sinceTime": _is_any,
        "tailLines": _is_whole(0),
        "limitBytes": _is_whole(1),
        "stream": lambda text: text in ("All", "Stdout", "Stderr"),
    },
    "review": _WRITING,
}
_DELETE_BODY = {
    "apiVersion",
    "kind",
    "dryRun",
    "gracePeriodSeconds",
    "preconditions",
    "propagationPolicy",
}
_REVIEWED = {"namespace", "verb", "group", "version", "resource", "subresource", "name"}


def find_request_problems(
    verb: str, options: Mapping[str, str], headers: Mapping[str, str], body: Mapping[str, Any]
) -> Iterator[str]:
    """Sentences about what is wrong with a request. `verb` is RBAC's word, or `log`, or
    `review`."""
    given = {name.lower(): value for name, value in headers.items()}
    known = {**_COMMON, **_OPTIONS[verb]}
    for name, value in options.items():
        if name not in known:
            yield f"{name}: unknown query parameter of {verb}"
        elif not known[name](value):
            yield f"{name}: Invalid value: {value!r}"
    accepted = given.get("accept", "*/*")
    if not any(kind in accepted for kind in ("application/json", "*/*")):
        yield f"Accept: {accepted!r} holds nothing that can be served"
    if (
        body and given.get("content-type", "application/json") != "application/json"
    ):  # JSON is what is taken for granted
        yield f"Content-Type: {given['content-type']!r} cannot be decoded"
    match verb:
        case "watch" if "resourceVersionMatch" in options:
            yield "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
        case "log" if {"sinceSeconds", "sinceTime"} <= options.keys():
            yield "at most one of `sinceTime` or `sinceSeconds` may be specified"
        case "delete":
            yield from _find_delete_problems(body)
        case "review":
            yield from _find_review_problems(body)


def _find_delete_problems(body: Mapping[str, Any]) -> Iterator[str]:
    for name in body.keys() - _DELETE_BODY:
        yield f"{name}: unknown field of DeleteOptions"
    grace = body.get("gracePeriodSeconds", 0)
    if not isinstance(grace, int) or grace < 0:
        yield f"gracePeriodSeconds: Invalid value: {grace!r}"
    for name in (body.get("preconditions") or {}).keys() - {"uid", "resourceVersion"}:
        yield f"preconditions.{name}: unknown field"


def _find_review_problems(body: Mapping[str, Any]) -> Iterator[str]:
    spec = body.get("spec") or {}
    if ("resourceAttributes" in spec) == ("nonResourceAttributes" in spec):
        yield "spec: exactly one of nonResourceAttributes or resourceAttributes must be specified"
    for name in spec.get("resourceAttributes", {}).keys() - _REVIEWED:
        yield f"spec.resourceAttributes.{name}: unknown field"
