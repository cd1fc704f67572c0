"""The program that a guard starts to end the containers and pods of a dead or silent worker.

Reads one JSON object from its standard input: the worker's engine settings, the environment
variables that they need, and the attempts in each place. It is a separate process, started only
when needed: the Docker and Kubernetes clients are too large for a guard that runs beside every
worker.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from engine.settings.given import Section
from runners.catalog import Catalog, CatalogConfig

ENVIRONMENT = (
    *("HOME", "PATH", "XDG_RUNTIME_DIR", "KUBECONFIG"),
    *("DOCKER_HOST", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH", "DOCKER_CONTEXT", "DOCKER_CONFIG"),
    *(
        "KUBERNETES_SERVICE_HOST",
        "KUBERNETES_SERVICE_PORT",
        "SSL_CERT_FILE",
        "HTTPS_PROXY",
        "NO_PROXY",
    ),
)
_MOST_BYTES = 40_000
# Kubernetes adds seven variables for each service of a namespace
_SERVICE = re.compile(r"_PORT(_|$)|_SERVICE_(HOST|PORT)")


def describe(config: CatalogConfig) -> str:
    """What `sweep` needs to know about a worker. Without registry credentials: it pulls nothing."""
    docker = kubernetes = None
    if config.docker is not None:
        docker = {key: value for key, value in config.docker.items() if key != "registries"}
    if config.kubernetes is not None:
        kubernetes = dict(config.kubernetes)
        if kubernetes.get("kubeconfig"):
            kubernetes["kubeconfig"] = str(_locate(config.kubernetes, kubernetes["kubeconfig"]))
    return json.dumps(
        {
            "owner": config.owner,
            "docker": docker,
            "kubernetes": kubernetes,
            "environment": _choose_environment(os.environ),
            "directory": os.getcwd(),  # variables may hold relative paths
        },
        default=str,
    )


def _locate(section: Mapping[str, Any], path: str) -> Path:
    """As the worker reads it: relative to its configuration."""
    read = section.given.reading.locate if isinstance(section, Section) else Path
    return read(path).expanduser().absolute()


def _choose_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What clients and the credential plugins of a kubeconfig need: the environment without our
    settings, as far as it fits into the guard's pipe."""
    chosen = {name: environ[name] for name in ENVIRONMENT if name in environ}
    room = _MOST_BYTES
    for name, value in sorted(environ.items(), key=lambda item: len(item[1])):
        room -= len(name) + len(value)
        if room > 0 and not name.startswith("STROEM") and not _SERVICE.search(name):
            chosen[name] = value
    return chosen


def sweep(described: Mapping[str, Any], attempts: Mapping[str, str]) -> None:
    """End the `attempts` (attempt -> place) as the described worker would."""
    os.environ.update(described["environment"])
    with suppress(OSError):
        os.chdir(described["directory"])
    config = CatalogConfig(
        described["owner"], docker=described["docker"], kubernetes=described["kubernetes"]
    )
    catalog = Catalog(config)
    for place in sorted(catalog.places & {"docker", "pod"}):
        catalog.abandon(
            place, frozenset(attempt for attempt, its in attempts.items() if its == place)
        )


def main() -> None:
    told = json.load(sys.stdin)
    sweep(told["worker"], told["attempts"])
