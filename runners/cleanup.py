"""The program that a guard starts to end the containers and pods of a dead or silent worker.

Reads one JSON object from its standard input: the worker's engine settings, the environment
variables that they need, and the attempts in each place. It is a separate process, started only
when needed: the Docker and Kubernetes clients are too large for a guard that runs beside every
worker.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import Any

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


def describe(config: CatalogConfig) -> str:
    """What `sweep` needs to know about a worker. Without registry credentials: it pulls nothing."""
    docker = None
    if config.docker is not None:
        docker = {key: value for key, value in config.docker.items() if key != "registries"}
    kubernetes = None if config.kubernetes is None else dict(config.kubernetes)
    environment = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
    return json.dumps(
        {
            "owner": config.owner,
            "docker": docker,
            "kubernetes": kubernetes,
            "environment": environment,
        },
        default=str,
    )


def sweep(described: Mapping[str, Any], attempts: Mapping[str, str]) -> None:
    """End the `attempts` (attempt -> place) as the described worker would."""
    os.environ.update(described["environment"])
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
