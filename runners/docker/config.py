"""The `docker:` section of a worker's configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from engine.errors import AuthorError
from runners.containers.script import DEFAULT_RUNNER_IMAGE

Pull = Literal["missing", "always", "never"]
Sharing = Literal["auto", "bind", "copy"]

# What images commonly need while they still run as root; everything else is dropped.
BASE_CAPABILITIES = (
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "NET_BIND_SERVICE",
    "SETGID",
    "SETUID",
)


@dataclass(frozen=True, slots=True)
class Login:
    """Credentials for one registry, by its host name."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class DockerConfig:
    """How this worker uses its engine. `owner` is the worker's own name: leftovers are told apart
    by it."""

    owner: str
    runner_image: str = DEFAULT_RUNNER_IMAGE
    host: str | None = None  # None: DOCKER_HOST, else the local socket
    pull: Pull = "missing"
    sharing: Sharing = "auto"  # how /workspace gets there: bind mount, copy, or whichever works
    registries: Mapping[str, Login] = field(default_factory=dict)
    network: str | None = None  # a network of the engine, by name; never the host's
    extra_hosts: Mapping[str, str] = field(default_factory=dict)
    capabilities: tuple[str, ...] = BASE_CAPABILITIES
    pids_limit: int = 4096
    log_driver: str = "json-file"
    keep_cache: bool = True  # a volume for each workspace with what package managers downloaded
    startup_dir: Path = Path("/etc/stroem/startup.d")
    engine_grace_s: float = 20.0  # how long an engine may be away before the step counts as lost

    @classmethod
    def from_section(
        cls, section: Mapping[str, Any] | None, *, owner: str, runner_image: str | None = None
    ) -> DockerConfig:
        """Read the section; unknown keys and wrong values are refused with a sentence."""
        given = dict(section or {})
        logins = _read_logins(given.pop("registries", None) or {})
        known = {
            name
            for name in cls.__dataclass_fields__
            if name not in {"owner", "runner_image", "registries"}
        }
        for key in given:
            if key not in known:
                raise AuthorError(
                    f"docker.{key} is not a setting; known are"
                    f" {', '.join(sorted(known | {'registries'}))}"
                )
        for key, allowed in (
            ("pull", ("missing", "always", "never")),
            ("sharing", ("auto", "bind", "copy")),
        ):
            if given.get(key, allowed[0]) not in allowed:
                raise AuthorError(f"docker.{key} must be one of {', '.join(allowed)}")
        if str(given.get("network") or "") == "host" or str(given.get("network") or "").startswith(
            "container:"
        ):
            raise AuthorError(
                "docker.network must be a network of the engine; steps never share the host's"
                " network"
            )
        if "startup_dir" in given:
            given["startup_dir"] = Path(given["startup_dir"])
        if "capabilities" in given:
            given["capabilities"] = tuple(given["capabilities"])
        return cls(
            owner=owner,
            runner_image=runner_image or DEFAULT_RUNNER_IMAGE,
            registries=logins,
            **given,
        )


def _read_logins(section: Any) -> dict[str, Login]:
    logins = {}
    for registry, entry in cast(Mapping[str, Any], section).items():
        if not isinstance(entry, Mapping) or "username" not in entry:
            raise AuthorError(
                f"docker.registries.{registry} needs username, and password or password_file"
            )
        password = entry.get("password")
        if password is None and "password_file" in entry:
            password = Path(str(entry["password_file"])).read_text(encoding="utf-8").strip()
        if password is None:
            raise AuthorError(
                f"docker.registries.{registry} needs username, and password or password_file"
            )
        logins[str(registry)] = Login(str(entry["username"]), str(password))
    return logins
