"""Which cluster a worker uses, and as whom: in-cluster credentials or a kubeconfig."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path
from typing import Any

import yaml
from kubernetes import client
from kubernetes import config as kube_config
from kubernetes.config.kube_config import KubeConfigMerger
from urllib3.connection import HTTPConnection

from runners.pod.answers import ClusterAway
from runners.pod.config import PodConfig

# A connection to a host that vanished is noticed after 25 s instead of never.
_KEEPALIVE = [
    (socket.IPPROTO_TCP, getattr(socket, name), value)
    for name, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3))
    if hasattr(socket, name)
]


def load(config: PodConfig) -> Any:
    """The client's settings. Raises ClusterAway."""
    settings = client.Configuration()
    try:
        if config.kubeconfig is None and config.context is None:
            try:
                kube_config.load_incluster_config(client_configuration=settings)
            except kube_config.ConfigException:
                _load_file(config, settings)
        else:
            _load_file(config, settings)
    except kube_config.ConfigException as error:
        raise ClusterAway(
            f"No credentials for a cluster: neither in-cluster ones nor a kubeconfig ({error})"
        ) from error
    except (yaml.YAMLError, OSError) as error:
        raise ClusterAway(f"The kubeconfig cannot be read: {error}") from error
    settings.retries = False  # patiently() retries
    settings.connection_pool_maxsize = 64
    settings.socket_options = [
        *HTTPConnection.default_socket_options,
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        *_KEEPALIVE,
    ]
    return settings


def _load_file(config: PodConfig, settings: Any) -> None:
    path = str(config.kubeconfig) if config.kubeconfig is not None else None
    plugin = _find_plugin(path, config.context)
    kube_config.load_kube_config(path, context=config.context, client_configuration=settings)
    # the client only logs what went wrong with a plugin
    if plugin is not None and not settings.api_key and not settings.cert_file:
        raise ClusterAway(
            f"The credential plugin {plugin!r} of the kubeconfig gave no credentials; the worker's"
            " log has its message"
        )


def _find_plugin(path: str | None, context: str | None) -> str | None:
    """The program that the kubeconfig gets credentials from, if any. Raises ClusterAway when it is
    not installed."""
    paths = path or os.environ.get("KUBECONFIG") or kube_config.KUBE_CONFIG_DEFAULT_LOCATION
    merged = KubeConfigMerger(paths).config
    if merged is None:
        return None
    used = _pick(merged.value["contexts"], context or merged.value.get("current-context"))
    user = _pick(merged.value["users"], used.value["context"].get("user")) if used else None
    plugin = ((user.value.get("user") or {}).get("exec") or {}) if user is not None else {}
    if user is None or not plugin.get("command"):
        return None
    command = str(plugin["command"])
    # a path counts from its kubeconfig, a bare name is looked for in PATH
    target = Path(user.path).parent / command if "/" in command else command
    if shutil.which(target) is None:
        raise ClusterAway(
            f"The kubeconfig gets its credentials from the program {command!r}, which is not"
            " installed where the worker runs: install it, or correct PATH"
        )
    return command


def _pick(nodes: Any, name: Any) -> Any:
    return next((node for node in nodes if node.value.get("name") == name), None)
