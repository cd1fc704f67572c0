"""Steps in Docker containers. What belongs here: everything that speaks to a Docker engine, and
nothing that speaks to the database or the broker. This package alone imports the Docker SDK, and
only a worker that uses it imports this.
"""

from runners.docker.config import DockerConfig, Login
from runners.docker.runner import DockerRunner

__all__ = ["DockerConfig", "DockerRunner", "Login"]
