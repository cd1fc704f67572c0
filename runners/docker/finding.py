"""Where the Docker engine is: as the `docker` command would find it, and where rootless engines,
Docker Desktop and Podman have their sockets.

Needs no Docker client: a worker without an engine is not to load one.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runners.docker.errors import EngineGone, explain

SCHEMES = ("unix://", "tcp://", "http://", "https://")
_FORWARD = (
    "forward its socket with `ssh -nNT -L /run/stroem/docker.sock:/var/run/docker.sock HOST` and"
    " set docker.host to unix:///run/stroem/docker.sock"
)
_CONNECT_S = 5.0


@dataclass(frozen=True, slots=True)
class Certificates:
    """PEM files for TLS; without `ca`, what the system trusts counts."""

    certificate: Path | None
    key: Path | None
    ca: Path | None
    is_verified: bool


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`origin` says what named the address."""

    url: str
    origin: str
    certificates: Certificates | None = None

    def __str__(self) -> str:
        return f"{self.url} (from {self.origin})"


def find_endpoint(host: str | None, environ: Mapping[str, str] = os.environ) -> Endpoint:
    """The engine that `host`, the environment or the Docker context names; else the first local
    socket that answers. Raises EngineGone, which says where it looked."""
    if host or environ.get("DOCKER_HOST"):
        origin = "docker.host" if host else "DOCKER_HOST"
        return _check(Endpoint(host or environ["DOCKER_HOST"], origin, _certificates_of(environ)))
    named = _find_context(environ)
    return _check(named) if named is not None else _find_socket(environ)


def find_objection(url: str) -> str | None:
    """Why a worker cannot use this address, or None."""
    if url.startswith("ssh://"):
        return f"cannot be an ssh:// address; {_FORWARD}"
    if not url.startswith(SCHEMES):
        return f"must begin with unix:// or tcp://, not '{url[:60]}'"
    return None


def _check(endpoint: Endpoint) -> Endpoint:
    objection = find_objection(endpoint.url)
    if objection is not None:
        raise EngineGone(f"The Docker engine's address ({endpoint.origin}) {objection}")
    return endpoint


def _certificates_of(environ: Mapping[str, str]) -> Certificates | None:
    """As the `docker` command reads them: any DOCKER_TLS_VERIFY but an empty one verifies."""
    is_verified = bool(environ.get("DOCKER_TLS_VERIFY"))
    folder = environ.get("DOCKER_CERT_PATH")
    if not is_verified and not folder:
        return None
    return _read_folder(Path(folder) if folder else Path("~/.docker").expanduser(), is_verified)


def _read_folder(folder: Path, is_verified: bool) -> Certificates:
    pem = {name: folder / f"{name}.pem" for name in ("cert", "key", "ca")}
    return Certificates(pem["cert"], pem["key"], pem["ca"], is_verified)


def _find_context(environ: Mapping[str, str]) -> Endpoint | None:
    """The engine of the context that DOCKER_CONTEXT or `docker context use` chose."""
    folder = Path(environ.get("DOCKER_CONFIG") or "~/.docker").expanduser()
    chosen = _read_json(folder / "config.json").get("currentContext")
    name = environ.get("DOCKER_CONTEXT") or (chosen if isinstance(chosen, str) else "")
    if name in ("", "default"):
        return None
    label = f"the Docker context '{name}'"
    digest = hashlib.sha256(name.encode()).hexdigest()
    file = folder / "contexts" / "meta" / digest / "meta.json"
    described = _read_json(file)
    try:
        docker = described["Endpoints"]["docker"]
        url = docker["Host"]
    except (KeyError, TypeError):
        raise EngineGone(
            f"The Docker context '{name}' was chosen, but {file} does not describe it; see `docker"
            " context ls`"
        ) from None
    return Endpoint(str(url), label, _context_certificates(folder, digest, docker))


def _context_certificates(
    folder: Path, digest: str, docker: Mapping[str, Any]
) -> Certificates | None:
    stored = folder / "contexts" / "tls" / digest / "docker"
    is_verified = not docker.get("SkipTLSVerify")
    if not stored.is_dir():
        return None if is_verified else Certificates(None, None, None, False)
    found = {name: stored / f"{name}.pem" for name in ("cert", "key", "ca")}
    cert, key, ca = (path if path.exists() else None for path in found.values())
    return Certificates(cert, key, ca, is_verified)


def _read_json(file: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def list_sockets(environ: Mapping[str, str] = os.environ) -> Iterator[Path]:
    """Where engines have their sockets: Docker, rootless Docker, Docker Desktop, Podman."""
    home = Path(environ.get("HOME") or "~").expanduser()
    runtime = Path(environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}")
    yield Path("/var/run/docker.sock")
    yield runtime / "docker.sock"
    yield home / ".docker" / "desktop" / "docker.sock"
    yield home / ".docker" / "run" / "docker.sock"
    yield runtime / "podman" / "podman.sock"
    yield Path("/run/podman/podman.sock")


def _find_socket(environ: Mapping[str, str]) -> Endpoint:
    looked: list[str] = []
    for path in list_sockets(environ):
        problem = _try(path)
        if problem is None:
            return Endpoint(f"unix://{path}", "the sockets of this host")
        looked.append(f"{path}: {problem}")
    raise EngineGone(
        "No Docker engine was found: docker.host and DOCKER_HOST are not set, no Docker context is"
        f" chosen, and no socket answers ({'; '.join(looked)})"
    )


def _try(path: Path) -> str | None:
    """Why nobody can be reached at this socket, or None."""
    if not os.path.lexists(path):
        return "does not exist"
    with socket.socket(socket.AF_UNIX) as trial:
        trial.settimeout(_CONNECT_S)
        try:
            trial.connect(str(path))
        except OSError as error:
            return re.sub(r";.*", "", explain(error))
    return None
