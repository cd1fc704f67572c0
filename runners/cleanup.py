"""The program with which a guard ends containers and pods of a worker that died or fell silent.

Reads one JSON object from its standard input: the worker's settings for its engines, the part of
its environment that leads to them, and the attempts of each place. It is a process of its own,
started when it is needed: the clients of Docker and Kubernetes are too large for a guard that waits
beside every worker.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import Any

from runners.catalog import Catalog, CatalogConfig

ENVIRONMENT = (
    *("HOME", "PATH", "DOCKER_HOST", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH", "KUBECONFIG"),
    *(
        "KUBERNETES_SERVICE_HOST",
        "KUBERNETES_SERVICE_PORT",
        "SSL_CERT_FILE",
        "HTTPS_PROXY",
        "NO_PROXY",
    ),
)


def describe(config: CatalogConfig) -> str:
    """What `sweep` needs to know of a worker. Without credentials of registries: nothing is pulled
    any more."""
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
    """End the `attempts`, attempt to place, as the worker that `describe` told of would."""
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
