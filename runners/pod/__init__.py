"""Steps in Kubernetes pods. What belongs here: everything that speaks to an API server, and nothing
that speaks to the database or the broker. This package alone imports the Kubernetes client, and
only a worker that uses it does.
"""

from runners.pod.config import PodConfig
from runners.pod.runner import PodRunner

__all__ = ["PodConfig", "PodRunner"]
