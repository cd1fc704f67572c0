"""A Docker engine, for MCP servers in containers."""

from __future__ import annotations

from tests.runners.docker.engine import base_image, docker_engine

__all__ = ["base_image", "docker_engine"]
