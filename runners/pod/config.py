"""The `kubernetes:` section of a worker's configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar

from engine.settings.declared import OURS, Key, read_section
from runners.containers.script import DEFAULT_RUNNER_IMAGE
from runners.pod.policy import PodPolicy

DEFAULT_INIT_IMAGE = "curlimages/curl:latest"


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
    pending_timeout_s: float = 600.0  # from creation to the start of the step's container
    image_timeout_s: float = 300.0  # how long pulling may fail before the step does
    poll_s: float = 2.0  # polling interval without the right to watch
    request_timeout_s: float = 30.0
    outage_s: float = (
        60.0  # how long the API server may be unreachable before the step counts as lost
    )

    @classmethod
    def from_section(
        cls, section: Mapping[str, Any], *, owner: str, runner_image: str | None = None
    ) -> PodConfig:
        """Read the section; unknown keys and wrong values raise AuthorError."""
        runner_image = runner_image or DEFAULT_RUNNER_IMAGE
        return read_section(cls, section, "kubernetes", owner=owner, runner_image=runner_image)
