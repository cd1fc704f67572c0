"""The `docker:` section of a worker's configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from engine.errors import PlatformError
from engine.settings.declared import OURS, each, read_section, section
from engine.settings.given import Given, Wrong
from engine.settings.readers import text
from runners.containers.script import DEFAULT_RUNNER_IMAGE
from runners.docker.finding import find_objection

# What images that start as root commonly need; everything else is dropped.
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

    needs: ClassVar[str] = " needs username, and password or password_file"
    username: str
    password: str | None = field(default=None, repr=False)
    password_file: Path | None = None

    def find_objection(self) -> str | None:
        return self.needs.strip() if self.password is None and self.password_file is None else None

    def read_password(self) -> str:
        """Read anew for each pull: registries of clouds replace it every few hours. Raises
        PlatformError."""
        if self.password is not None or self.password_file is None:
            return self.password or ""
        try:
            return self.password_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            raise PlatformError(
                f"the registry's password_file {self.password_file} cannot be read"
            ) from None


def _login(given: Given) -> Login:
    login: Login = section(Login)(given)
    try:
        login.read_password()
    except PlatformError:
        raise Wrong(f"names {login.password_file}, which cannot be read") from None
    return login


def _absolute(given: Given) -> str:
    path = text(given).strip()
    if not path.startswith("/"):
        raise Wrong("must be an absolute path on the engine's host")
    return path


@dataclass(frozen=True, slots=True)
class NamedVolume:
    """What authors get under its name: a volume of the engine, or a directory of its host."""

    needs: ClassVar[str] = " needs volume or path, not both"
    volume: str | None = None
    path: Annotated[str | None, _absolute] = None  # on the engine's host
    read_only: bool = False

    def find_objection(self) -> str | None:
        return self.needs.strip() if (self.volume is None) == (self.path is None) else None


def _host(given: Given) -> str:
    host = text(given).strip()
    objection = find_objection(host)
    if objection is not None:
        raise Wrong(objection)
    return host


def _network(given: Given) -> str:
    network = text(given)
    if network == "host" or network.startswith("container:"):
        raise Wrong("must be a network of the engine; steps never share the host's network")
    return network


@dataclass(frozen=True, slots=True)
class DockerConfig:
    """How this worker uses its engine. `owner` is the worker's name, which labels what it
    creates."""

    owner: Annotated[str, OURS]
    runner_image: Annotated[str, OURS] = DEFAULT_RUNNER_IMAGE
    # None: DOCKER_HOST, else the Docker context, else the first local socket that answers
    host: Annotated[str | None, _host] = None
    pull: Literal["missing", "always", "never"] = "missing"
    # how /workspace gets there: bind mount, copy, or whichever works
    sharing: Literal["auto", "bind", "copy"] = "auto"
    registries: Annotated[Mapping[str, Login], each(_login)] = field(default_factory=dict)
    # a network of the engine, by name; never the host's
    network: Annotated[str | None, _network] = None
    extra_hosts: Mapping[str, str] = field(default_factory=dict)
    # what authors may mount, by the name that they use
    volumes: Mapping[str, NamedVolume] = field(default_factory=dict)
    capabilities: tuple[str, ...] = BASE_CAPABILITIES
    pids_limit: int = 4096
    log_driver: str = "json-file"
    keep_cache: bool = True  # one volume per workspace for downloads of package managers
    startup_dir: Path = Path("/etc/stroem/startup.d")
    engine_grace_s: float = (
        20.0  # how long the engine may be unreachable before the step counts as lost
    )

    @classmethod
    def from_section(
        cls, section: Mapping[str, Any] | None, *, owner: str, runner_image: str | None = None
    ) -> DockerConfig:
        """Read the section; unknown keys and wrong values raise AuthorError."""
        runner_image = runner_image or DEFAULT_RUNNER_IMAGE
        return read_section(cls, section, "docker", owner=owner, runner_image=runner_image)
