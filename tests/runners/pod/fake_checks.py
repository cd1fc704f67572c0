"""What an API server refuses about an object: names, labels, schema, and rules across fields."""

from __future__ import annotations

import re
from typing import Any

import kubernetes_validate

from tests.runners.pod.fake_kubelet import ApiError

SCHEMA = "1.31"
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
_LABEL_KEY = re.compile(r"([a-z0-9.-]+/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_SECRET_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}")
_ENV_NAME = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")


def check_object(kind: str, namespace: str, body: dict[str, Any]) -> None:
    meta = body.get("metadata") or {}
    name = meta.get("name", "")
    problems = []
    if not _NAME.fullmatch(name) or len(name) > 63:
        problems.append(f"metadata.name: Invalid value: {name!r}")
    if meta.get("namespace", namespace) != namespace:
        raise ApiError(
            400,
            "BadRequest",
            "the namespace of the provided object does not match the namespace sent",
        )
    for key, value in (meta.get("labels") or {}).items():
        if not _LABEL_KEY.fullmatch(key) or len(value) > 63 or not _LABEL_VALUE.fullmatch(value):
            problems.append(f"metadata.labels: Invalid value: {key}={value!r}")
    if (
        sum(len((key + value).encode()) for key, value in (meta.get("annotations") or {}).items())
        > 256 << 10
    ):
        problems.append("metadata.annotations: Too long: may not be more than 262144 bytes")
    if kind == "pods":
        problems += find_pod_problems(body["spec"])
    elif not all(_SECRET_KEY.fullmatch(key) for key in body.get("stringData", {})):
        problems.append(
            "stringData: Invalid value: a valid config key must consist of alphanumeric characters"
        )
    elif sum(len(text.encode()) for text in body.get("stringData", {}).values()) > 1 << 20:
        problems.append("data: Too long: may not be more than 1048576 bytes")
    try:
        kubernetes_validate.validate(body, SCHEMA, strict=True)
    except kubernetes_validate.ValidationError as error:
        problems.append(f"schema: {error.message}")
    if problems:
        raise ApiError(422, "Invalid", f'{kind} "{name}" is invalid: {"; ".join(problems)}')


def find_pod_problems(spec: dict[str, Any]) -> list[str]:
    problems = []
    containers = [*spec.get("initContainers", []), *spec.get("containers", [])]
    names = [container["name"] for container in containers]
    if len(set(names)) != len(names):
        problems.append("spec.containers: Duplicate value")
    volumes = {volume["name"] for volume in spec.get("volumes", [])}
    for volume in spec.get("volumes", []):
        if len(volume) > 2 or not _NAME.fullmatch(volume["name"]) or len(volume["name"]) > 63:
            problems.append(
                f"spec.volumes[{volume['name']}]: may not specify more than 1 volume type"
            )
    for container in containers:
        if not _NAME.fullmatch(container["name"]) or len(container["name"]) > 63:
            problems.append(f"spec.containers[{container['name']}].name: Invalid value")
        places = [mount["mountPath"] for mount in container.get("volumeMounts", [])]
        if len(set(places)) != len(places) or any(":" in place for place in places):
            problems.append(
                f"spec.containers[{container['name']}].volumeMounts: mountPath: must be unique"
            )
        if not container.get("image"):
            problems.append(f"spec.containers[{container['name']}].image: Required value")
        for entry in container.get("env", []):
            if not _ENV_NAME.fullmatch(entry["name"]):
                problems.append(f"env: Invalid value: {entry['name']!r}")
            if "value" in entry and "valueFrom" in entry:
                problems.append(
                    f"env[{entry['name']}].valueFrom: may not be specified when `value` is not"
                    " empty"
                )
        for mount in container.get("volumeMounts", []):
            if mount["name"] not in volumes:
                problems.append(f"volumeMounts: Not found: {mount['name']!r}")
    return problems
