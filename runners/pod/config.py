"""The `kubernetes:` section of a worker's configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.errors import AuthorError
from runners.containers.script import DEFAULT_RUNNER_IMAGE
from runners.pod.policy import PodPolicy

DEFAULT_INIT_IMAGE = "curlimages/curl:latest"


@dataclass(frozen=True, slots=True)
class PodConfig:
    """How this worker uses its cluster. `owner` is the worker's own name: leftovers are told apart
    by it."""

    namespace: str
    owner: str
    runner_image: str = DEFAULT_RUNNER_IMAGE
    init_image: str = DEFAULT_INIT_IMAGE
    kubeconfig: Path | None = None  # None: in-cluster credentials, else the usual kubeconfig
    context: str | None = None
    runner_startup_configmap: str | None = None
    image_pull_secrets: tuple[str, ...] = ()
    policy: PodPolicy = field(default_factory=PodPolicy)
    pending_timeout_s: float = 600.0  # from creation to the start of the step's container
    image_timeout_s: float = 300.0  # how long pulling may fail before the step does
    poll_s: float = 2.0  # without the right to watch
    request_timeout_s: float = 30.0
    outage_s: float = 60.0  # how long the API server may be away before the step counts as lost

    @classmethod
    def from_section(
        cls, section: Mapping[str, Any], *, owner: str, runner_image: str | None = None
    ) -> PodConfig:
        """Read the section; unknown keys and wrong values are refused with a sentence."""
        given = dict(section)
        if not isinstance(given.get("namespace"), str) or not given["namespace"]:
            raise AuthorError("kubernetes.namespace is needed: the namespace in which steps run")
        known = set(cls.__dataclass_fields__) - {"owner", "runner_image", "policy"} | {"allow"}
        for key in given:
            if key not in known:
                raise AuthorError(
                    f"kubernetes.{key} is not a setting; known are {', '.join(sorted(known))}"
                )
        policy = _read_policy(given.pop("allow", None) or {})
        if given.get("kubeconfig") is not None:
            given["kubeconfig"] = Path(given["kubeconfig"])
        if "image_pull_secrets" in given:
            given["image_pull_secrets"] = tuple(given["image_pull_secrets"])
        return cls(
            owner=owner, runner_image=runner_image or DEFAULT_RUNNER_IMAGE, policy=policy, **given
        )


def _read_policy(section: Mapping[str, Any]) -> PodPolicy:
    """`kubernetes.allow`: what authors may ask for beyond the default."""
    kinds: dict[str, Any] = {
        "privileged": bool,
        "privilege_escalation": bool,
        "host_namespaces": bool,
        "capabilities": frozenset,
        "host_paths": tuple,
        "service_accounts": frozenset,
        "secrets": frozenset,
        "fields": frozenset,
    }
    for key, value in section.items():
        if key not in kinds:
            raise AuthorError(
                f"kubernetes.allow.{key} is not a setting; known are {', '.join(sorted(kinds))}"
            )
        if isinstance(value, bool) is not (kinds[key] is bool) or isinstance(value, str):
            wanted = "true or false" if kinds[key] is bool else "a list"
            raise AuthorError(f"kubernetes.allow.{key} must be {wanted}")
    return PodPolicy(**{key: kinds[key](value) for key, value in section.items()})
