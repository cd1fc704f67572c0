"""The `kubernetes:` section of a worker's configuration."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar

from engine.settings.declared import OURS, Key, read_section
from engine.settings.given import Given, Wrong
from engine.settings.readers import did_you_mean
from runners.containers.script import DEFAULT_RUNNER_IMAGE
from runners.pod.policy import OUR_LABELS, OUR_PREFIX, PodPolicy

_VOLUME = re.compile(r"[a-z0-9]([-a-z0-9]{0,40}[a-z0-9])?")
DEFAULT_INIT_IMAGE = "curlimages/curl:latest"
_PARTS = ("metadata", "spec")


def _manifest(given: Given) -> dict[str, Any]:
    """Parts of a pod; the API server knows the fields."""
    found: dict[str, Any] = {key: entry.node.plain() for key, entry in given.entries()}
    for key, part in found.items():
        if key not in _PARTS:
            raise Wrong(f"has no key '{key}'{did_you_mean(key, _PARTS)}: it holds parts of a pod")
        if not isinstance(part, dict):
            raise Wrong(f"must have a mapping in `{key}`")
    for group in ("containers", "initContainers"):
        members = found.get("spec", {}).get(group) or []
        is_list = isinstance(members, list)
        if not is_list or not all(isinstance(one, dict) and one.get("name") for one in members):
            raise Wrong(f"must have a list of containers with names in `spec.{group}`")
    for kind in ("labels", "annotations"):
        for key in found.get("metadata", {}).get(kind) or {}:
            if key == "app" or str(key).startswith(OUR_LABELS):
                raise Wrong(f"must not set the {kind[:-1]} '{key}', which is the platform's")
    return found


def _volumes(given: Given) -> dict[str, Mapping[str, Any]]:
    """Volumes of pods without their names."""
    found: dict[str, Mapping[str, Any]] = {}
    for name, entry in given.entries():
        source = entry.node.plain()
        if not _VOLUME.fullmatch(name) or name == "workspace" or name.startswith(OUR_PREFIX):
            raise Wrong(f"cannot have a volume '{name}': use other lower-case letters and digits")
        if not isinstance(source, dict) or not source:
            raise Wrong(
                f"must say what '{name}' is, such as persistentVolumeClaim: {{claimName: x}}"
            )
        found[name] = source
    return found


@dataclass(frozen=True, slots=True)
class PodConfig:
    """How this worker uses its cluster. `owner` is the worker's name, which labels what it
    creates."""

    needs: ClassVar[str] = ".namespace is needed: the namespace in which steps run"
    namespace: str
    owner: Annotated[str, OURS]
    runner_image: Annotated[str, OURS] = DEFAULT_RUNNER_IMAGE
    init_image: str = DEFAULT_INIT_IMAGE
    kubeconfig: Path | None = None  # None: in-cluster credentials, else the usual kubeconfig
    context: str | None = None
    runner_startup_configmap: str | None = None
    image_pull_secrets: tuple[str, ...] = ()
    policy: Annotated[PodPolicy, Key("allow")] = field(default_factory=PodPolicy)
    # parts of every pod, under those of an action's manifest
    manifest: Annotated[Mapping[str, Any], _manifest] = field(default_factory=dict)
    # what actions may mount, by name
    volumes: Annotated[Mapping[str, Mapping[str, Any]], _volumes] = field(default_factory=dict)
    keep_failed_s: float = 0.0  # how long the pod of a failed step stays
    pending_timeout_s: float = 600.0  # from creation to the start of the step's container
    image_timeout_s: float = 300.0  # how long pulling may fail before the step does
    poll_s: float = 2.0  # polling interval without the right to watch
    request_timeout_s: float = 30.0
    outage_s: float = (
        60.0  # how long the API server may be unreachable before the step counts as lost
    )

    # how long a server that has just started may deny everything
    denial_s: Annotated[float, OURS] = 10.0

    @classmethod
    def from_section(
        cls, section: Mapping[str, Any], *, owner: str, runner_image: str | None = None
    ) -> PodConfig:
        """Read the section; unknown keys and wrong values raise AuthorError."""
        runner_image = runner_image or DEFAULT_RUNNER_IMAGE
        return read_section(cls, section, "kubernetes", owner=owner, runner_image=runner_image)
